"""The mail index: its aliases, real-time reads by id, compare-and-set bulk writes, search."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError

from connectors.elasticsearch.documents import Stored, Write
from connectors.elasticsearch.mapped import mapped
from connectors.elasticsearch.server import Server, connected, create_index
from connectors.errors import ConfigurationError, MailstreamError, UnavailableError
from schemas import mapping

if TYPE_CHECKING:
    from connectors.elasticsearch.bulk import BulkSink

log = logging.getLogger(__name__)

# The first version that takes vectors as base64 of big-endian floats.
PACKED_VECTORS_SINCE = (9, 3)
# The one in which small segments were seen to do without a graph of their vectors.
FLAT_SEGMENTS_SINCE = (9, 5)
# The first that leaves vectors out of the source, unless it is told not to.
SOURCES_WITHOUT_VECTORS_SINCE = (9, 2)


class Index:
    """The mail index: by ``name``, or, without one, behind its aliases."""

    def __init__(
        self, client: AsyncElasticsearch, name: str | None = None, sink: BulkSink | None = None
    ) -> None:
        self._client = client
        self.name = name
        if sink is not None:
            self._sink = sink
        self._encoders: dict[str, str | None] = {}  # whose vectors an index holds, by its name

    @classmethod
    @asynccontextmanager
    async def open(cls, elasticsearch: Server | str) -> AsyncIterator[Index]:
        """A connection, closed at the end. The server is first asked when it is first used."""
        async with connected(elasticsearch) as client:
            yield cls(client)

    @cached_property
    def _sink(self) -> BulkSink:
        from connectors.elasticsearch.bulk import BulkSink  # who searches only does without

        return BulkSink(self._client)

    @property
    def _read(self) -> str:
        return self.name or mapping.READ_ALIAS

    @property
    def _written(self) -> str:
        return self.name or mapping.WRITE_ALIAS

    async def current(self, encoder: str | None = None) -> Index:
        """The index that writes go to now, by its own name: what is read from it is written to it.

        A document's version means nothing in another index, and the alias may move between read and write.
        Raises ConfigurationError where there is none, or where its vectors are another encoder's.
        """
        if self.name is not None:
            return self
        with mapped():
            [name] = await self._client.indices.get_alias(name=mapping.WRITE_ALIAS)
            if name not in self._encoders:
                answer = await self._client.indices.get_mapping(index=name)
                self._encoders[name] = answer[name]["mappings"].get("_meta", {}).get("encoder")
        known = self._encoders[name]
        if None not in (known, encoder) and known != encoder:
            raise ConfigurationError(
                f"the index {name} has vectors of {known}, and ENCODER is {encoder}: set it back, or make an"
                " index with the new one: `mailstream reindex`"
            )
        return Index(self._client, name, self._sink)

    async def exists(self) -> bool:
        """Whether there is an index to write to. Raises UnavailableError when the server does not answer."""
        with mapped():
            return bool(await self._client.indices.exists_alias(name=mapping.WRITE_ALIAS))

    async def ensure(self, analyzer: str = "english", encoder: str | None = None) -> None:
        """Create the index and its aliases where they are missing, with ``analyzer`` where the server has it
        and ``standard`` where not, for vectors of ``encoder``. Safe to call from several workers."""
        with mapped():
            self._sink.packed_vectors = await oldest_version(self._client) >= PACKED_VECTORS_SINCE
            if await self.exists():
                await self._extend_mapping()
                return
            template = await suited_template(self._client, analyzer, encoder)
            log.info(
                "creating index %s with the analyzer %s",
                mapping.index_name(),
                template["mappings"]["properties"]["text"]["analyzer"],
            )
            # Every version of the index is made by the template; only the first gets the aliases here. And
            # without it the server would invent a version that was removed in the midst of a write to it.
            await self._client.indices.put_index_template(
                name=mapping.INDEX_PREFIX,
                index_patterns=[f"{mapping.INDEX_PREFIX}*"],
                template=template,
                allow_auto_create=False,
            )
            await create_index(
                self._client,
                index=mapping.index_name(),
                aliases={mapping.READ_ALIAS: {}, mapping.WRITE_ALIAS: {"is_write_index": True}},
            )

    async def _extend_mapping(self) -> None:
        """Add the fields that this program knows and an older index does not."""
        response = await self._client.indices.get_mapping(index=mapping.WRITE_ALIAS)
        [known] = [index["mappings"].get("properties", {}) for index in response.values()]
        analyzer = known.get("text", {}).get("analyzer", "standard")
        wanted = mapping.mappings(analyzer)["properties"]
        added = {name: wanted[name] for name in wanted.keys() - known.keys()}
        if added:
            log.info("adding fields to the index: %s", ", ".join(sorted(added)))
            await self._client.indices.put_mapping(index=mapping.WRITE_ALIAS, properties=added)

    async def read(self, document_ids: Sequence[str], fields: Sequence[str]) -> dict[str, Stored]:
        """The documents that exist, by id, as of this moment (not of the last refresh)."""
        if not document_ids:
            return {}
        with mapped():
            response = await self._client.mget(
                index=self._written, ids=list(document_ids), source_includes=list(fields)
            )
        if any("error" in hit for hit in response["docs"]):
            raise UnavailableError(f"the index {self._written} cannot be read")
        return {
            hit["_id"]: Stored(hit.get("_source", {}), hit["_seq_no"], hit["_primary_term"])
            for hit in response["docs"]
            if hit.get("found")
        }

    async def write(self, writes: Sequence[Write]) -> list[MailstreamError | None]:
        """Write everything; one result a write, None where it stands.

        A result is ConflictError (somebody was first: read, merge, write again), IndexReplacedError (the
        same, in another index) or RejectedDocumentError.
        Raises UnavailableError when the server does not take the writes; some may stand then.
        """
        return await self._sink.write(self._written, writes)

    async def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Run a search on the read alias. Raises ConfigurationError when the index does not exist."""
        with mapped():
            response = await self._client.search(index=self._read, **body)
        return dict(response.body)

    async def count(self, query: Mapping[str, Any]) -> int:
        """How many documents match, as of the last refresh."""
        with mapped():
            response = await self._client.count(index=self._read, query=dict(query))
        return int(response["count"])

    async def refresh(self) -> None:
        """Make everything written so far visible to searches."""
        with mapped():
            await self._client.indices.refresh(index=self._written)

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


