"""A worker that does nothing but read large attachments, run as a process of its own by the kill tests.

    python -m tests.attachments_worker DIRECTORY SEED MARKER_HEX

Each payload is full of the marker, between random bytes that no parser makes text of.
"""

import asyncio
import io
import os
import random
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from schemas.outcomes import Outcome
from streams.ephemeral import EphemeralAttachmentHandler
from streams.extractors.limits import MEBIBYTE
from streams.parser_pool import PoolConfig

IN_FLIGHT = 3
_STREAMED_FROM_BYTES = 10 * MEBIBYTE


def noise(size_bytes: int, marker: bytes) -> bytes:
    """Incompressible bytes with the marker in every 4 kB."""
    run = b"".join(os.urandom(4_096) + marker for _ in range(256))
    return (run * (size_bytes // len(run) + 1))[:size_bytes]


def pdf(size_bytes: int, marker: bytes) -> bytes:
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length 39>>stream\nBT /F1 12 Tf 72 720 Td (the quay) Tj ET\nendstream",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Length %d>>stream\n%s\nendstream" % (size_bytes, noise(size_bytes, marker)),
    ]
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % item for item in enumerate(objects, start=1))
    return b"%PDF-1.4\n" + body + b"trailer<</Size 7/Root 1 0 R>>\n%%EOF"


def archive(size_bytes: int, marker: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("quay.txt", "the quay")
        opened.writestr("noise.bin", noise(size_bytes, marker))
    return file.getvalue()


MAKERS: dict[str, Callable[[int, bytes], bytes]] = {"a.bin": noise, "a.pdf": pdf, "a.zip": archive}


def size_of(source: random.Random) -> int:
    """1 to 49 MiB, small ones more often, as in mail."""
    return int(MEBIBYTE * 49 ** source.random())


async def blocks(payload: bytes) -> AsyncIterator[bytes]:
    """A payload as it comes from a stream."""
    for start in range(0, len(payload), 256 * 1024):
        yield payload[start : start + 256 * 1024]
        await asyncio.sleep(0)


async def main(directory: Path, seed: int, marker: bytes) -> None:
    source = random.Random(seed)

    async def work(handler: EphemeralAttachmentHandler) -> None:
        while True:
            name = source.choice(list(MAKERS))
            payload = await asyncio.to_thread(MAKERS[name], size_of(source), marker)
            sys.stdout.write("begin\n")
            sys.stdout.flush()
            whole = len(payload) < _STREAMED_FROM_BYTES
            result = await handler.process_attachment(
                payload if whole else blocks(payload), None, filename=name, ocr=False
            )
            if result.outcome not in (
                Outcome.TEXT,
                Outcome.UNSUPPORTED,
                Outcome.CONTAINER,
                Outcome.TIMED_OUT,
            ):
                raise RuntimeError(f"{name} of {len(payload)} bytes ended as {result.outcome}")
            sys.stdout.write("end\n")
            sys.stdout.flush()

    async with EphemeralAttachmentHandler(PoolConfig(directory)) as handler:
        await asyncio.gather(*(work(handler) for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])))
