"""A folder into which people drop .eml files: each becomes a new message in the inbox."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from devstack.gmail.store import Mailbox

SCAN_SECONDS = 0.3


class DropFolder:
    """Files in ``path`` go to the first mailbox; files in ``path/<address>`` to that address's.

    A file is taken once its size has stayed the same between two scans, and stays where it is. A file that
    is written again counts as a new one.
    """

    def __init__(self, path: Path, mailboxes: dict[str, Mailbox], clock: Callable[[], float]) -> None:
        self._path = path
        self._mailboxes = mailboxes
        self._clock = clock
        self._seen: dict[Path, tuple[int, int]] = {}
        self._taken: dict[Path, tuple[int, int]] = {}

    def create(self) -> None:
        """Make the folder if it is missing. Raises OSError."""
        self._path.mkdir(parents=True, exist_ok=True)

    def scan(self) -> int:
        """Look once; returns how many messages came in."""
        added = 0
        for folder, mailbox in self._folders():
            for file in sorted(folder.glob("*.[eE][mM][lL]")):
                try:
                    status = file.stat()
                    version = (status.st_mtime_ns, status.st_size)
                    steady = self._seen.get(file) == version
                    self._seen[file] = version
                    if not steady or self._taken.get(file) == version or not status.st_size:
                        continue
                    content = file.read_bytes()
                except OSError:
                    continue  # gone again, or not yet readable: the next scan decides
                self._taken[file] = version
                mailbox.add(content, now=self._clock())
                added += 1
        return added

    def _folders(self) -> list[tuple[Path, Mailbox]]:
        first = next(iter(self._mailboxes.values()))
        return [(self._path, first), *((self._path / name, box) for name, box in self._mailboxes.items())]

    async def watch(self) -> None:
        """Scan until cancelled."""
        while True:
            self.scan()
            await asyncio.sleep(SCAN_SECONDS)
