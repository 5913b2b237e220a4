"""What runs below this test, as /proc tells it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path


def descendants(root: int | None = None) -> list[int]:
    """Process ids below ``root`` (this process), the dead that nobody has asked after left out."""
    root = root or os.getpid()
    processes = {pid: (parent, state) for pid, parent, state in _processes()}
    below = {root}
    # Through the dead, too: what they leave behind has another parent only a moment later.
    while more := {pid for pid, (parent, _) in processes.items() if parent in below} - below:
        below |= more
    return sorted(pid for pid in below - {root} if processes[pid][1] not in ("Z", "X"))


def _processes() -> Iterator[tuple[int, int, str]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text("latin-1").rpartition(")")[2].split()[:2]
        except OSError:  # gone meanwhile
            continue
        yield int(path.parent.name), int(parent), state


def runs(pid: int) -> bool:
    """Whether there is such a process, and it is not dead and unasked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may go between opening and reading
        return False


def wait_until_gone(*pids: int) -> None:
    """Fail when one of them is still there, dead or not, after twenty seconds; the kernel sends no event."""
    deadline = time.monotonic() + 20
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"{left} outlived their owner"
        time.sleep(0.02)


def program(pid: int) -> str:
    """The program's name, cut to 15 letters; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def resident_bytes(pid: int) -> int:
    """Memory of the process that is its own and in use (anonymous pages); 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
