"""Where bytes of attachments could have stayed: files of disk file systems, and what processes hold open."""

import base64
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

MEBIBYTE = 1024 * 1024
_MEMORY = {"tmpfs", "devtmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"}
_BLOCK_BYTES = 4 * MEBIBYTE


def needles(marker: bytes) -> tuple[bytes, ...]:
    """The marker as it would stand in a file, in JSON or in a mail."""
    found = [marker, marker.decode("latin-1").encode(), marker.hex().encode()]
    for skipped in range(3):
        # whatever stands before it: the part of the base64 that the marker alone decides
        coded = base64.b64encode(bytes(skipped) + marker)[4 if skipped else 0 :][: len(marker)]
        found += [coded, coded.replace(b"+", b"-").replace(b"/", b"_")]
    return tuple(found)


def disk_files(since: float, *own: Path, everywhere: bool = False) -> Iterator[Path]:
    """Files of disk file systems that changed since then: all below ``own``; of the places that everybody
    writes to what appeared there, or with ``everywhere`` all that the system's disk has."""
    yield from _changed(own, since)
    if everywhere:
        yield from _changed([Path("/")], since)
        return
    for shared in {tempfile.gettempdir(), "/tmp", "/var/tmp", str(Path.cwd()), str(Path.home() / ".cache")}:
        with suppress(FileNotFoundError):
            yield from _changed([path for path in Path(shared).iterdir() if _born_since(path, since)], since)


def _changed(roots: Iterable[Path], since: float) -> Iterator[Path]:
    in_memory = _memory_devices("self")
    for root in roots:
        if not root.is_dir():
            yield from (root,) if root.is_file() and not root.is_symlink() else ()
            continue
        device = root.stat().st_dev
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if _device(Path(folder, name)) == device]
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):
                    status = path.lstat()
                    if status.st_ctime >= since and path.is_file() and status.st_dev not in in_memory:
                        yield path


def _device(path: Path) -> int:
    try:
        return path.lstat().st_dev
    except OSError:
        return -1


def _born_since(path: Path, since: float) -> bool:
    try:
        return path.lstat().st_ctime >= since
    except OSError:
        return False


def open_on_disk(pids: Iterable[int]) -> Iterator[Path]:
    """What these processes hold open on a disk, with a name or without."""
    for pid in pids:
        in_memory = _memory_devices(str(pid))
        for path in _descriptors(pid):
            with suppress(OSError):
                target, on_disk = str(path.readlink()), path.stat().st_dev not in in_memory
                named = target.startswith("/") and not target.startswith(("/memfd:", "/dev/"))
                if named and on_disk and path.is_file():
                    yield path


def payloads_in_flight(pid: int) -> list[int]:
    """Sizes of the attachments that a worker has in files of memory, those of a MiB and more."""
    sizes = []
    for path in _descriptors(pid):
        with suppress(OSError):
            if str(path.readlink()).startswith("/memfd:attachment") and path.stat().st_size >= MEBIBYTE:
                sizes.append(path.stat().st_size)
    return sizes


def holding(paths: Iterable[Path], wanted: tuple[bytes, ...]) -> list[str]:
    """Those of the files in which one of the byte strings stands."""
    return sorted({str(path) for path in paths if _holds(path, wanted)})


def _holds(path: Path, wanted: tuple[bytes, ...]) -> bool:
    overlap = max(map(len, wanted))
    try:
        with path.open("rb") as file:
            rest = b""
            while block := file.read(_BLOCK_BYTES):
                block = rest + block
                if any(needle in block for needle in wanted):
                    return True
                rest = block[-overlap:]
    except OSError:  # gone meanwhile, or a device
        pass
    return False


def _descriptors(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []


def _memory_devices(pid: str) -> set[int]:
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    devices = set()
    for line in lines:
        fields = line.split()
        if fields[fields.index("-") + 1] in _MEMORY:
            major, minor = map(int, fields[2].split(":"))
            devices.add(os.makedev(major, minor))
    return devices
