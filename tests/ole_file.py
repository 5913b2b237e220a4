"""A writer of OLE containers ([MS-CFB]), as small as one can be: for fixtures of MSG and the like."""

import struct

_SECTOR, _MINI_SECTOR, _CUTOFF = 512, 64, 4096
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_STORAGE, _STREAM, _ROOT = 1, 2, 5

Tree = dict[str, "bytes | Tree"]


def ole_file(tree: Tree) -> bytes:
    """The container: bytes are streams, dicts are storages."""
    entries: list[dict[str, object]] = [{"name": "Root Entry", "kind": _ROOT, "data": b""}]
    _enter(tree, 0, entries)
    mini, mini_fat = b"", list[int]()
    big: list[tuple[dict[str, object], bytes]] = []
    for entry in entries[1:]:
        data = entry["data"]
        assert isinstance(data, bytes)
        if not data:
            continue
        if len(data) >= _CUTOFF:
            big.append((entry, data))
            continue
        entry["start"] = len(mini_fat)
        sectors = -(-len(data) // _MINI_SECTOR)
        mini_fat += [*range(len(mini_fat) + 1, len(mini_fat) + sectors), _END]
        mini += data.ljust(sectors * _MINI_SECTOR, b"\x00")
    entries[0]["data"] = mini
    fat: list[int] = []
    body = b""

    def place(data: bytes) -> int:
        nonlocal body
        if not data:
            return _END
        start, sectors = len(fat), -(-len(data) // _SECTOR)
        fat.extend([*range(start + 1, start + sectors), _END])
        body += data.ljust(sectors * _SECTOR, b"\x00")
        return start

    for entry, data in big:
        entry["start"] = place(data)
    entries[0]["start"] = place(mini)
    packed = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    first_mini_fat = place(packed + b"\xff" * (-len(packed) % _SECTOR))
    first_directory = place(b"".join(map(_entry, entries)))
    # The table of sectors lists its own sectors too.
    count = 1
    while len(fat) + count > count * _SECTOR // 4:
        count += 1
    table = list(range(len(fat), len(fat) + count))
    fat += [_FAT] * count
    body += struct.pack(f"<{len(fat)}I", *fat).ljust(count * _SECTOR, b"\xff")
    header = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII",
        bytes.fromhex("d0cf11e0a1b11ae1"),
        *(0x3E, 3, 0xFFFE, 9, 6),
        *(0, count, first_directory, 0, _CUTOFF, first_mini_fat, -(-len(mini_fat) * 4 // _SECTOR), _END, 0),
    )
    return (header + struct.pack(f"<{count}I", *table)).ljust(_SECTOR, b"\xff") + body


def _enter(tree: Tree, parent: int, entries: list[dict[str, object]]) -> None:
    numbers = []
    for name, content in tree.items():
        numbers.append(len(entries))
        if isinstance(content, dict):
            entries.append({"name": name, "kind": _STORAGE, "data": b""})
            _enter(content, len(entries) - 1, entries)
        else:
            entries.append({"name": name, "kind": _STREAM, "data": content})
    # A list is a tree too, if a crooked one.
    numbers.sort(key=lambda number: (len(str(entries[number]["name"])), str(entries[number]["name"]).upper()))
    for number, following in zip(numbers, [*numbers[1:], _FREE], strict=False):
        entries[number]["right"] = following
    if numbers:
        entries[parent]["child"] = numbers[0]


def _entry(entry: dict[str, object]) -> bytes:
    name, data = str(entry["name"]).encode("utf-16-le"), entry["data"]
    assert isinstance(data, bytes)
    return struct.pack(
        "<64sHBBIII16xI16xIQ",
        name,
        len(name) + 2,
        entry["kind"],
        1,
        _FREE,
        entry.get("right", _FREE),
        entry.get("child", _FREE),
        0,
        entry.get("start", _END),
        len(data),
    )
