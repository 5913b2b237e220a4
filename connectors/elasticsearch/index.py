"""The mail index: its aliases, real-time reads by id, compare-and-set bulk writes, search."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError

from connectors.elasticsearch.mapped import BUSY, MISSING, NO_INDEX, mapped
from connectors.errors import (
    ConfigurationError,
    ConflictError,
    MailstreamError,
    RejectedDocumentError,
    UnavailableError,
)
from schemas import mapping

log = logging.getLogger(__name__)

# One bulk request stays well below the server's 100 MB limit, and small enough to be parsed quickly.
MAX_BULK_BYTES = 8 * 1024 * 1024
MAX_BULK_OPERATIONS = 500
# How long a bulk's 429 items are tried again before the caller hears that the server is overloaded.
BUSY_RETRIES = 6
REQUEST_TIMEOUT_SECONDS = 60

_CONFLICT = 409


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as it stands: the source fields asked for, and the version to compare with on writing."""

    source: Mapping[str, Any]
    seq_no: int
    primary_term: int


@dataclass(frozen=True, slots=True)
class Write:
    """One compare-and-set write. ``expected`` None: the document must not exist yet.

    ``partial`` merges the fields into the document and leaves the others, vectors included, as they are.
    """

    document_id: str
    fields: Mapping[str, Any]
    expected: Stored | None = None
    partial: bool = False
    size_bytes: int = field(default=1024)  # roughly, for the bulk's limit


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[AsyncElasticsearch]:
    """A client, closed at the end. The server is first asked when it is first used."""
    client = AsyncElasticsearch(url, request_timeout=REQUEST_TIMEOUT_SECONDS, retry_on_timeout=False)
    try:
        yield client
    finally:
        await client.close()


