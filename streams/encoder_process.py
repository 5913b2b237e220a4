"""An encoder in a process of its own, which lets everybody else go first.

    python -m streams.encoder_process ENCODER

Embedding takes all that the processors have left. Where sessions share them (autogroup, sched(7)), it would
take that from its own session: in the index worker's process, new mail would wait for the event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import numpy as np

from connectors.encoder import model_name, open_encoder
from connectors.errors import ConfigurationError, MailstreamError
from schemas.mapping import VECTOR_DIMENSIONS
from streams.turns import yield_to_others

if TYPE_CHECKING:
    from numpy.typing import NDArray

# See nice(1): behind new mail and the servers, before OCR.
NICENESS = 3
_VECTOR_BYTES = 4 * VECTOR_DIMENSIONS


class EncoderProcess:
    """The encoder called ``name``, used as an async context. Its process starts with the first text."""

    def __init__(self, name: str) -> None:
        self.name = model_name(name)
        self._called = name
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            await asyncio.to_thread(self._process.wait)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``. What kills its process kills this one, as it would without: ``Attempts`` counts
        the deaths of a worker. Raises MailstreamError where the process ends in another way."""
        wanted_bytes = len(texts) * _VECTOR_BYTES
        with self._turn:
            process = self._process = self._process or _start(self._called)
            assert process.stdin is not None and process.stdout is not None, "they are pipes"
            try:
                process.stdin.write(json.dumps(list(texts)).encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.read(wanted_bytes)
            except BrokenPipeError:
                answer = b""
        if len(answer) < wanted_bytes:
            code = process.wait()
            if code < 0:
                os.kill(os.getpid(), -code)
            raise MailstreamError(f"the process that embeds ended with {code}")
        return np.frombuffer(answer, dtype=np.float32).reshape(len(texts), VECTOR_DIMENSIONS)


def _start(name: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.encoder_process", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    yield_to_others(process.pid, NICENESS)
    return process


def main(name: str) -> None:
    """A line of JSON with texts in, their vectors as float32 out, until nobody writes any more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's own words are no vectors
    try:
        encoder = open_encoder(name)
    except ConfigurationError as error:
        sys.exit(str(error))  # it says what to do
    for line in sys.stdin.buffer:
        vectors = np.ascontiguousarray(encoder.encode(json.loads(line)), dtype=np.float32)
        answers.write(vectors.tobytes())
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
