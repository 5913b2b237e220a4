"""Once per content: who comes second gets what was read for the first, under his own name, if it is final."""

import asyncio
import logging
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from connectors.encoder import HashEncoder
from connectors.errors import UnavailableError
from schemas.outcomes import Outcome, Scan, ScanVerdict
from streams import once as once_module
from streams.embeddings import OnceEncoder
from streams.extractors.assembly import AttachmentResult, Metadata, Segment
from streams.extractors.limits import Limits
from streams.once import Once
from streams.parser_pool import Job

SHA256 = "ab" * 32
CLEAN = ScanVerdict(Scan.CLEAN)


class Cache:
    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.down = False
        self.asked = 0

    async def get(self, keys: Sequence[str]) -> dict[str, Any]:
        self.asked += 1
        if self.down:
            raise UnavailableError("away")
        return {key: self.entries[key] for key in keys if key in self.entries}

    async def put(self, entries: Mapping[str, Any]) -> None:
        if self.down:
            raise UnavailableError("away")
        self.entries |= entries


class Parser:
    """Counts how often it reads, and makes of every name the same document."""

    def __init__(self, outcome: Outcome = Outcome.TEXT, content_type: str = "application/pdf") -> None:
        self.reads = 0
        self.complete = True
        self.truncated = False
        self.gate: asyncio.Event | None = None
        self.change: Callable[[AttachmentResult], AttachmentResult] = lambda result: result
        self._outcome = outcome
        self._content_type = content_type

    def reading(self, about: Metadata) -> Callable[[], Any]:
        async def read() -> tuple[AttachmentResult, bool]:
            self.reads += 1
            if self.gate is not None:
                await self.gate.wait()
            metadata = replace(
                about, content_type=self._content_type, title="A title", truncated=self.truncated
            )
            child = AttachmentResult(
                Outcome.EMPTY, Metadata(1, None, "text/plain", "in.txt", "cd" * 32), path=(1,)
            )
            result = AttachmentResult(
                self._outcome,
                metadata,
                segments=(Segment("a known sentence", 3, "sheet A"),),
                engines=("pypdfium2",),
                children=(child,),
            )
            return self.change(result), self.complete

        return read


def _about(filename: str = "scan.pdf", declared: str = "application/pdf") -> Metadata:
    return Metadata(100, declared, declared, filename, SHA256)


def _job(about: Metadata, **fields: Any) -> Job:
    job = Job(
        content_type=about.declared_content_type,
        filename=about.filename,
        charset=None,
        ocr=True,
        inline=about.inline,
        limits=Limits(),
        seconds=30.0,
        total_seconds=900.0,
    )
    return replace(job, **fields)


async def _result(once: Once, parser: Parser, about: Metadata | None = None, **job: Any) -> AttachmentResult:
    about = about or _about()
    return await once.result(about, CLEAN, _job(about, **job), parser.reading(about))


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
def once(cache: Cache) -> Once:
    return Once(cache, b"secret")


async def test_the_second_gets_the_text_under_his_own_name(once: Once) -> None:
    parser = Parser()
    first = await _result(once, parser, _about("mine.pdf", "application/pdf"))
    second = await _result(once, parser, _about("yours.bin", "application/octet-stream"))
    assert parser.reads == 1
    assert second.metadata == replace(
        first.metadata, filename="yours.bin", declared_content_type="application/octet-stream"
    )
    assert replace(second, metadata=first.metadata) == first
    assert [item.scan for item in second.walk()] == [Scan.CLEAN, Scan.CLEAN]
    assert second.segments == (Segment("a known sentence", 3, "sheet A"),)


async def test_what_a_name_may_decide_is_shared_by_that_name_only(once: Once) -> None:
    parser = Parser(content_type="text/csv")
    for name in ("a.csv", "b.txt", "a.csv", "b.txt"):
        result = await _result(once, parser, _about(name, "text/plain"))
        assert result.metadata.filename == name
    assert parser.reads == 2


