"""The memory and processor time of processes and all that descends from them, out of ``/proc``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from benchmarks.costs import Process, read_processes

# A look costs some ten milliseconds of a processor, in this very process: of the engine, when it is measured.
SAMPLE_SECONDS = 0.5


class Footprint:
    """While its context is open: the most memory (MiB; what processes share counts once), and the processor
    seconds that were spent, by ``roots`` and all below them but for ``without``. May be entered again, and
    goes on counting."""

    def __init__(
        self, roots: Callable[[], Sequence[int]], without: Callable[[], Sequence[int]] = tuple
    ) -> None:
        self._roots = roots
        self._without = without
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: dict[int, float] = {}
        self._seen: dict[int, Process] = {}
        self.memory_mib = 0.0
        self.processor_seconds = 0.0

    def __enter__(self) -> Self:
        self._before = {process.pid: _spent(process) for process in _family(self._roots(), self._without())}
        self._seen = {}
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None, "it was entered"
        self._thread.join()
        alive = self._look()
        self.processor_seconds += sum(
            _spent(process) - self._before.get(process.pid, 0.0)
            for process in self._seen.values()
            # Who waited for a child has the child's seconds among its own.
            if process.pid in alive or process.parent not in alive or _forgets_children(process.parent)
        )

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> set[int]:
        there = {process.pid: process for process in _family(self._roots(), self._without())}
        self._seen |= there
        self.memory_mib = max(self.memory_mib, sum(map(_memory_mib, there)))
        return set(there)


def _family(roots: Sequence[int], without: Sequence[int]) -> list[Process]:
    """The processes that are there now: the roots and their descendants, but for those of ``without``."""
    processes = read_processes()
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, waiting = [], [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        if pid not in without:
            found.append(processes[pid])
            waiting += children.get(pid, [])
    return found


def _spent(process: Process) -> float:
    """Its own seconds, and those of children it has waited for."""
    return process.seconds + process.children_seconds


def _forgets_children(pid: int) -> bool:
    """Whether the kernel buries its children, and counts their seconds nowhere."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    [ignored] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(ignored, 16) >> (signal.SIGCHLD - 1) & 1)


def _memory_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # ended meanwhile
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
