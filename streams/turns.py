"""Who goes next where few may go at once: what is urgent before what is not, each in its order; and which
process lets others have the processors."""

import asyncio
import heapq
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class Turns:
    """``slots`` go side by side; ``reserved`` more are for what is urgent. Belongs to one event loop."""

    def __init__(self, slots: int, reserved: int = 0) -> None:
        self._free = slots + reserved
        self._reserved = reserved
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def take(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the context."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not urgent, next(self._numbers), turn))
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._end()  # it came in the very moment in which nobody wanted it any more
            raise
        try:
            yield
        finally:
            self._end()

    def _end(self) -> None:
        self._free += 1
        self._give()

    def _give(self) -> None:
        while self._waiting:
            patient, _, turn = self._waiting[0]
            if not turn.done():
                if self._free <= (self._reserved if patient else 0):
                    return
                self._free -= 1
                turn.set_result(None)
            heapq.heappop(self._waiting)


def yield_to_others(pid: int, niceness: int) -> None:
    """For the process and all that it will start. Where sessions share the processors (autogroup, sched(7)),
    a session's niceness counts, not its processes'."""
    if niceness:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + niceness)
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
