"""What a pipeline costs, seen from outside: processor seconds and memory by what the processes do.

``/proc`` is looked at some times a second. Parsers, tesseract and what embeds patiently are processes of
their own; in the index worker every thread but the event loop's serves the model (Kafka's, which is small,
counts there too).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

SAMPLE_SECONDS = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")
PARSING, OCR, EMBEDDING = "parsing", "OCR", "embedding"
WORK = (PARSING, OCR, EMBEDDING)
SERVERS = ("Elasticsearch", "Kafka")
# Below this part of a core, none of the three is at work.
IDLE_CORES = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/PID/stat``: seconds of its own, and of its children that have ended."""

    pid: int
    parent: int
    name: str
    seconds: float
    children_seconds: float
    memory_mib: float


@dataclass
class Costs:
    """Processor seconds by part, over ``seconds``; ``idle_seconds`` in which no part of WORK was at work;
    the most memory (MiB resident, shared pages included) of each process."""

    seconds: float = 0.0
    idle_seconds: float = 0.0
    processor: Counter[str] = field(default_factory=Counter)
    memory_mib: dict[str, float] = field(default_factory=dict)

    def share(self, *names: str) -> float:
        """Which part (0-1) of the processor seconds these parts took."""
        total = sum(self.processor.values())
        return sum(self.processor[name] for name in names) / total if total else 0.0


class Meter:
    """Measures while its context is open. ``roots`` are the processes by name; what they start is theirs."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = dict(roots)
        self.costs = Costs()
        self._seen: dict[tuple[int, str], float] = {}  # by process and part; those that ended stay
        self._tesseracts = 0.0  # of those that run; what has ended is told by the parser that ran it
        self._begun: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._begun = self._totals()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        begun = last = time.monotonic()
        before = self._totals()
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()
            now, totals = time.monotonic(), self._totals()
            if sum(totals[name] - before[name] for name in WORK) < IDLE_CORES * (now - last):
                self.costs.idle_seconds += now - last
            last, before = now, totals
        self._sample()
        self.costs.seconds = time.monotonic() - begun
        self.costs.processor = self._totals()
        self.costs.processor.subtract(self._begun)

    def _totals(self) -> Counter[str]:
        totals: Counter[str] = Counter({OCR: self._tesseracts})
        for (_, part), seconds in self._seen.items():
            totals[part] += seconds  # type: ignore[assignment]
        return totals

    def _sample(self) -> None:
        processes = read_processes()
        children: dict[int, list[int]] = defaultdict(list)
        for process in processes.values():
            children[process.parent].append(process.pid)
        self._tesseracts = 0.0
        roots = set(self._roots.values())
        for name, root in self._roots.items():
            waiting = [root]
            while waiting:
                pid = waiting.pop()
                if pid in processes:
                    self._note(name, root, processes[pid])
                    waiting += [child for child in children[pid] if child not in roots]

    def _note(self, name: str, root: int, process: Process) -> None:
        memory_of = name
        embeds = name.partition("-")[0] == "index"  # the second of them is index-2
        if process.name == "tesseract":
            self._tesseracts += process.seconds
            memory_of = f"a tesseract of {name}"
        elif process.pid == root:
            loop_seconds = _main_thread_seconds(root) if embeds else process.seconds
            self._seen[root, name] = loop_seconds
            if embeds:
                self._seen[root, EMBEDDING] = process.seconds - loop_seconds
        elif embeds:
            self._seen[process.pid, EMBEDDING] = process.seconds
            memory_of = f"an encoder of {name}"
        else:
            self._seen[process.pid, PARSING] = process.seconds
            self._seen[process.pid, OCR] = process.children_seconds
            memory_of = f"a parser of {name}"
        self.costs.memory_mib[memory_of] = max(self.costs.memory_mib.get(memory_of, 0.0), process.memory_mib)


def processor_seconds(*pids: int) -> float:
    """What these processes have spent so far, without their children."""
    return sum(process.seconds for pid in pids if (process := _process(Path(f"/proc/{pid}/stat"))))


def read_processes() -> dict[int, Process]:
    """What runs on this machine, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (process := _process(entry / "stat")) is not None:
            found[process.pid] = process
    return found


def _main_thread_seconds(pid: int) -> float:
    process = _process(Path(f"/proc/{pid}/task/{pid}/stat"))
    return process.seconds if process is not None else 0.0


def _process(stat: Path) -> Process | None:
    try:
        line = stat.read_text(errors="replace")
    except OSError:
        return None  # it has just ended
    before, _, after = line.rpartition(")")
    pid, _, name = before.partition(" (")
    fields = after.split()
    own, children = (sum(map(int, fields[place : place + 2])) / _TICKS for place in (11, 13))
    memory_mib = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Process(int(pid), int(fields[1]), name, own, children, memory_mib)