async def test_a_name_that_passed_into_what_was_read_is_nobody_elses(once: Once) -> None:
    parser = Parser(Outcome.CONTAINER, content_type="application/zip")
    parser.change = lambda result: replace(
        result,
        children=tuple(
            replace(child, metadata=replace(child.metadata, filename="layoffs.csv"))
            for child in result.children
        ),
    )
    await _result(once, parser, _about("layoffs.csv.gz"))
    await _result(once, parser, _about("holidays.csv.gz"))
    assert parser.reads == 2


@pytest.mark.parametrize(
    ("outcome", "complete", "truncated", "reads"),
    [
        (Outcome.TEXT, True, False, 1),
        (Outcome.ENCRYPTED, True, False, 1),
        (Outcome.CORRUPT, True, False, 1),
        (Outcome.UNSUPPORTED, True, False, 1),
        (Outcome.CORRUPT, False, False, 2),  # the parser died
        (Outcome.TEXT, False, True, 2),  # the deadline came, finished pages were kept
        (Outcome.TEXT, True, True, 2),
        (Outcome.PENDING, True, False, 2),
        (Outcome.TIMED_OUT, False, False, 2),
        (Outcome.LIMIT_EXCEEDED, True, False, 2),
    ],
)
async def test_only_what_is_final_is_remembered(
    once: Once, outcome: Outcome, complete: bool, truncated: bool, reads: int
) -> None:
    parser = Parser(outcome)
    parser.complete, parser.truncated = complete, truncated
    for _ in range(2):
        assert (await _result(once, parser)).outcome is outcome
    assert parser.reads == reads


@pytest.mark.parametrize(("child", "reads"), [(Outcome.TIMED_OUT, 2), (Outcome.SKIPPED, 1)])
async def test_one_unfinished_child_makes_the_whole_unfinished(
    once: Once, child: Outcome, reads: int
) -> None:
    parser = Parser(Outcome.CONTAINER)
    parser.change = lambda result: replace(
        result, children=tuple(replace(item, outcome=child) for item in result.children)
    )
    await _result(once, parser)
    await _result(once, parser)
    assert parser.reads == reads


