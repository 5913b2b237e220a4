"""OLE containers ([MS-CFB]), a file system in a file: reading one, and writing one for a part of it."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

import olefile

from schemas.outcomes import Outcome
from streams.extractors import magic
from streams.extractors.result import Document, ExtractionError

_SECTOR = 512
_PER_SECTOR = _SECTOR // 4
_FREE, _END, _FAT, _DIFAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
_NONE = 0xFFFFFFFF
_HEADER_DIFAT = 109
Streams = dict[tuple[str, ...], bytes]


def read(document: Document) -> Streams:
    """Every stream by its path. Damaged ones are left out. Raises ExtractionError."""
    try:
        with olefile.OleFileIO(io.BytesIO(document.payload)) as ole:
            found: Streams = {}
            for path in ole.listdir(streams=True, storages=False):
                document.budget.unpack(ole.get_size(path))
                try:
                    found[tuple(path)] = ole.openstream(path).read()
                except (OSError, ValueError, IndexError, struct.error):
                    document.truncated = True
            return found
    except (OSError, ValueError, IndexError, TypeError, struct.error) as error:
        raise ExtractionError(Outcome.CORRUPT) from error


def below(streams: Streams, folder: tuple[str, ...]) -> Streams:
    """The streams of a storage, as if it were a file of its own."""
    depth = len(folder)
    return {path[depth:]: data for path, data in streams.items() if path[:depth] == folder}


def write(streams: Streams) -> bytes:
    """A container with these streams, each in whole sectors (no mini stream)."""
    sectors: list[bytes] = []
    fat: list[int] = []

    def store(data: bytes) -> int:
        start = len(sectors)
        blocks = [data[at : at + _SECTOR].ljust(_SECTOR, b"\0") for at in range(0, len(data), _SECTOR)]
        sectors.extend(blocks)
        fat.extend(range(start + 1, start + len(blocks)))
        fat.append(_END)
        return start

    # Streams below this size must be in the mini stream, unless they are as long as this.
    padded = {path: data.ljust(4096, b"\0") if data else data for path, data in streams.items()}
    starts = {path: store(data) if data else _END for path, data in padded.items()}
    directory_start = store(_directory(padded, starts))
    return _with_tables(sectors, fat, directory_start)


def _directory(streams: Streams, starts: Mapping[tuple[str, ...], int]) -> bytes:
    """The entries of streams and of the folders they are in, each with its next sibling and first child."""
    folders = {path[:depth] for path in streams for depth in range(len(path))}
    entries = [(), *sorted((folders | streams.keys()) - {()}, key=lambda path: (len(path), path))]
    numbers = {path: number for number, path in enumerate(entries)}
    directory = b""
    for path in entries:
        is_stream = path in streams
        siblings = _siblings(entries, path)
        after = siblings[siblings.index(path) + 1 :] if path else []
        children = [other for other in entries if len(other) == len(path) + 1 and other[: len(path)] == path]
        first = min(children, key=_order) if children and not is_stream else None
        name = (path[-1] if path else "Root Entry").encode("utf-16-le")[:62] + b"\0\0"
        directory += struct.pack(
            "<64sHBBIII16sIQQIQ",
            name,
            len(name),
            2 if is_stream else 1 if path else 5,
            1,
            _NONE,
            numbers[after[0]] if after else _NONE,
            numbers[first] if first is not None else _NONE,
            b"",
            0,
            0,
            0,
            starts[path] if is_stream else (_END if not path else 0),
            len(streams[path]) if is_stream else 0,
        )
    return directory


def _with_tables(sectors: list[bytes], fat: list[int], directory_start: int) -> bytes:
    """Header, sectors, and the tables that say which sector follows which."""
    # The table has an entry for each of its own sectors, and of those that list it, too.
    fat_count = difat_count = 0
    while True:
        need = -(-(len(fat) + fat_count + difat_count) // _PER_SECTOR)
        listed = max(-(-(need - _HEADER_DIFAT) // (_PER_SECTOR - 1)), 0)
        if (need, listed) == (fat_count, difat_count):
            break
        fat_count, difat_count = need, listed
    fat_at = len(sectors)
    difat_at = fat_at + fat_count
    fat.extend([_FAT] * fat_count + [_DIFAT] * difat_count)
    fat.extend([_FREE] * (fat_count * _PER_SECTOR - len(fat)))
    table = struct.pack(f"<{len(fat)}I", *fat)
    numbers_of_fat = list(range(fat_at, fat_at + fat_count))
    rest, difat = numbers_of_fat[_HEADER_DIFAT:], b""
    for number in range(difat_count):
        part = rest[number * (_PER_SECTOR - 1) : (number + 1) * (_PER_SECTOR - 1)]
        part += [_FREE] * (_PER_SECTOR - 1 - len(part))
        part.append(difat_at + number + 1 if number + 1 < difat_count else _END)
        difat += struct.pack(f"<{_PER_SECTOR}I", *part)
    in_header = numbers_of_fat[:_HEADER_DIFAT]
    in_header += [_FREE] * (_HEADER_DIFAT - len(in_header))
    header = struct.pack(
        "<8s16sHHHHH6xIIIIIIIII109I",
        *(magic.OLE, b"", 0x3E, 3, 0xFFFE, 9, 6, 0, fat_count, directory_start, 0, 4096, _END, 0),
        *(difat_at if difat_count else _END, difat_count, *in_header),
    )
    return header + b"".join(sectors) + table + difat


def _order(path: tuple[str, ...]) -> tuple[int, str]:
    return len(path[-1]), path[-1].upper()


def _siblings(entries: list[tuple[str, ...]], path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """In the order of [MS-CFB]: by length, then by letters; linked as a list, which is a valid tree."""
    if not path:
        return [path]
    return sorted((e for e in entries if len(e) == len(path) and e[:-1] == path[:-1]), key=_order)
