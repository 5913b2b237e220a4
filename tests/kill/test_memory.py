"""A worker that reads attachment after attachment needs no more memory for the last than for the first."""

import asyncio
import os
import random
import secrets
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


async def test_memory_is_flat(tmp_path: Path) -> None:
    sizes = random.Random(1)
    samples: list[int] = []
    held: list[int] = []
    async with EphemeralAttachmentHandler(PoolConfig(tmp_path)) as handler:
        numbers = iter(range(ATTACHMENTS))

        async def work() -> None:
            for number in numbers:
                name = list(MAKERS)[number % len(MAKERS)]
                size = int(MEBIBYTE * 49 ** sizes.random()) if number % 4 == 0 else sizes.randrange(200_000)
                await handler.process_attachment(
                    blocks(MAKERS[name](size, secrets.token_bytes(32))), None, filename=name, ocr=False
                )
                samples.append(resident_bytes(os.getpid()))
                held.append(sum(1 for path in Path("/proc/self/fd").iterdir() if path.exists()))

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    quarter = ATTACHMENTS // 4
    assert len(samples) == ATTACHMENTS
    early, late = median(samples[quarter : 2 * quarter]), median(samples[-quarter:])
    assert late < early * (1 + MOST_GROWTH), f"from {early / MEBIBYTE:.1f} to {late / MEBIBYTE:.1f} MiB"
    assert max(held[-quarter:]) <= max(held[:quarter]) + IN_FLIGHT
