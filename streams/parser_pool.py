"""Every parser runs in a disposable process: a hang, a crash, a balloon cost one attachment its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from connectors.errors import MailstreamError
from streams.extractors.limits import MEBIBYTE, Limits
from streams.reaper import sweep
from streams.sandbox import PROTECTIONS
from streams.turns import Turns, yield_to_others

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("!I")
MAX_RECORD_BYTES = 128 * MEBIBYTE
# Importing every parser takes seconds, on a busy machine many.
START_SECONDS = 120.0
# How much longer a document may take on a machine that has no processor for it.
BUSY_FACTOR = 4.0
_WORTH_WAITING_SECONDS = 0.1
# Most documents are read within this part of their time: only then is the kernel asked who waits.
_UNASKED_PART = 0.1
PROGRAM = ("-m", "streams.parser_process")
# All that a parser sees of the worker's environment: credentials stand there too.
_ENVIRONMENT = {
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH"),
    *("TESSDATA_PREFIX", "OMP_THREAD_LIMIT"),
}


class ParserDiedError(MailstreamError):
    """The parser process ended in the middle of a document: a crash, or out of memory."""


class ParserTimedOutError(MailstreamError):
    """The parser process did not finish in time and was killed."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """``directory`` must be in memory (tmpfs). Memory is what a parser may use beyond its imports.

    Beside the ``processes`` there may be one more, for what is urgent.
    """

    directory: Path
    processes: int = 2
    memory_bytes: int = 1_536 * MEBIBYTE
    cpu_seconds: int = 1_000
    file_bytes: int = 256 * MEBIBYTE
    jobs_per_process: int = 200  # parsers leak
    niceness: int = 0  # how far others go first, see nice(1)

    @property
    def used_up_cpu_seconds(self) -> float:
        """A process that has used so much takes no further job, which would not have enough left."""
        return self.cpu_seconds / 10


@dataclass(frozen=True, slots=True)
class Job:
    """A document to extract; ``seconds`` from one sign of progress to the next, ``total_seconds`` in all."""

    content_type: str | None
    filename: str | None
    charset: str | None
    ocr: bool
    inline: bool
    limits: Limits
    seconds: float
    total_seconds: float
    languages: str = "eng"  # of OCR, as tesseract takes them: "eng+deu"
    urgent: bool = False  # goes before others that wait for a parser


class _Parser:
    """One parser process, as seen from the pool."""

    def __init__(self, connection: socket.socket, ready: dict[str, Any]) -> None:
        self.connection = connection
        self.pid = int(ready["pid"])
        self.directory = Path(ready["directory"])
        self.protections: list[str] = ready["protections"]
        self.jobs = 0

    def kill(self) -> None:
        """End the process and everything it started, and remove what they had written."""
        self.connection.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The group of those that stayed in it; the others die with their PID namespace.
            os.killpg(self.pid, signal.SIGKILL)
        # The dying go on for a moment: under another name they find the directory no more.
        doomed = self.directory.with_name(f"dead-{self.directory.name}")
        with contextlib.suppress(FileNotFoundError):
            self.directory.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


class ParserPool:
    """A few parser processes, forked from one that has imported everything. Used as an async context."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._forking = asyncio.Lock()
        self._turns = Turns(config.processes, reserved=1)
        self._idle: list[_Parser] = []
        self._busy: set[_Parser] = set()
        self.protections: list[str] = []

    async def __aenter__(self) -> Self:
        sweep(self._config.directory)
        parser = await self._fork()
        self.protections = parser.protections
        self._idle.append(parser)
        log.info("parser protections: %s", ", ".join(self.protections))
        if missing := [name for name in PROTECTIONS if name not in self.protections]:
            log.warning("parser protections that are not to be had here: %s", ", ".join(missing))
        return self

    async def __aexit__(self, *_: object) -> None:
        for parser in (*self._idle, *self._busy):
            parser.kill()
        self._end_nursery()

    async def run(self, job: Job, payload: int) -> AsyncGenerator[dict[str, Any], None]:
        """Extract the file behind the descriptor ``payload``; gives the extractors' records as they come.

        Raises ParserTimedOutError or ParserDiedError; what was given until then is good.
        """
        async with self._turns.take(urgent=job.urgent):
            parser = self._idle.pop() if self._idle else await self._fork()
            self._busy.add(parser)
            healthy = False
            try:
                _send_job(parser, job, payload)
                started = time.monotonic()
                while True:
                    left_seconds = job.total_seconds - (time.monotonic() - started)
                    record = await self._receive(parser, job.seconds, left_seconds)
                    if record["type"] == "done":
                        break
                    yield record
                healthy = record["cpu_seconds"] < self._config.used_up_cpu_seconds
            finally:
                self._busy.discard(parser)
                parser.jobs += 1
                if healthy and parser.jobs < self._config.jobs_per_process:
                    self._idle.append(parser)
                else:
                    parser.kill()

    async def _receive(self, parser: _Parser, seconds: float, left_seconds: float) -> dict[str, Any]:
        """The next record, within ``seconds``. What waits for a processor is not slow: that time does not
        count, up to BUSY_FACTOR times ``seconds`` and within ``left_seconds``."""
        receiving = asyncio.ensure_future(_record(parser.connection))
        began = time.monotonic()
        allowed = min(seconds, left_seconds)
        try:
            if (await asyncio.wait({receiving}, timeout=_UNASKED_PART * allowed))[0]:
                return receiving.result()
            queued = queued_seconds(parser.pid)
            while True:
                timeout = max(began + allowed - time.monotonic(), 0.0)
                done, _ = await asyncio.wait({receiving}, timeout=timeout)
                if done:
                    return receiving.result()
                busy = max(queued_seconds(parser.pid) - queued, 0.0)
                more = min(seconds + busy, seconds * BUSY_FACTOR, left_seconds)
                if more < allowed + _WORTH_WAITING_SECONDS:
                    raise ParserTimedOutError("a parser took too long")
                allowed = more
        except (EOFError, OSError, ValueError) as error:
            raise ParserDiedError("a parser died") from error
        finally:
            receiving.cancel()

    async def _fork(self) -> _Parser:
        async with self._forking:
            if self._nursery is None or self._nursery.poll() is not None:
                self._start_nursery()
            assert self._control is not None, "a nursery has a control socket"
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(START_SECONDS):
                    await loop.sock_sendall(self._control, b".")
                    connection = await loop.run_in_executor(None, _receive_socket, self._control.fileno())
                    ready = await _record(connection)
            except (TimeoutError, EOFError, OSError) as error:
                self._end_nursery()
                raise ParserDiedError("the parser nursery does not start") from error
            return _Parser(connection, ready)

    def _start_nursery(self) -> None:
        self._end_nursery()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        config = self._config
        with theirs:
            self._nursery = subprocess.Popen(
                [
                    *(sys.executable, *PROGRAM, str(theirs.fileno())),
                    *(str(config.directory), str(config.memory_bytes)),
                    *(str(config.cpu_seconds), str(config.file_bytes)),
                ],
                pass_fds=[theirs.fileno()],
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        yield_to_others(self._nursery.pid, config.niceness)
        ours.setblocking(False)
        self._control = ours

    def _end_nursery(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            self._nursery.kill()
            self._nursery.wait()
            self._nursery = None


def _send_job(parser: _Parser, job: Job, payload: int) -> None:
    try:
        # A header is a few hundred bytes: it fits the socket's buffer, so this does not block.
        socket.send_fds(parser.connection, [json.dumps(asdict(job)).encode()], [payload])
    except OSError as error:
        raise ParserDiedError("a parser died between two documents") from error


def queued_seconds(pid: int) -> float:
    """How long a process and all below it have been ready to run and had no processor (see proc(5),
    schedstat); 0 where the kernel does not tell."""
    nanoseconds, below = 0, [pid]
    while below:
        tasks = Path(f"/proc/{below.pop()}/task")
        with contextlib.suppress(OSError, ValueError, IndexError):  # gone meanwhile, or not told
            for task in tasks.iterdir():
                nanoseconds += int((task / "schedstat").read_text().split()[1])
                below += map(int, (task / "children").read_text().split())
    return nanoseconds / 1e9


def _receive_socket(control: int) -> socket.socket:
    """The descriptor that the nursery sends for a new process. Blocks: called in a thread."""
    with socket.socket(fileno=os.dup(control)) as blocking:
        blocking.setblocking(True)
        blocking.settimeout(START_SECONDS)
        data, descriptors, _, _ = socket.recv_fds(blocking, 1, 1)
    if not data or not descriptors:
        raise EOFError
    connection = socket.socket(fileno=descriptors[0])
    connection.setblocking(False)
    return connection


async def _record(connection: socket.socket) -> dict[str, Any]:
    [length] = _LENGTH.unpack(await _exactly(connection, _LENGTH.size))
    if length > MAX_RECORD_BYTES:
        raise ValueError("a record larger than any text")
    record: dict[str, Any] = json.loads(await _exactly(connection, length))
    return record


async def _exactly(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        block = await loop.sock_recv(connection, size - len(data))
        if not block:
            raise EOFError
        data += block
    return bytes(data)