async def suited_template(client: AsyncElasticsearch, analyzer: str, encoder: str | None) -> dict[str, Any]:
    """Settings and mappings with what this server has: ``analyzer`` or ``standard``, graphs in small segments
    only where it cannot do without, and vectors in the source."""
    version = await oldest_version(client)
    settings = {**mapping.SETTINGS}
    if version >= SOURCES_WITHOUT_VECTORS_SINCE:
        settings |= mapping.VECTORS_IN_SOURCE
    analyzer = await _available_analyzer(client, analyzer)
    flat_segments = version >= FLAT_SEGMENTS_SINCE
    return {
        "settings": settings,
        "mappings": mapping.mappings(analyzer, encoder, flat_segments=flat_segments),
    }


async def _available_analyzer(client: AsyncElasticsearch, analyzer: str) -> str:
    """The analyzer itself, or ``standard`` where this server does not have it."""
    try:
        await client.indices.analyze(analyzer=analyzer, text="probe")
    except BadRequestError:
        # Small distributions come without the language analyzers.
        log.info("the server has no analyzer %s: standard is used", analyzer)
        return "standard"
    return analyzer


async def oldest_version(client: AsyncElasticsearch) -> tuple[int, int]:
    """Major and minor of the oldest node; (0, 0) where nobody tells."""
    try:
        nodes = await client.nodes.info(filter_path="nodes.*.version")
    except ApiError as error:
        if error.meta.status >= 500:
            raise
        return 0, 0  # who may not ask does what every version takes
    versions = [str(node["version"]).split(".") for node in nodes["nodes"].values()]
    return min(((int(major), int(minor)) for major, minor, *_ in versions), default=(0, 0))
