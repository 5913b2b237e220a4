"""The content cache: what was derived from bytes, kept for hours, under keys that nobody else can compute.

An index of its own that no search can look into. Entries are read by id and carry their end; what has ended
is removed from time to time, because not every server has the means to do that by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from elasticsearch import AsyncElasticsearch, NotFoundError

from connectors.elasticsearch.mapped import mapped
from connectors.elasticsearch.server import Server, create_index, server
from connectors.errors import MailstreamError
from schemas import mapping
from schemas.events import now_milliseconds

log = logging.getLogger(__name__)

# It must cost less than what it saves: a server that takes longer is treated as one that is away.
REQUEST_TIMEOUT_SECONDS = 5
CLEAN_SECONDS = 600
MAX_LIFETIME_SECONDS = 24 * 3600.0
_PAGE = 1_000


class ContentCache:
    """Entries by key: JSON objects of any form, gone after ``lifetime_seconds``, a day at most."""

    def __init__(self, client: AsyncElasticsearch, lifetime_seconds: float) -> None:
        self._client = client
        self._lifetime_milliseconds = int(min(lifetime_seconds, MAX_LIFETIME_SECONDS) * 1000)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, elasticsearch: Server | str, lifetime_seconds: float = MAX_LIFETIME_SECONDS
    ) -> AsyncIterator[ContentCache]:
        """A connection, closed at the end; while it is open, entries that have ended are removed."""
        client = server(elasticsearch).client(request_timeout=REQUEST_TIMEOUT_SECONDS, max_retries=0)
        cache = cls(client, lifetime_seconds)
        cleaning = asyncio.create_task(cache._clean())
        try:
            yield cache
        finally:
            cleaning.cancel()
            with suppress(asyncio.CancelledError):
                await cleaning
            await client.close()

    async def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The entries that exist and have not ended, by key. Raises UnavailableError."""
        if not keys:
            return {}
        with mapped():
            try:
                response = await self._client.mget(index=mapping.CACHE_ALIAS, ids=list(keys))
            except NotFoundError:
                return {}
        now = now_milliseconds()
        return {
            hit["_id"]: hit["_source"]["entry"]
            for hit in response["docs"]
            if hit.get("found") and hit["_source"]["expires_at"] > now
        }

    async def put(self, entries: Mapping[str, Any]) -> None:
        """Keep entries. Raises UnavailableError; a single entry that the server refuses is left out."""
        if not entries:
            return
        expires_at = now_milliseconds() + self._lifetime_milliseconds
        operations: list[Mapping[str, Any]] = []
        for key, entry in entries.items():
            operations += [{"index": {"_id": key}}, {"entry": entry, "expires_at": expires_at}]
        if await self._bulk(operations):
            await self.ensure()
            await self._bulk(operations)

    async def _bulk(self, operations: Sequence[Mapping[str, Any]]) -> bool:
        """Write; returns whether the index is missing."""
        # Without its alias the server would invent an index of that name, and one that can be searched.
        with mapped():
            response = await self._client.bulk(
                index=mapping.CACHE_ALIAS, operations=operations, require_alias=True
            )
        return any(item.get("status") == 404 for row in response["items"] for item in row.values())

    async def ensure(self) -> None:
        """Create the index where it is missing. Safe to call from several workers."""
        with mapped():
            await create_index(
                self._client,
                index=mapping.CACHE_INDEX,
                settings=mapping.CACHE_SETTINGS,
                mappings=mapping.CACHE_MAPPINGS,
                aliases={mapping.CACHE_ALIAS: {}},
            )

    async def forget_ended(self, within_seconds: float = 0.0) -> int:
        """Remove what has ended or ends ``within_seconds``; how many that were. Raises UnavailableError."""
        until = now_milliseconds() + int(within_seconds * 1000)
        forgotten = 0
        while True:
            with mapped():
                await self._client.indices.refresh(index=mapping.CACHE_ALIAS, ignore_unavailable=True)
                response = await self._client.search(
                    index=mapping.CACHE_ALIAS,
                    ignore_unavailable=True,
                    query={"range": {"expires_at": {"lte": until}}},
                    size=_PAGE,
                    source=False,
                )
                ids = [hit["_id"] for hit in response["hits"]["hits"]]
                if not ids:
                    break
                operations = [{"delete": {"_id": key}} for key in ids]
                await self._client.bulk(index=mapping.CACHE_ALIAS, operations=operations, require_alias=True)
            forgotten += len(ids)
        if forgotten:
            with mapped():
                # What is deleted stays in the server's files until they are merged.
                await self._client.indices.forcemerge(
                    index=mapping.CACHE_ALIAS, only_expunge_deletes=True, wait_for_completion=False
                )
        return forgotten

    async def forget_all(self) -> None:
        """Remove every entry, of all mailboxes, from the server's files too. Raises UnavailableError."""
        with mapped():
            await self._client.indices.delete(index=mapping.CACHE_INDEX, ignore_unavailable=True)

    async def _clean(self) -> None:
        while True:
            try:
                # With what ends before the next round: nothing stands longer than it may.
                await self.forget_ended(within_seconds=CLEAN_SECONDS)
            except MailstreamError as error:
                log.debug("the content cache is not cleaned now: %s", error)
            await asyncio.sleep(CLEAN_SECONDS)
