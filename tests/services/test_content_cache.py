"""Once per content on a real Elasticsearch: one scan in three mailboxes is read and embedded once."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch

from connectors.elasticsearch import Index
from connectors.elasticsearch.content_cache import ContentCache
from connectors.encoder import HashEncoder
from connectors.gmail.message import MailMessage
from connectors.kafka import Record
from schemas import mapping, topics
from schemas.events import MailboxRecord
from schemas.identity import document_id
from schemas.mime import Part
from schemas.outcomes import Outcome, Scan, ScanVerdict
from streams import once as once_module
from streams.documents import Documents
from streams.embeddings import OnceEncoder
from streams.ephemeral import AttachmentResult, EngineConfig, EphemeralAttachmentHandler
from streams.index import Indexer
from streams.message import FetchedMessage, MessageExtractor
from streams.once import Once
from streams.parser_pool import Job, PoolConfig
from tests import files
from tests.standins import Broker, NoLetters

SENTENCE = "the quay wall leans seven millimetres"
NAMES = {"anna": "anna.png", "boris": "scan of boris.png", "clara": "IMG_0001.png"}
# Stands in the bytes of the picture, and in nothing that is read from it.
MARKER = b"Xq7vMarkerThatIsNoText"
HOUR_SECONDS = 3600.0


class Scanner:
    """Says clean to everything, and counts."""

    def __init__(self) -> None:
        self.signatures = "signatures 1"
        self.scans = 0

    async def check(self) -> None:
        return None

    async def version(self) -> str:
        return self.signatures

    async def scan(self, payload: memoryview) -> ScanVerdict:
        self.scans += 1
        return ScanVerdict(Scan.CLEAN)


class Counting(HashEncoder):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return super().encode(texts)


def _documents(broker: Broker) -> list[Record]:
    """What was sent, as the index worker reads it."""
    return [
        Record(send.topic, 0, offset, send.key, send.value)
        for offset, send in enumerate(broker.sent)
        if send.topic == topics.DOCUMENTS.name
    ]


class Engine(EphemeralAttachmentHandler):
    """The engine, counting what its parsers are given."""

    def __init__(self, directory: Path, once: Once | None, **config: Any) -> None:
        self.scanner = Scanner()
        super().__init__(
            PoolConfig(directory, processes=1), EngineConfig(**config), scanner=self.scanner, once=once
        )
        self.jobs: list[Job] = []
        run = self._pool.run

        def counted(job: Job, payload: int) -> Any:
            self.jobs.append(job)
            return run(job, payload)

        self._pool.run = counted  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def picture() -> bytes:
    return files.picture(SENTENCE) + MARKER


@pytest.fixture(autouse=True)
def own_indexes(unique_name: str, own_index_names: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "CACHE_INDEX", f"{unique_name}-content-v1")
    monkeypatch.setattr(mapping, "CACHE_ALIAS", f"{unique_name}-content")


@pytest.fixture
async def cache(elasticsearch_url: str) -> AsyncIterator[ContentCache]:
    async with ContentCache.open(elasticsearch_url, HOUR_SECONDS) as opened:
        yield opened


@pytest.fixture
async def raw(elasticsearch_url: str) -> AsyncIterator[AsyncElasticsearch]:
    async with AsyncElasticsearch(elasticsearch_url) as client:
        yield client


@pytest.fixture
async def engine(cache: ContentCache, tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(tmp_path, Once(cache, b"secret")) as opened:
        yield opened


async def _entries(raw: AsyncElasticsearch) -> list[dict[str, Any]]:
    await raw.indices.refresh(index=mapping.CACHE_ALIAS)
    found = await raw.search(index=mapping.CACHE_ALIAS, size=1000)
    return list(found["hits"]["hits"])


async def _read(engine: Engine, payload: bytes, name: str = "a.png") -> AttachmentResult:
    return await engine.process_attachment(payload, "image/png", filename=name)


async def test_one_scan_in_three_mailboxes_is_read_once_and_is_three_documents(
    engine: Engine, picture: bytes, elasticsearch_url: str, raw: AsyncElasticsearch
) -> None:
    broker, counting = Broker(), Counting()
    extractor = MessageExtractor(engine, Documents(broker, 6))  # type: ignore[arg-type]
    for name, filename in NAMES.items():
        text = Part("text/plain", body=b"see the scan", headers=())
        scan = Part("image/png", filename=filename, body=picture, size_bytes=len(picture))
        root = Part("multipart/mixed", headers=(("Subject", "A scan"),), children=(text, scan))
        message = MailMessage(f"m-{name}", "t", 7, ("INBOX",), 1_700_000_000_000, 10_000, root)
        mailbox = MailboxRecord(mailbox_id=name, address=f"{name}@example.com")
        fetched = FetchedMessage(mailbox, None, message)  # type: ignore[arg-type]
        await extractor.upsert(fetched)
        await extractor.read_parts(fetched, {"2": 0})
    assert (len(engine.jobs), engine.scanner.scans) == (1, 1)

    async with Index.open(elasticsearch_url) as index:
        await index.ensure()
        for shard in (_documents(broker)[::2], _documents(broker)[1::2]):
            # Another worker each time: what one has embedded the other finds.
            encoder = OnceEncoder(counting, Once(engine._once._cache, b"secret"))  # type: ignore[union-attr]
            await Indexer(index, encoder, NoLetters(), max_chunks=100).handle(shard)  # type: ignore[arg-type]
        ids = {name: document_id(name, f"m-{name}", "2") for name in NAMES}
        stored = await index.read(list(ids.values()), ["*"])
        await index.refresh()
        documents = {name: stored[ids[name]].source for name in NAMES}
        assert {name: document["filename"] for name, document in documents.items()} == NAMES
        assert {document["mailbox_id"] for document in documents.values()} == set(NAMES)
        for document in documents.values():
            assert (document["outcome"], document["scan"]) == ("text", "clean")
            assert SENTENCE in " ".join(document["text"].split())
            assert document["sha256"] == hashlib.sha256(picture).hexdigest()
        [vector] = HashEncoder().encode([documents["anna"]["text"]])
        knn = {"field": "chunks.vector", "query_vector": vector.tolist(), "k": 9, "num_candidates": 20}
        hits = (await index.search({"knn": knn}))["hits"]["hits"]
        assert set(ids.values()) <= {hit["_id"] for hit in hits}
    assert len(counting.texts) == len(set(counting.texts)) == 2  # the scan, and the three bodies


async def test_no_bytes_no_names_and_no_hashes_stand_in_the_index(
    engine: Engine, picture: bytes, raw: AsyncElasticsearch
) -> None:
    await _read(engine, picture, "secret name.png")
    entries = await _entries(raw)
    assert len(entries) == 2, "a verdict and a text"
    everything = str(entries)
    assert SENTENCE in " ".join(everything.replace("\\n", " ").split())
    digest = hashlib.sha256(picture).hexdigest()
    for private in (MARKER.decode(), "secret name", digest, "PNG", "iVBOR"):
        assert private not in everything
    # Nobody searches it.
    for query in ({"match": {"entry.segments.text": "quay"}}, {"query_string": {"query": "quay"}}):
        found = await raw.search(index=mapping.CACHE_ALIAS, query=query)
        assert found["hits"]["total"]["value"] == 0


async def test_another_engine_reads_again_and_other_signatures_scan_again(
    engine: Engine, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _read(engine, picture)
    engine.scanner.signatures = "signatures 2"
    await _read(engine, picture)
    assert (len(engine.jobs), engine.scanner.scans) == (1, 2)
    monkeypatch.setattr(once_module, "ENGINE_VERSION", 99)
    await _read(engine, picture)
    assert (len(engine.jobs), engine.scanner.scans) == (2, 2)


async def test_what_has_ended_is_read_again_and_removed(
    picture: bytes, elasticsearch_url: str, raw: AsyncElasticsearch, tmp_path: Path
) -> None:
    async with ContentCache.open(elasticsearch_url, 2.0) as short:
        async with Engine(tmp_path, Once(short, b"secret")) as engine:
            await _read(engine, picture)
            for entry in await _entries(raw):
                assert entry["_source"]["expires_at"] <= (time.time() + 2) * 1000
            await asyncio.sleep(2.1)
            await _read(engine, picture)
            assert (len(engine.jobs), engine.scanner.scans) == (2, 2)
        await short.put({"other": {"text": "ends too"}})
        await asyncio.sleep(2.1)
        assert await short.forget_ended() >= 1
        assert await _entries(raw) == []


async def test_all_can_be_forgotten_and_the_index_comes_again(
    engine: Engine, cache: ContentCache, picture: bytes, raw: AsyncElasticsearch
) -> None:
    await _read(engine, picture)
    assert len(await _entries(raw)) == 2
    await cache.forget_all()
    assert not await raw.indices.exists(index=mapping.CACHE_INDEX)
    await cache.forget_all()
    assert await cache.get(["x"]) == {}
    await _read(engine, picture)
    assert len(engine.jobs) == 2
    assert len(await _entries(raw)) == 2
    fields = (await raw.indices.get_mapping(index=mapping.CACHE_INDEX))[mapping.CACHE_INDEX]["mappings"]
    assert fields["properties"]["entry"] == {"type": "object", "enabled": False}


async def test_a_timeout_is_not_remembered(cache: ContentCache, picture: bytes, tmp_path: Path) -> None:
    once = Once(cache, b"secret")
    async with Engine(tmp_path, once, ocr_total_seconds=0.0) as hasty:
        assert (await _read(hasty, picture)).outcome is Outcome.TIMED_OUT
    async with Engine(tmp_path, once) as engine:
        assert (await _read(engine, picture)).outcome is Outcome.TEXT
        assert len(engine.jobs) == 1


async def test_a_server_that_is_away_costs_no_attachment(picture: bytes, tmp_path: Path) -> None:
    async with ContentCache.open("http://127.0.0.1:1", HOUR_SECONDS) as away:
        async with Engine(tmp_path, Once(away, b"secret")) as engine:
            for _ in range(2):
                assert (await _read(engine, picture)).outcome is Outcome.TEXT
            assert len(engine.jobs) == 2
