"""The bytes of attachments while they are read: in memory, without a name, and only so many at once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from streams.extractors.limits import MEBIBYTE

# Hashing and copying a larger block takes milliseconds: a thread does it, the event loop goes on.
_THREAD_FROM_BYTES = 1 * MEBIBYTE


class Held:
    """Bytes on their way to a parser, in a file of memory that has no name, and their hash."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.memfd_create("attachment", os.MFD_CLOEXEC), "r+b", buffering=0)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hex."""
        return self._hash.hexdigest()

    async def write(self, block: bytes | memoryview) -> None:
        """Append; a large block in a thread."""
        if len(block) < _THREAD_FROM_BYTES:
            self._write(block)
        else:
            # Shielded by being waited out: a thread must not write to what has been closed.
            await _to_its_end(asyncio.to_thread(self._write, block))

    def _write(self, block: bytes | memoryview) -> None:
        self._hash.update(block)
        self.size_bytes += len(block)
        rest = memoryview(block).cast("B")
        while rest:
            rest = rest[self._file.write(rest) :]

    @contextlib.contextmanager
    def view(self) -> Iterator[memoryview]:
        """All of it, without a copy, while the context is open."""
        if not self.size_bytes:
            yield memoryview(b"")
            return
        with mmap.mmap(self._file.fileno(), self.size_bytes, prot=mmap.PROT_READ) as mapped:
            with memoryview(mapped) as view:
                yield view

    def descriptor(self) -> int:
        """The file, for a parser process, at its beginning."""
        self._file.seek(0)
        return self._file.fileno()

    def close(self) -> None:
        """Let the memory go."""
        self._file.close()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for ``work`` even when cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class ByteBudget:
    """Bytes in flight over all attachments of the process."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[Reservation]:
        """Wait until ``size`` bytes are free (all of them, where it is more) and hold them meanwhile."""
        reservation = Reservation(self, min(size, self._total))
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= reservation.size)
            self._free -= reservation.size
        try:
            yield reservation
        finally:
            await reservation.shrink(0)

    async def give(self, size: int) -> None:
        """Take back what somebody held."""
        async with self._changed:
            self._free += size
            self._changed.notify_all()


@dataclass(slots=True)
class Reservation:
    """What one attachment holds of the budget."""

    budget: ByteBudget
    size: int

    async def shrink(self, size: int) -> None:
        """Give back what is held above ``size``."""
        surplus, self.size = self.size - min(size, self.size), min(size, self.size)
        await self.budget.give(surplus)
