"""The versions of the mail index: made, filled beside the live one, put in its place, removed.

``mail-v000001`` and so on; the one that the aliases name is live. What a version was made with (mapping,
vectors, encoder) stands in its mapping's ``_meta``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from elasticsearch import AsyncElasticsearch

from connectors.elasticsearch.bulk import BulkSink
from connectors.elasticsearch.index import PACKED_VECTORS_SINCE, Index, oldest_version, suited_template
from connectors.elasticsearch.mapped import mapped
from connectors.elasticsearch.server import Server, connected
from connectors.elasticsearch.vectors import Vectors
from connectors.errors import UnavailableError
from schemas import mapping

_DELETES_A_BULK = 500


@dataclass(frozen=True, slots=True)
class Version:
    """One index by its name. ``uuid`` tells it from another that had the same name."""

    name: str
    uuid: str
    live: bool
    encoder: str | None  # whose vectors it holds; None: nobody noted it
    mapping_version: int | None
    vectors_version: int | None

    @property
    def number(self) -> int:
        """The version's number."""
        return int(self.name.removeprefix(mapping.INDEX_PREFIX))


class Versions:
    """The versions on a server."""

    def __init__(self, client: AsyncElasticsearch) -> None:
        self._client = client
        self._sink = BulkSink(client)

    @classmethod
    @asynccontextmanager
    async def open(cls, elasticsearch: Server | str) -> AsyncIterator[Versions]:
        """A connection, closed at the end."""
        async with connected(elasticsearch) as client:
            versions = cls(client)
            with mapped():
                versions._sink.packed_vectors = await oldest_version(client) >= PACKED_VECTORS_SINCE
            yield versions

    async def all(self) -> list[Version]:
        """Every version there is, the oldest first."""
        with mapped():
            answer = await self._client.indices.get(index=f"{mapping.INDEX_PREFIX}*")
        found = []
        for name, described in answer.items():
            meta = described["mappings"].get("_meta", {})
            found.append(
                Version(
                    name,
                    described["settings"]["index"]["uuid"],
                    mapping.WRITE_ALIAS in described["aliases"],
                    meta.get("encoder"),
                    meta.get("version"),
                    meta.get("vectors"),
                )
            )
        return sorted(found, key=lambda version: version.number)

    async def create(self, encoder: str, analyzer: str = "english") -> Version:
        """A further version, empty and behind no alias. It is not refreshed until ``finish``: filling is
        faster so."""
        numbers = [version.number for version in await self.all()]
        name = mapping.index_name(max(numbers, default=0) + 1)
        with mapped():
            template = await suited_template(self._client, analyzer, encoder)
            template["settings"]["refresh_interval"] = "-1"
            await self._client.indices.create(index=name, **template)
        return next(version for version in await self.all() if version.name == name)

    async def finish(self, version: Version) -> None:
        """Make everything written visible, now and from now on."""
        shown = {"index.refresh_interval": mapping.SETTINGS["refresh_interval"]}
        with mapped():
            await self._client.indices.put_settings(index=version.name, settings=shown)
            await self._client.indices.refresh(index=version.name)

    async def drop(self, version: Version) -> None:
        """Remove a version with everything in it."""
        with mapped():
            await self._client.indices.delete(index=version.name)

    @asynccontextmanager
    async def held(self, version: Version) -> AsyncIterator[None]:
        """Inside, nobody writes to the version: writes under way are waited for, others are refused and
        come again (see ``Index``)."""
        try:
            with mapped():
                await self._client.indices.add_block(index=version.name, block="write")
            yield
        finally:
            await self.release(version)

    async def release(self, version: Version) -> None:
        """Let writes in again; also after a process that held the version and died."""
        with mapped():
            await self._client.indices.put_settings(index=version.name, settings={"index.blocks.write": None})

    async def put_in_place(self, new: Version, old: Version | None) -> None:
        """Move both aliases to ``new`` in one step. Raises UnavailableError when not all nodes know of it."""
        aliases: list[dict[str, Any]] = [{"alias": mapping.READ_ALIAS}]
        aliases.append({"alias": mapping.WRITE_ALIAS, "is_write_index": True})
        actions = [{"add": {"index": new.name, **alias}} for alias in aliases]
        if old is not None:
            actions += [{"remove": {"index": old.name, "alias": alias["alias"]}} for alias in aliases]
        with mapped():
            answer = await self._client.indices.update_aliases(actions=actions)
        if not answer["acknowledged"]:
            raise UnavailableError("Elasticsearch did not confirm in time that the aliases have moved")

    def index(self, version: Version) -> Index:
        """The version as an index to read and write."""
        return Index(self._client, version.name, self._sink)

    def vectors(self, version: Version) -> Vectors:
        """The vectors that the version holds."""
        return Vectors(self._client, version.name)

    async def sample(self, version: Version, size: int) -> list[str]:
        """The ids of some live documents, picked by chance: runs of ten from places of their own."""
        index = self.index(version)

        async def run() -> set[str]:
            behind = {"range": {"message_key": {"gte": secrets.token_hex(16)}}}
            answer = await index.search(
                {
                    "query": {"bool": {"filter": [{"term": {"live": True}}, behind]}},
                    "size": 10,
                    "sort": [{"message_key": "asc"}, {"part_path": "asc"}],
                    "source": False,
                }
            )
            return {hit["_id"] for hit in answer["hits"]["hits"]}

        return sorted(set().union(*await asyncio.gather(*(run() for _ in range(-(-size // 10))))))

    async def delete_documents(self, version: Version, query: Mapping[str, Any]) -> int:
        """Delete what matches, as of now; returns how many documents."""
        index = self.index(version)
        await index.refresh()
        ids = [document["_id"] async for document in index.scan(query, ["kind"])]
        for start in range(0, len(ids), _DELETES_A_BULK):
            await self._delete(version, ids[start : start + _DELETES_A_BULK])
        await index.refresh()
        return len(ids)

    async def _delete(self, version: Version, ids: Sequence[str]) -> None:
        operations = [{"delete": {"_id": document}} for document in ids]
        with mapped():
            answer = await self._client.bulk(index=version.name, operations=operations)
        refused = [item for item in answer["items"] if "error" in item["delete"]]
        if refused:
            await asyncio.sleep(1)  # most likely it is held, or overloaded: the caller comes again
            raise UnavailableError(f"{version.name} did not take {len(refused)} deletions: try again")

    async def expunge(self, version: Version) -> int:
        """Rewrite the segments that hold deleted documents; returns how many are still in them.

        The server keeps the newest deletions for a follower that may come (retention leases, renewed every 30
        seconds); what is left now goes with a later call, or with the server's own merges.
        """
        with mapped():
            await self._client.indices.flush(index=version.name, force=True)
            # Without this, segments with up to a tenth of deleted documents are left alone.
            await self._client.indices.put_settings(
                index=version.name, settings={"index.merge.policy.expunge_deletes_allowed": 0}
            )
            await self._client.indices.forcemerge(index=version.name, only_expunge_deletes=True)
            await self._client.indices.flush(index=version.name, force=True)
            answer = await self._client.indices.stats(index=version.name, metric="docs")
        return int(answer["_all"]["total"]["docs"]["deleted"])
