"""A worker that reads attachment after attachment needs no more memory for the last than for the first."""

import asyncio
import ctypes
import gc
import os
import random
import secrets
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import pytest

from streams.ephemeral import EphemeralAttachmentHandler
from streams.extractors.limits import MEBIBYTE
from streams.parser_pool import PoolConfig
from tests.attachments_worker import MAKERS, blocks
from tests.processes import resident_bytes

pytestmark = pytest.mark.timeout(3_600)

# ``make test-full`` asks for 1,000.
ATTACHMENTS = int(os.environ.get("ATTACHMENTS", "160"))
IN_FLIGHT = 2
MOST_GROWTH = 0.05
ROUNDS = 8


def test_memory_is_flat(tmp_path: Path) -> None:
    # A process of its own: what other tests left in ours would be measured too.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        samples, held = worker.submit(_read_attachments, tmp_path).result()
    assert len(samples) == ROUNDS
    early, late = median(samples[1 : ROUNDS // 2]), median(samples[ROUNDS // 2 :])
    assert late < early * (1 + MOST_GROWTH), f"from {early / MEBIBYTE:.1f} to {late / MEBIBYTE:.1f} MiB"
    assert max(samples) < early * (1 + MOST_GROWTH), [sample // MEBIBYTE for sample in samples]
    assert max(held) <= min(held) + IN_FLIGHT, held


def _read_attachments(directory: Path) -> tuple[list[int], list[int]]:
    """Resident bytes, and how many files are open, after each round of attachments."""
    sizes = random.Random(1)
    samples: list[int] = []
    held: list[int] = []
    trim = ctypes.CDLL(None).malloc_trim

    async def work(handler: EphemeralAttachmentHandler, numbers: Iterator[int]) -> None:
        for number in numbers:
            name = list(MAKERS)[number % len(MAKERS)]
            size = int(MEBIBYTE * 49 ** sizes.random()) if number % 4 == 0 else sizes.randrange(200_000)
            payload = MAKERS[name](size, secrets.token_bytes(32))
            await handler.process_attachment(blocks(payload), None, filename=name, ocr=False)

    async def run() -> None:
        async with EphemeralAttachmentHandler(PoolConfig(directory)) as handler:
            for _ in range(ROUNDS):
                numbers = iter(range(ATTACHMENTS // ROUNDS))
                await asyncio.gather(*(work(handler, numbers) for _ in range(IN_FLIGHT)))
                gc.collect()
                trim(0)  # what the allocator keeps to give it out again is not in use
                samples.append(resident_bytes(os.getpid()))
                held.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))

    asyncio.run(run())
    return samples, held
