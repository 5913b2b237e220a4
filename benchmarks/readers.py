"""Who reads documents in ``benchmarks.extraction``: the engine, Tika's server, and three Python libraries.

Each is a context manager, started and warm when it is entered, and reads two files at a time. The libraries
live in a virtual environment of their own below the user's cache: they belong to no deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks import tika
from benchmarks.environments import environment
from cli.processes import engine
from cli.settings import settings
from devstack.programs import DevstackError

PACKAGES = (
    "unstructured[pdf,image,docx,doc,ppt,pptx,xlsx,csv,tsv,epub,md,msg,odt,rtf,rst,org]==0.27.32",
    "kreuzberg==4.10.4",
    "markitdown[pdf,docx,pptx,xlsx,xls,outlook]==0.1.9",
)
LIBRARIES = ("unstructured", "kreuzberg", "markitdown")
AT_ONCE = 2
# A library that takes longer over one file is ended and started again.
FILE_SECONDS = 120.0
_WARM = b"<html><body><p>A first document, which nobody counts.</p></body></html>"


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of one file."""

    text: str
    outcome: str
    seconds: float


class Reader(Protocol):
    """Reads files; ``processes`` are those that work for it, and all that descends from them."""

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def read(self, files: Sequence[Path]) -> dict[Path, Reading]: ...
    def processes(self) -> list[int]: ...


class Engine:
    """Mailstream's own, as the workers run it: two parser processes and the event loop of this process."""

    name = "mailstream"

    def __init__(self, ocr: bool) -> None:
        self._ocr = ocr
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> Self:
        self._handler = self._runner.run(self._stack.enter_async_context(engine(settings())))
        self._runner.run(self._read([(Path("first.html"), _WARM), (Path("second.html"), _WARM)]))
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def processes(self) -> list[int]:
        return [os.getpid()]

    def read(self, files: Sequence[Path]) -> dict[Path, Reading]:
        return self._runner.run(self._read([(file, None) for file in files]))

    async def _read(self, files: Sequence[tuple[Path, bytes | None]]) -> dict[Path, Reading]:
        readings: dict[Path, Reading] = {}
        waiting = iter(files)

        async def work() -> None:
            for file, payload in waiting:
                started = time.monotonic()
                result = await self._handler.process_attachment(
                    file.read_bytes() if payload is None else payload, None, filename=file.name, ocr=self._ocr
                )
                seconds = time.monotonic() - started
                readings[file] = Reading(text_of(result), result.outcome.value, seconds)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return readings


def text_of(result: Any) -> str:
    """A file's text: that of all documents in it, and their names, which Tika writes into its text."""
    documents = list(result.walk())
    names = [document.metadata.filename or "" for document in documents[1:]]
    return "\n".join([*names, *(document.text for document in documents)])


class TikaServer:
    """Tika's server as it comes, asked by two threads; without ``ocr`` it finds no tesseract."""

    name = "Tika server"

    def __init__(self, ocr: bool) -> None:
        self._ocr = ocr
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._server = self._stack.enter_context(tika.server(ocr=self._ocr))
        self._threads = self._stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        list(self._threads.map(lambda _: tika.read_text(self._server.address, _WARM, "a.html"), range(4)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def processes(self) -> list[int]:
        return [self._server.pid]

    def read(self, files: Sequence[Path]) -> dict[Path, Reading]:
        return dict(zip(files, self._threads.map(self._one, files), strict=True))

    def _one(self, file: Path) -> Reading:
        started = time.monotonic()
        text, failed = tika.ask(self._server.address, file.read_bytes(), file.name)
        return Reading(text, outcome(text, failed), time.monotonic() - started)


class Library:
    """A Python library in two processes of its own."""

    def __init__(self, name: str, ocr: bool) -> None:
        self.name = name
        script = Path(__file__).with_name("library_reader.py")
        self._command = [str(environment("readers", PACKAGES)), str(script), name, str(int(ocr))]
        self._running: list[subprocess.Popen[str]] = []
        self._free: queue.Queue[subprocess.Popen[str]] = queue.Queue()

    def __enter__(self) -> Self:
        self._running = [self._start() for _ in range(AT_ONCE)]
        for process in self._running:
            self._free.put(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def processes(self) -> list[int]:
        return [process.pid for process in self._running]

    def read(self, files: Sequence[Path]) -> dict[Path, Reading]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return dict(zip(files, threads.map(self._one, files), strict=True))

    def _one(self, file: Path) -> Reading:
        process = self._free.get()
        started = time.monotonic()
        answer = _ask(process, f"{file}\n", FILE_SECONDS)
        if answer is None:
            process.wait()
            self._running.remove(process)
            process = self._start()
            self._running.append(process)
            answer = {"text": "", "failed": "died or timed out"}
        self._free.put(process)
        return Reading(answer["text"], outcome(answer["text"], answer["failed"]), time.monotonic() - started)

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # two processes for two cores, like ours
        )
        if _ask(process, "", FILE_SECONDS) is None:
            raise DevstackError(f"{self.name} does not start: {' '.join(self._command)}")
        return process


def _ask(process: subprocess.Popen[str], line: str, seconds: float) -> dict[str, Any] | None:
    """The process's answer; None, and its end, where it gives none in time."""
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        process.stdin.write(line)
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        return None
    finally:
        timer.cancel()
    return json.loads(answer) if answer else None


def outcome(text: str, failed: str) -> str:
    """A competitor's outcome in our words."""
    return "failed" if failed else "text" if text.strip() else "empty"


def summed(readings: Sequence[Reading]) -> str:
    """Outcomes, the most frequent first."""
    counted = Counter(reading.outcome for reading in readings)
    return ", ".join(f"{name} {count}" for name, count in counted.most_common())
