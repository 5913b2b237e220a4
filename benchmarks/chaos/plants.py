"""What is done to a process before its command begins: its clock is shifted, and a bug may be planted.

The bugs are those that the oracle must find, one for each invariant.
"""

from __future__ import annotations

import datetime
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OFFSET = struct.Struct("d")


class SharedClock:
    """Seconds that every process of a run adds to its wall clock; in a file that they all map."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(_OFFSET.pack(0.0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _OFFSET.size)

    @property
    def offset_seconds(self) -> float:
        """How far the processes' clock is ahead of ours."""
        return float(_OFFSET.unpack_from(self._shared)[0])

    def jump(self, offset_seconds: float) -> None:
        """From now on it is that far ahead."""
        _OFFSET.pack_into(self._shared, 0, offset_seconds)


@dataclass(frozen=True, slots=True)
class Before:
    """Called in a process before its command: shifts its clock, and plants the bug of that name."""

    clock: Path
    bug: str | None = None

    def __call__(self) -> None:
        """Do so."""
        _follow(self.clock)
        if self.bug is not None:
            BUGS[self.bug][1]()


def _follow(path: Path) -> None:
    """Wall clocks go wrong, the monotonic one does not: deadlines and heartbeats stay as they are."""
    import google.auth._helpers

    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), _OFFSET.size, prot=mmap.PROT_READ)
    real = time.time

    def shifted() -> float:
        return real() + float(_OFFSET.unpack_from(shared)[0])

    def utcnow() -> datetime.datetime:
        return datetime.datetime.fromtimestamp(shifted(), datetime.UTC).replace(tzinfo=None)

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)
    google.auth._helpers.utcnow = utcnow


def _ack_early() -> None:
    """An event is acked as it arrives, before its work stands."""
    from streams.settle import _Lanes

    append = _Lanes.append

    def early(self: Any, event: Any) -> Any:
        entry = append(self, event)
        self.finish(entry)
        return entry

    _Lanes.append = early  # type: ignore[method-assign]


def _drop_a_tombstone() -> None:
    """Deletions are taken for done and not written."""
    from schemas.registers import AnyRegister, DeletedRegister
    from streams.documents import Documents

    send = Documents.send

    async def sparing(self: Documents, registers: Sequence[AnyRegister], *, live: bool = False) -> None:
        await send(self, [one for one in registers if not isinstance(one, DeletedRegister)], live=live)

    Documents.send = sparing  # type: ignore[method-assign]


def _leak_a_file() -> None:
    """What was held of an attachment is written to the temporary directory, and left there."""
    from streams.held import Held

    close = Held.close

    def leaking(self: Any) -> None:
        with self.view() as view, os.fdopen(tempfile.mkstemp()[0], "wb") as file:
            file.write(view)
        close(self)

    Held.close = leaking  # type: ignore[method-assign]


def _skip_a_page() -> None:
    """Every fifth page of history that says something is turned unread."""
    from dataclasses import replace

    from connectors.gmail.client import GmailClient

    history_page = GmailClient.history_page
    seen = 0

    async def skipping(self: GmailClient, start_history_id: int, page_token: str | None) -> Any:
        nonlocal seen
        page = await history_page(self, start_history_id, page_token)
        seen += bool(page.entries)
        return replace(page, entries=[]) if page.entries and seen % 5 == 0 else page

    GmailClient.history_page = skipping  # type: ignore[method-assign]


# By name: the process that has it, and how it is planted.
BUGS: dict[str, tuple[str, Callable[[], None]]] = {
    "ack early": ("extract", _ack_early),
    "drop a tombstone": ("extract", _drop_a_tombstone),
    "leak a file": ("extract", _leak_a_file),
    "skip a page": ("source", _skip_a_page),
}


def before(clock: Path, bug: str | None) -> dict[str, Callable[[], None]]:
    """What ``Pipeline`` is to do before each process begins."""
    plain: dict[str, Callable[[], None]] = {"": Before(clock)}
    if bug is not None:
        plain[BUGS[bug][0]] = Before(clock, bug)
    return plain