class Index:
    """The mail index behind its aliases."""

    def __init__(self, client: AsyncElasticsearch) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Index]:
        """A connection, closed at the end. The server is first asked when it is first used."""
        async with connect(url) as client:
            yield cls(client)

    async def ensure(self) -> None:
        """Create the index and its aliases where they are missing. Safe to call from several workers."""
        with mapped():
            if await self._client.indices.exists_alias(name=mapping.WRITE_ALIAS):
                return
            analyzer = await self._analyzer()
            log.info("creating index %s with the analyzer %s", mapping.index_name(), analyzer)
            try:
                await self._client.indices.create(
                    index=mapping.index_name(),
                    settings=mapping.settings(),
                    mappings=mapping.mappings(analyzer),
                    aliases={mapping.READ_ALIAS: {}, mapping.WRITE_ALIAS: {"is_write_index": True}},
                )
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise

    async def _analyzer(self) -> str:
        try:
            await self._client.indices.analyze(analyzer="english", text="probe")
        except BadRequestError:
            # Small distributions come without the language analyzers.
            return "standard"
        return "english"

    async def read(self, document_ids: Sequence[str], fields: Sequence[str]) -> dict[str, Stored]:
        """The documents that exist, by id, as of this moment (not of the last refresh)."""
        if not document_ids:
            return {}
        with mapped():
            response = await self._client.mget(
                index=mapping.WRITE_ALIAS, ids=list(document_ids), source_includes=list(fields)
            )
        return {
            hit["_id"]: Stored(hit.get("_source", {}), hit["_seq_no"], hit["_primary_term"])
            for hit in response["docs"]
            if hit.get("found")
        }

    async def write(self, writes: Sequence[Write]) -> list[MailstreamError | None]:
        """Write everything; one result a write, None where it stands.

        A result is ConflictError (somebody was first: read, merge, write again) or RejectedDocumentError.
        Raises UnavailableError when the server does not take the writes; some may stand then.
        """
        results: list[MailstreamError | None] = []
        batch: list[Write] = []
        size_bytes = 0
        for write in writes:
            if batch and (
                size_bytes + write.size_bytes > MAX_BULK_BYTES or len(batch) >= MAX_BULK_OPERATIONS
            ):
                results += await self._bulk(batch)
                batch, size_bytes = [], 0
            batch.append(write)
            size_bytes += write.size_bytes
        if batch:
            results += await self._bulk(batch)
        return results

    async def _bulk(self, writes: Sequence[Write]) -> list[MailstreamError | None]:
        results: list[MailstreamError | None] = [None] * len(writes)
        waiting = list(range(len(writes)))
        for attempt in range(BUSY_RETRIES + 1):
            items = await self._bulk_items([writes[position] for position in waiting])
            busy = []
            for position, item in zip(waiting, items, strict=True):
                status = item["status"]
                if status in BUSY:
                    busy.append(position)
                elif status == _CONFLICT:
                    results[position] = ConflictError(f"document {writes[position].document_id} changed")
                elif status == MISSING and item["error"]["type"] == "document_missing_exception":
                    # A partial write to what somebody has removed: to be read again, like any conflict.
                    results[position] = ConflictError(f"document {writes[position].document_id} is gone")
                elif status == MISSING:
                    raise ConfigurationError(NO_INDEX)
                elif "error" in item:
                    results[position] = RejectedDocumentError(_reason(item["error"]))
            if not busy:
                return results
            waiting = busy
            await asyncio.sleep(0.2 * 2**attempt)
        raise UnavailableError("Elasticsearch is overloaded: it keeps refusing writes (429)")

    async def _bulk_items(self, writes: Sequence[Write]) -> list[dict[str, Any]]:
        operations: list[Mapping[str, Any]] = []
        for write in writes:
            target: dict[str, Any] = {"_id": write.document_id}
            if write.expected is not None:
                target["if_seq_no"] = write.expected.seq_no
                target["if_primary_term"] = write.expected.primary_term
            if write.partial:
                operations += [{"update": target}, {"doc": write.fields}]
            else:
                operations += [{"create" if write.expected is None else "index": target}, write.fields]
        with mapped():
            try:
                # Without its alias the server would invent an index of the alias's name, with a mapping of
                # its own.
                response = await self._client.bulk(
                    index=mapping.WRITE_ALIAS, operations=operations, require_alias=True
                )
            except ApiError as error:
                if error.meta.status in BUSY:
                    return [{"status": error.meta.status} for _ in writes]
                if error.meta.status == 413:
                    return await self._halves(writes)
                raise
        return [next(iter(item.values())) for item in response["items"]]

    async def _halves(self, writes: Sequence[Write]) -> list[dict[str, Any]]:
        if len(writes) == 1:
            return [{"status": 413, "error": {"type": "too_large", "reason": "larger than a request may be"}}]
        middle = len(writes) // 2
        return await self._bulk_items(writes[:middle]) + await self._bulk_items(writes[middle:])

    async def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Run a search on the read alias. Raises ConfigurationError when the index does not exist."""
        with mapped():
            response = await self._client.search(index=mapping.READ_ALIAS, **body)
        return dict(response.body)

    async def count(self, query: Mapping[str, Any]) -> int:
        """How many documents match, as of the last refresh."""
        with mapped():
            response = await self._client.count(index=mapping.READ_ALIAS, query=dict(query))
        return int(response["count"])

    async def refresh(self) -> None:
        """Make everything written so far visible to searches."""
        with mapped():
            await self._client.indices.refresh(index=mapping.WRITE_ALIAS)

    async def scan(self, query: Mapping[str, Any], fields: Sequence[str]) -> AsyncIterator[dict[str, Any]]:
        """Every matching document's id and fields, in the order of the ids' storage, page by page."""
        after: list[Any] | None = None
        while True:
            body: dict[str, Any] = {
                "query": dict(query),
                "size": 500,
                "sort": [{"message_key": "asc"}, {"part_path": "asc"}],
                "source_includes": list(fields),
            }
            if after is not None:
                body["search_after"] = after
            hits = (await self.search(body))["hits"]["hits"]
            for hit in hits:
                yield {"_id": hit["_id"], **hit["_source"]}
            if not hits:
                return
            after = hits[-1]["sort"]


def _reason(error: Mapping[str, Any]) -> str:
    cause = error.get("caused_by") or {}
    # The type alone: reasons quote field values, and values are private.
    return " ".join(filter(None, (str(error.get("type", "")), str(cause.get("type", "")))))