async def test_another_engine_other_limits_and_other_bytes_read_again(
    once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = Parser()
    await _result(once, parser)
    await _result(once, parser, limits=Limits(max_pages=7))
    await _result(once, parser, replace(_about(), sha256="cd" * 32))
    monkeypatch.setattr(once_module, "ENGINE_VERSION", 99)
    await _result(once, parser)
    assert parser.reads == 4
    await _result(once, parser, seconds=1.0)
    assert parser.reads == 4, "a deadline decides nothing about what was read to its end"


async def test_what_ocr_has_read_need_not_wait_for_it_again(once: Once) -> None:
    slow, fast = Parser(), Parser(Outcome.PENDING)
    assert (await _result(once, fast, ocr=False)).outcome is Outcome.PENDING
    await _result(once, slow, ocr=True)
    assert (await _result(once, fast, ocr=False)).outcome is Outcome.TEXT
    assert (fast.reads, slow.reads) == (1, 1)


async def test_the_same_bytes_at_the_same_time_are_read_once(once: Once) -> None:
    parser = Parser(Outcome.TIMED_OUT)  # what is not remembered is shared all the same by those who wait
    parser.gate = asyncio.Event()
    names = [f"{n}.pdf" for n in range(5)]
    waiting = [asyncio.create_task(_result(once, parser, _about(name))) for name in names]
    await asyncio.sleep(0.01)
    parser.gate.set()
    results = await asyncio.gather(*waiting)
    assert parser.reads == 1
    assert [result.metadata.filename for result in results] == names


async def test_who_waited_for_one_that_failed_reads_himself(once: Once) -> None:
    parser = Parser()
    parser.gate = asyncio.Event()
    first, second = (asyncio.create_task(_result(once, parser)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    parser.gate.set()
    assert (await second).outcome is Outcome.TEXT
    assert parser.reads == 2
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_cache_that_is_away_costs_time_only(
    once: Once, cache: Cache, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = Parser()
    cache.down = True
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert (await _result(once, parser)).outcome is Outcome.TEXT
        assert parser.reads == 3
        assert cache.asked == 1, "it is left alone for a while"
        assert len(caplog.records) == 1
        monkeypatch.setattr(once_module, "AWAY_SECONDS", 0.0)
        once._away_until = 0.0
        await _result(once, parser)
        cache.down = False
        await _result(once, parser)
        await _result(once, parser)
    assert parser.reads == 5
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_an_entry_of_another_form_is_none(once: Once, cache: Cache) -> None:
    parser = Parser()
    await _result(once, parser)
    [key] = cache.entries
    strange: list[Any] = [{"outcome": "sung"}, [], "text", {"outcome": "text"}]
    for entry in strange:
        cache.entries[key] = entry
        assert (await _result(once, parser)).text == "a known sentence"
    assert parser.reads == 5


async def test_a_verdict_is_remembered_with_the_signatures_that_gave_it(once: Once) -> None:
    scans, version = 0, "ClamAV 1/100"

    async def asked() -> str:
        return version

    async def scan() -> ScanVerdict:
        nonlocal scans
        scans += 1
        return verdict

    for verdict in (CLEAN, ScanVerdict(Scan.INFECTED, "Eicar")):
        scans, sha256 = 0, f"{verdict.scan}"
        for _ in range(3):
            assert await once.verdict(sha256, asked, scan) == verdict
        assert scans == 1
    version = "ClamAV 1/101"
    assert await once.verdict(sha256, asked, scan) == verdict
    assert scans == 2


async def test_no_verdict_is_not_remembered(once: Once) -> None:
    scans = 0

    async def asked() -> str:
        return "ClamAV"

    async def scan() -> ScanVerdict:
        nonlocal scans
        scans += 1
        return ScanVerdict(Scan.UNSCANNED)

    for _ in range(2):
        await once.verdict(SHA256, asked, scan)
    assert scans == 2


async def test_a_scanner_that_does_not_say_what_it_is_is_asked(once: Once, cache: Cache) -> None:
    async def away() -> str:
        raise UnavailableError("clamd is away")

    async def scan() -> ScanVerdict:
        return CLEAN

    assert await once.verdict(SHA256, away, scan) == CLEAN
    assert cache.entries == {}


async def test_keys_and_entries_do_not_tell_whose_bytes_they_are(cache: Cache) -> None:
    keys = []
    for secret in (b"one", b"two"):
        cache.entries.clear()
        await _result(Once(cache, secret), Parser())
        [key] = cache.entries
        keys.append(key)
        assert SHA256 not in str(cache.entries)
        assert "scan.pdf" not in str(cache.entries)
    assert keys[0] != keys[1]


class Counting:
    name = "counting"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return HashEncoder().encode(texts)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_text_is_embedded_once(once: Once, shared: bool) -> None:
    counting = Counting()
    encoder = OnceEncoder(counting, once if shared else None)
    texts = ["a", "b", "a", "c", "b"]
    for _ in range(2):
        vectors = await asyncio.to_thread(encoder.encode, texts)
        np.testing.assert_array_equal(vectors, HashEncoder().encode(texts))
    assert counting.texts == ["a", "b", "c"]
    # Another worker, or this one after a restart.
    other = OnceEncoder(counting, once if shared else None)
    vectors = await asyncio.to_thread(other.encode, ["c", "d"])
    np.testing.assert_array_equal(vectors, HashEncoder().encode(["c", "d"]))
    assert counting.texts[3:] == (["d"] if shared else ["c", "d"])


async def test_only_so_many_vectors_are_kept() -> None:
    counting = Counting()
    encoder = OnceEncoder(counting, None, memory_bytes=2 * 4 * 384)
    for texts in (["a", "b"], ["c"], ["b"], ["a"]):
        await asyncio.to_thread(encoder.encode, texts)
    assert counting.texts == ["a", "b", "c", "a"]
    assert (await asyncio.to_thread(encoder.encode, [])).shape == (0, 384)


async def test_a_vector_that_is_kept_keeps_no_other() -> None:
    kept = 100
    encoder = OnceEncoder(HashEncoder(), None, memory_bytes=kept * 4 * 384)
    tracemalloc.start()
    for batch in range(kept):  # of each batch, one text comes again and again
        often = [f"often {number}" for number in range(batch)]
        encoder.encode([f"often {batch}", *(f"once {batch}.{number}" for number in range(15))])
        encoder.encode(often)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 2 * kept * 4 * 384
