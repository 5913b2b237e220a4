"""What an engine does not let a document do: grow, last, or take others with it. Nothing of it stays."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from PIL import Image

from schemas.outcomes import Outcome
from streams.ephemeral import EngineConfig, EphemeralAttachmentHandler
from streams.extractors.limits import MEBIBYTE, Limits
from streams.parser_pool import PoolConfig
from tests.files import picture
from tests.processes import descendants, program
from tests.reading import SENTENCE, Configured, files_in, result_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    assert files_in(tmp_path) == []


async def test_a_picture_of_too_many_pixels_is_refused(configured: Configured) -> None:
    handler = configured(EngineConfig(limits=Limits(max_pixels=10_000)))
    result = await result_of(handler, picture("large"), "large.png")
    assert result.outcome is Outcome.LIMIT_EXCEEDED


async def test_a_parser_that_needs_too_much_memory_costs_its_document_only(directory: Path) -> None:
    config = PoolConfig(directory, processes=1, memory_bytes=64 * MEBIBYTE)
    file = io.BytesIO()
    Image.new("L", (9_000, 9_000), "white").save(file, "PNG")
    async with EphemeralAttachmentHandler(config) as handler:
        assert (await result_of(handler, file.getvalue(), "huge.png")).outcome is Outcome.LIMIT_EXCEEDED
        assert (await result_of(handler, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_what_takes_too_long_is_killed_and_the_next_is_read(configured: Configured) -> None:
    handler = configured(EngineConfig(deadline_seconds=0.0))
    # Seconds of work, whenever the deadline is seen to be over.
    result = await result_of(handler, b"<p>slow</p>" * 300_000, "slow.html", ocr=False)
    assert result.outcome is Outcome.TIMED_OUT
    assert result.metadata.filename == "slow.html"
    assert (await result_of(handler, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_a_parser_that_dies_costs_its_document_only(reader: EphemeralAttachmentHandler) -> None:
    work = asyncio.create_task(result_of(reader, picture(SENTENCE, size=(3_000, 3_000)), "big.png"))
    while not reader._pool._busy:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.01)
    os.kill(next(iter(reader._pool._busy)).pid, signal.SIGKILL)
    assert (await work).outcome is Outcome.LIMIT_EXCEEDED
    assert (await result_of(reader, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_a_scan_that_takes_too_long_leaves_no_file(
    reader: EphemeralAttachmentHandler, reader_directory: Path
) -> None:
    work = asyncio.create_task(result_of(reader, picture(SENTENCE, size=(3_000, 3_000)), "big.png"))
    while "tesseract" not in map(program, descendants()):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    while "tesseract" in map(program, descendants()):  # noqa: ASYNC110 - it is dying
        await asyncio.sleep(0.01)
    assert files_in(reader_directory) == []


async def test_parsers_are_replaced_after_some_documents(directory: Path) -> None:
    config = PoolConfig(directory, processes=1, jobs_per_process=2)
    async with EphemeralAttachmentHandler(config) as handler:
        pids = set()
        for _ in range(5):
            await result_of(handler, b"text")
            pids |= {parser.pid for parser in handler._pool._idle}
    assert len(pids) >= 2


async def test_the_size_that_counts_is_the_one_received(configured: Configured) -> None:
    read = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(20):
            read += 1
            yield b"x" * 100_000

    handler = configured(EngineConfig(max_attachment_bytes=1_000_000))
    lied = await handler.process_attachment(blocks(), "text/plain", declared_size_bytes=10)
    assert (lied.outcome, lied.skipped_reason) == (Outcome.TOO_LARGE, "too_large")
    assert lied.metadata.sha256 is None
    assert read == 11
    said = await handler.process_attachment(blocks(), "text/plain", declared_size_bytes=10**9)
    assert (said.outcome, said.metadata.size_bytes) == (Outcome.TOO_LARGE, 10**9)
    assert read == 11, "what says that it is too large is not read at all"
    whole = await handler.process_attachment(blocks_of(SENTENCE.encode()), "text/plain")
    assert whole.text == SENTENCE


async def blocks_of(payload: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(payload), 7):
        yield payload[start : start + 7]


async def test_bytes_that_dawdle_end_in_time(configured: Configured) -> None:
    async def dawdling() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(600)
        yield b"two"

    handler = configured(EngineConfig(receive_seconds=0.2))
    result = await handler.process_attachment(dawdling(), "text/plain", filename="a.txt")
    assert (result.outcome, result.metadata.sha256) == (Outcome.TIMED_OUT, None)
