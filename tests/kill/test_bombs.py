"""Bombs and liars: each ends with its name, within its memory, and the next document is read."""

import asyncio
import hashlib
import mailbox
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from devstack.sample.mailbox import SampleSummary
from schemas import mime
from schemas.outcomes import Outcome
from streams import parser_process
from streams.ephemeral import AttachmentResult, EphemeralAttachmentHandler
from streams.extractors.assembly import MAX_RAW_CHARACTERS
from streams.extractors.limits import MEBIBYTE, Limits
from streams.parser_pool import PoolConfig
from tests import bombs
from tests.files import archive, picture
from tests.office_files import minutes, tides
from tests.processes import descendants, resident_bytes
from tests.reading import SENTENCE, extracted, files_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKER_BYTES = 48 * MEBIBYTE  # on top of what it had, and of the payload that the test itself holds
PARSER_BYTES = PoolConfig(Path()).memory_bytes + 400 * MEBIBYTE  # the imports, and what the rule gives
ANY_END = set(Outcome) - {Outcome.PENDING, Outcome.TOO_LARGE, Outcome.BLOCKED}


@dataclass
class Watched:
    """An engine, and the most memory that the worker and any of its parsers had at a time."""

    engine: EphemeralAttachmentHandler
    directory: Path
    worker_bytes: int = 0
    parser_bytes: int = 0

    async def read(
        self, payload: bytes | AsyncIterator[bytes], name: str, kind: str | None = None, ocr: bool = True
    ) -> AttachmentResult:
        """Process it, with everything that must hold whatever it is."""
        before = resident_bytes(os.getpid())
        self.worker_bytes = self.parser_bytes = 0
        work = asyncio.create_task(self.engine.process_attachment(payload, kind, filename=name, ocr=ocr))
        while not work.done():
            self.worker_bytes = max(self.worker_bytes, resident_bytes(os.getpid()) - before)
            self.parser_bytes = max((self.parser_bytes, *map(resident_bytes, descendants())))
            await asyncio.wait([work], timeout=0.05)
        assert self.worker_bytes < WORKER_BYTES
        assert self.parser_bytes < PARSER_BYTES
        assert files_in(self.directory) == []
        result = await work
        assert all(item.outcome is not Outcome.PENDING for item in result.walk())
        alive = await self.engine.process_attachment(b"alive", "text/plain", ocr=ocr)
        assert alive.text == "alive"
        return result


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    directory = tmp_path_factory.mktemp("ephemeral")
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1)) as handler:
        yield Watched(handler, directory)


@pytest.mark.parametrize(
    ("make", "name", "outcomes"),
    [
        (bombs.gzip_of_zeros, "zeros.gz", {Outcome.LIMIT_EXCEEDED}),
        (lambda: bombs.zip_of_zeros(4 * bombs.GIBIBYTE - 2), "flat.zip", {Outcome.LIMIT_EXCEEDED}),
        (lambda: bombs.zip_of_zeros(100), "liar.zip", {Outcome.CONTAINER, Outcome.CORRUPT}),
        (bombs.nested_zip, "nested.zip", {Outcome.CONTAINER, Outcome.LIMIT_EXCEEDED}),
        (bombs.overlapping_zip, "overlapping.zip", {Outcome.LIMIT_EXCEEDED}),
        (bombs.png, "huge.png", {Outcome.LIMIT_EXCEEDED}),
        (bombs.pdf_with_a_loop, "loop.pdf", {Outcome.CORRUPT}),
        (lambda: b"", "nothing.pdf", {Outcome.EMPTY}),
    ],
)
async def test_a_bomb_has_its_named_end(
    watched: Watched, make: Callable[[], bytes], name: str, outcomes: set[Outcome]
) -> None:
    result = await watched.read(make(), name)
    assert {item.outcome for item in result.walk()} == outcomes


NO_LIMITS = Limits(
    **dict.fromkeys((field.name for field in fields(Limits)), 10**12)  # where another would hold as well
)
TEXT = " ".join(map(str, range(2_000)))


def nested(payload: bytes, levels: int) -> bytes:
    for _ in range(levels):
        payload = archive(("a.zip", payload))
    return payload


