"""Which events were being worked on when the process died: a small file that outlives it.

An exception is handled where it is raised. This is for what leaves no exception: out of memory, a crash in C,
SIGKILL. An event that three processes died on is poison.
"""

import asyncio
import fcntl
import itertools
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from connectors.errors import MailstreamError
from connectors.kafka import Record

MAX_DEATHS = 3


class WorkerKilledError(MailstreamError):
    """An event that took several processes with it."""

    def __init__(self, deaths: int) -> None:
        super().__init__(f"{deaths} processes died on this event")


def event_of(record: Record) -> str:
    """What an event is counted by: its place."""
    return f"{record.topic}/{record.partition}/{record.offset}"


class Attempts:
    """Counts process deaths by event. ``path`` must survive the process, not the machine.

    Two workers with one directory take files of their own: the first that no living process holds.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._lock = _claim(path)
        self._deaths = self._load()
        self._running: set[str] = set()
        # What was in flight at a death is tried alone, so that an innocent neighbour is not blamed twice.
        self.alone = asyncio.Lock()
        self._save()

    def _load(self) -> dict[str, int]:
        try:
            known = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        deaths = {event: count for event, count in known["deaths"].items() if event not in known["running"]}
        return deaths | {event: known["deaths"].get(event, 0) + 1 for event in known["running"]}

    def _save(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps({"deaths": self._deaths, "running": sorted(self._running)}))
        temporary.replace(self._path)

    def deaths(self, event: str) -> int:
        """How many processes have died on ``event``."""
        return self._deaths.get(event, 0)

    @asynccontextmanager
    async def track(self, event: str) -> AsyncIterator[int]:
        """Work on ``event`` inside; gives how many processes have died on it."""
        deaths = self.deaths(event)
        if deaths:
            async with self.alone:
                async with self.track_together([event]):
                    yield deaths
        else:
            async with self.track_together([event]):
                yield 0

    @asynccontextmanager
    async def track_together(self, events: Collection[str]) -> AsyncIterator[None]:
        """Work on ``events`` at once inside. A death counts for each of them."""
        self._running.update(events)
        self._save()
        try:
            yield
            for event in events:
                self._deaths.pop(event, None)
        finally:
            # Also after an exception or a cancellation: the process is alive, nobody died.
            self._running.difference_update(events)
            self._save()


def _claim(path: Path) -> tuple[Path, IO[str]]:
    """The first of ``path``, ``path.1``, ... that nobody holds, and the lock that keeps it until we die."""
    for number in itertools.count():
        claimed = path.with_suffix(f".{number}{path.suffix}") if number else path
        lock = claimed.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return claimed, lock
    raise AssertionError("counting does not end")
