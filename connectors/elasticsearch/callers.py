"""The search API's callers, in an index of their own. Read by id: a revocation counts at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from elasticsearch import AsyncElasticsearch, NotFoundError

from connectors.elasticsearch.mapped import mapped
from connectors.elasticsearch.server import Server, connected, create_index
from schemas.callers import CALLERS_INDEX, CallerRecord

_KEYWORD = {"type": "keyword"}
_DATE = {"type": "date", "format": "epoch_millis"}
_MAPPINGS: dict[str, Any] = {
    "dynamic": False,
    "properties": {"caller_id": _KEYWORD, "created_at": _DATE},
}
# More callers than this are people, and people sign in with their issuer.
_MAX_LISTED = 10_000


class Callers:
    """Reads and writes caller records."""

    def __init__(self, client: AsyncElasticsearch) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, elasticsearch: Server | str) -> AsyncIterator[Callers]:
        """A connection, closed at the end."""
        async with connected(elasticsearch) as client:
            yield cls(client)

    async def get(self, caller_id: str) -> CallerRecord | None:
        """The caller as he stands now. Raises UnavailableError."""
        with mapped():
            try:
                found = await self._client.get(index=CALLERS_INDEX, id=caller_id)
            except NotFoundError:  # no such caller, or no caller at all
                return None
        return CallerRecord.model_validate(found["_source"])

    async def put(self, record: CallerRecord) -> None:
        """Write a caller, the index too where this is the first. Raises UnavailableError."""
        with mapped():
            await create_index(
                self._client,
                index=CALLERS_INDEX,
                mappings=_MAPPINGS,
                settings={"number_of_shards": 1, "number_of_replicas": 0},
            )
            await self._client.index(
                index=CALLERS_INDEX, id=record.caller_id, document=record.model_dump(), refresh=True
            )

    async def all(self) -> list[CallerRecord]:
        """Every caller, the newest first. Raises UnavailableError."""
        with mapped():
            try:
                found = await self._client.search(
                    index=CALLERS_INDEX, size=_MAX_LISTED, sort=[{"created_at": "desc"}]
                )
            except NotFoundError:
                return []
        return [CallerRecord.model_validate(hit["_source"]) for hit in found["hits"]["hits"]]
