"""Windows metafiles (EMF, WMF): pictures that are lists of commands, some of which write text."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from streams.extractors.result import Document

_EMF_WIDE, _EMF_NARROW, _EMF_SMALL = 84, 83, 108
_SMALL_NARROW, _SMALL_UNBOUNDED = 0x200, 0x100
_WMF_TEXT, _WMF_EXT_TEXT, _CLIPPED = 0x0521, 0x0A32, 0x0006
_PLACEABLE, _BARE = b"\xd7\xcd\xc6\x9a", (b"\1\0\x09\0\0\3", b"\2\0\x09\0\0\3", b"\1\0\x09\0\0\1")


def extract_metafile(document: Document) -> None:
    """Emit what the picture writes, in the order in which it writes it."""
    document.used("mailstream-metafile")
    document.text("\n".join(texts(document.payload)))


def texts(data: bytes) -> Iterator[str]:
    """The runs of text in a metafile; none where the bytes are something else."""
    if data[40:44] == b" EMF":
        found = _emf(data)
    elif data.startswith((_PLACEABLE, *_BARE)):
        found = _wmf(data)
    else:
        return
    yield from (text.strip() for text in found if text.strip())


def _emf(data: bytes) -> Iterator[str]:
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        record = data[at : at + size]
        at += max(size, 8)
        if kind in (_EMF_WIDE, _EMF_NARROW) and len(record) >= 52:
            count, start = struct.unpack_from("<II", record, 44)
            wide = kind == _EMF_WIDE
        elif kind == _EMF_SMALL and len(record) >= 36:
            count, options = struct.unpack_from("<II", record, 16)
            start, wide = (36 if options & _SMALL_UNBOUNDED else 52), not options & _SMALL_NARROW
        else:
            continue
        yield _decoded(record[start : start + count * (2 if wide else 1)], wide)


def _wmf(data: bytes) -> Iterator[str]:
    at = (22 if data.startswith(_PLACEABLE) else 0) + 18
    while at + 6 <= len(data):
        words, kind = struct.unpack_from("<IH", data, at)
        record = data[at + 6 : at + 2 * words]
        at += max(2 * words, 6)
        if kind == _WMF_TEXT and len(record) >= 2:
            yield _decoded(record[2 : 2 + struct.unpack_from("<H", record)[0]], wide=False)
        elif kind == _WMF_EXT_TEXT and len(record) >= 8:
            count, options = struct.unpack_from("<HH", record, 4)
            start = 16 if options & _CLIPPED else 8
            yield _decoded(record[start : start + count], wide=False)


def _decoded(raw: bytes, wide: bool) -> str:
    return raw.decode("utf-16-le" if wide else "cp1252", "replace").strip("\0")