@pytest.mark.parametrize(
    ("limit", "make", "name", "outcome"),
    [
        (
            {"max_ratio": 200},
            lambda: archive(("a.txt", bytes(2 * MEBIBYTE))),
            "a.zip",
            Outcome.LIMIT_EXCEEDED,
        ),
        (
            {"max_unpacked_bytes": 15_000},
            lambda: archive(("a.txt", TEXT.encode()), ("b.txt", TEXT.encode())),
            "a.zip",
            Outcome.LIMIT_EXCEEDED,
        ),
        ({"max_unpacked_bytes": 15_000}, lambda: minutes(TEXT * 2), "a.docx", Outcome.LIMIT_EXCEEDED),
        (
            {"max_entries": 2},
            lambda: archive(*((f"{n}.txt", b"x") for n in range(3))),
            "a.zip",
            Outcome.LIMIT_EXCEEDED,
        ),
        ({"max_depth": 2}, lambda: nested(archive(("a.txt", b"x")), 2), "a.zip", Outcome.LIMIT_EXCEEDED),
        ({"max_pixels": 10_000}, lambda: bombs.png(200, 200), "a.png", Outcome.LIMIT_EXCEEDED),
        ({"max_pages": 2}, lambda: bombs.pdf_of_pages(3), "a.pdf", Outcome.TEXT),
        ({"max_characters": 100}, lambda: TEXT.encode(), "a.txt", Outcome.TEXT),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_each_limit_holds_by_itself(
    limit: dict[str, int],
    make: Callable[[], bytes],
    name: str,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process: what passes one limit here is small, and within all the others."""
    # The reader sets it for its process, which here goes on with other tests.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    payload = make()
    whole, cut = (extracted(payload, name, limits) for limits in (NO_LIMITS, replace(NO_LIMITS, **limit)))
    assert _cut_short(whole) == set()
    assert _cut_short(cut) == {outcome.value}
    if outcome is Outcome.TEXT:
        assert 0 < _characters(cut) < _characters(whole)


def _cut_short(said: list[dict[str, Any]]) -> set[str]:
    """How those documents ended that a limit cut short."""
    ends = [record for record in said if record["type"] == "close"]
    over = Outcome.LIMIT_EXCEEDED.value
    return {end["outcome"] for end in ends if end["truncated"] or end["outcome"] == over}


def _characters(said: list[dict[str, Any]]) -> int:
    return sum(len(record["text"]) for record in said if record["type"] == "segment")


async def test_a_million_pages_are_read_up_to_the_limit(watched: Watched) -> None:
    result = await watched.read(bombs.pdf_of_pages(), "million.pdf")
    assert (result.outcome, result.metadata.truncated) == (Outcome.TEXT, True)
    assert result.metadata.pages == 1_000_000
    assert len(result.segments) == Limits().max_pages


@pytest.mark.parametrize("levels", [3, 10])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda levels: bombs.laughing(minutes("quay"), "word/document.xml", levels), "laughing.docx"),
        (lambda levels: bombs.laughing(minutes("quay"), "docProps/core.xml", levels), "author.docx"),
        (
            lambda levels: bombs.laughing(tides("quay"), "xl/worksheets/sheet1.xml", levels),
            "laughing.xlsx",
        ),
        (bombs.laughing_svg, "laughing.svg"),
    ],
)
async def test_nobody_laughs_a_billion_times(
    watched: Watched, make: Callable[[int], bytes], name: str, levels: int
) -> None:
    """Nor a hundred times: the library itself ends the billion, and would let these pass."""
    result = await watched.read(make(levels), name)
    assert result.outcome in {Outcome.TEXT, Outcome.CORRUPT, Outcome.LIMIT_EXCEEDED}
    assert len(result.text) < 10_000
    assert "laughterlaughter" not in f"{result.text}{result.metadata.author}"


@pytest.mark.parametrize("levels", [20, 200, 1_000])
@pytest.mark.parametrize("make", [bombs.nested_mail, bombs.nested_multipart])
async def test_nested_mail_ends_at_some_level(
    watched: Watched, make: Callable[[int], bytes], levels: int
) -> None:
    results = list((await watched.read(make(levels), "nested.eml")).walk())
    assert len(results) <= Limits().max_depth + 1
    assert results[0].outcome is Outcome.TEXT
    assert results[-1].outcome in {Outcome.TEXT, Outcome.LIMIT_EXCEEDED}


async def test_names_do_no_harm(watched: Watched) -> None:
    result = await watched.read(bombs.mail_of_names(), "names.eml")
    found = [(child.metadata.raw_filename, child.metadata.filename) for child in result.children]
    shown = list(bombs.NAMES.values())
    assert [name for _, name in found] == shown
    assert all(raw is not None and "\0" not in raw for raw, _ in found)
    assert max(len(raw or "") for raw, _ in found) == MAX_RAW_CHARACTERS
    packed = archive(*((name, b"harmless") for name in bombs.NAMES if "\0" not in name))
    result = await watched.read(packed, "names.zip")
    assert {child.outcome for child in result.children} == {Outcome.TEXT}
    assert [child.metadata.filename for child in result.children] == shown[1:]


PICTURES = (("png", "PNG"), ("jpg", "JPEG"))


@pytest.fixture(scope="module")
def samples(sample: tuple[Path, SampleSummary]) -> dict[str, bytes]:
    """One document of each type that the sample mailbox has, by a name with its suffix; pictures of a line,
    because each of them is read by OCR, and again turned where half of it is missing."""
    found = {f"sample.{end}": picture(SENTENCE, form, (900, 200)) for end, form in PICTURES}
    for message in mailbox.mbox(sample[0]):
        for leaf in mime.attachments(mime.parse(message.as_bytes())):
            suffix = Path(leaf.part.filename or "mail.eml").suffix
            found.setdefault(f"sample{suffix}", leaf.part.body or b"")
    return found


async def test_whatever_is_cut_off_has_an_end(watched: Watched, samples: dict[str, bytes]) -> None:
    assert len(samples) >= 10, sorted(samples)
    cut = 0
    for name, payload in samples.items():
        for part in (0.01, 0.3, 0.6, 0.95):
            result = await watched.read(payload[: int(len(payload) * part)], name)
            assert {item.outcome for item in result.walk()} <= ANY_END, (name, part)
            cut += 1
        result = await watched.read(payload[:-1], name)
        assert {item.outcome for item in result.walk()} <= ANY_END, name
    assert cut == 4 * len(samples)


async def test_a_wrong_type_harms_nobody(watched: Watched, samples: dict[str, bytes]) -> None:
    names = list(samples)
    for (name, payload), other in zip(samples.items(), names[1:] + names[:1], strict=True):
        honest = await watched.read(payload, name)
        lying = await watched.read(payload, other, "application/pdf; charset=rot13")
        assert lying.metadata.declared_content_type == "application/pdf; charset=rot13"
        if honest.metadata.content_type.startswith(("application/pdf", "image/", "application/vnd.")):
            assert lying.metadata.content_type == honest.metadata.content_type
            assert lying.text == honest.text


async def test_fifty_mebibytes_are_read_and_one_byte_more_is_not(watched: Watched) -> None:
    limit = 50 * MEBIBYTE
    digest = hashlib.sha256(b"".join(bombs.random_blocks(limit))).hexdigest()
    whole = await watched.read(_stream(limit), "full.bin")
    assert (whole.outcome, whole.metadata.size_bytes) == (Outcome.UNSUPPORTED, limit)
    assert whole.metadata.sha256 == digest
    more = await watched.read(_stream(limit + 1), "more.bin")
    assert (more.outcome, more.skipped_reason, more.metadata.sha256) == (Outcome.TOO_LARGE, "too_large", None)
    large = b"".join(bombs.random_blocks(limit + 1))
    assert (await watched.read(large, "more.bin")).outcome is Outcome.TOO_LARGE


async def _stream(size_bytes: int) -> AsyncIterator[bytes]:
    for block in bombs.random_blocks(size_bytes):
        yield block


async def test_a_payload_is_never_there_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a parser takes it, what it has and what the file of memory still has are one payload."""
    payload = b"".join(bombs.random_blocks(8 * MEBIBYTE + 5))
    descriptor = os.memfd_create("payload")
    os.write(descriptor, payload)
    kept = os.dup(descriptor)
    together: list[int] = []
    read = os.preadv

    def counted(source: int, buffers: list[memoryview], offset: int) -> int:
        got = read(source, buffers, offset)
        together.append(offset + got + os.fstat(source).st_blocks * 512)
        return got

    monkeypatch.setattr(os, "preadv", counted)
    assert parser_process.take(descriptor) == payload
    assert len(together) == 9
    assert max(together) <= len(payload) + 2 * MEBIBYTE
    assert os.pread(kept, len(payload), 0) == bytes(len(payload))
    os.close(kept)
