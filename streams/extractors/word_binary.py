"""DOC ([MS-DOC], and Word 6 and 95): the text in pieces, in the order of the document, notes behind it."""

from __future__ import annotations

import re
import struct

from schemas.outcomes import Outcome
from streams.extractors.ole_file import Streams
from streams.extractors.result import Document, ExtractionError

_WORD_6 = (0xA5DC, 0xA59B, 0xA59C)
_ENCRYPTED, _OTHER_TABLE = 0x0100, 0x0200
_CLX_OFFSET = 0x01A2
# Lengths in the FIB of the parts that follow each other in the text.
_PARTS = (
    (0x4C, None),
    (0x50, "footnotes"),
    (0x54, "header and footer"),
    (0x58, None),
    (0x5C, "comments"),
    (0x60, "endnotes"),
    (0x64, "text boxes"),
    (0x68, "text boxes of headers"),
)
_UNICODE_CHARACTERS = 0x40000000
# The code pages of languages that are not written in the West's.
_CODE_PAGES = {
    0x19: "cp1251", 0x22: "cp1251", 0x23: "cp1251", 0x02: "cp1251", 0x05: "cp1250", 0x0E: "cp1250",
    0x15: "cp1250", 0x1B: "cp1250", 0x24: "cp1250", 0x18: "cp1250", 0x08: "cp1253", 0x1F: "cp1254",
    0x0D: "cp1255", 0x01: "cp1256", 0x11: "cp932", 0x12: "cp949", 0x04: "gbk", 0x1E: "cp874",
}  # fmt: skip
_LINK = re.compile(r'\b(?:HYPERLINK|INCLUDEPICTURE)\s+(?:\\\w\s+)*"([^"]+)"')
_CONTROL = {
    0x07: "\t", 0x0B: "\n", 0x0C: "\n\n", 0x0D: "\n", 0x0E: "\n", 0x1E: "-", 0x1F: None, 0xA0: " ",
    **dict.fromkeys((0, 1, 2, 3, 4, 5, 6, 8, 0x10, 0x11, 0x12, 0x16, 0x17, 0x18, 0x1A, 0x1B, 0x1C, 0x1D)),
}  # fmt: skip


def extract_word(document: Document, streams: Streams) -> None:
    """Emit the text of a ``WordDocument`` stream. Raises ExtractionError."""
    data = streams.get(("WordDocument",), b"")
    if len(data) < 0x200:
        raise ExtractionError(Outcome.CORRUPT)
    document.used("mailstream-doc")
    kind, flags = struct.unpack_from("<H8xH", data)
    if flags & _ENCRYPTED:
        raise ExtractionError(Outcome.ENCRYPTED)
    version = struct.unpack_from("<H", data, 2)[0]
    if kind in _WORD_6 or version < 0x69:
        _emit(document, _word_6(data), None)
        return
    table = "1Table" if flags & _OTHER_TABLE else "0Table"
    text = _text(data, streams, table, document.limits.max_characters)
    position = 0
    for offset, label in _PARTS:
        length = max(struct.unpack_from("<i", data, offset)[0], 0)
        _emit(document, text[position : position + length], label)
        position += length
    if not document.characters:  # lengths that lie
        _emit(document, text, None)


def _text(data: bytes, streams: Streams, table_name: str, limit: int) -> str:
    """All pieces in the order of the document. Raises ExtractionError."""
    table = streams.get((table_name,)) or streams.get(("1Table",)) or streams.get(("0Table",)) or b""
    offset, length = struct.unpack_from("<II", data, _CLX_OFFSET)
    clx = table[offset : offset + length]
    at = 0
    while at + 3 <= len(clx) and clx[at] == 1:
        at += 3 + struct.unpack_from("<H", clx, at + 1)[0]
    if at + 5 > len(clx) or clx[at] != 2:
        return _plain(data)
    pieces = clx[at + 5 : at + 5 + struct.unpack_from("<I", clx, at + 1)[0]]
    count = (len(pieces) - 4) // 12
    positions = struct.unpack_from(f"<{count + 1}I", pieces)
    found = []
    for number in range(count):
        where = struct.unpack_from("<2xI", pieces, 4 * (count + 1) + 8 * number)[0]
        characters = min(max(positions[number + 1] - positions[number], 0), limit)
        limit -= characters  # many pieces may point to the same text
        if where & _UNICODE_CHARACTERS:
            start = (where & ~_UNICODE_CHARACTERS) // 2
            found.append(data[start : start + characters].decode("cp1252", "replace"))
        else:
            # A surrogate pair is two characters here too.
            raw = data[where : where + 2 * characters]
            found.append("".join(map(chr, struct.unpack(f"<{len(raw) // 2}H", raw[: len(raw) // 2 * 2]))))
    return "".join(found)


def _plain(data: bytes) -> str:
    start, end = struct.unpack_from("<II", data, 0x18)
    return data[start : min(end, len(data))].decode("cp1252", "replace")


def _word_6(data: bytes) -> str:
    language = struct.unpack_from("<H", data, 6)[0]
    start, end = struct.unpack_from("<II", data, 0x18)
    raw = data[start : min(end, len(data))]
    return raw.decode(_CODE_PAGES.get(language & 0x3FF, "cp1252"), "replace")


def _emit(document: Document, text: str, label: str | None) -> None:
    joined = _without_fields(text).translate(_CONTROL)
    joined = joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    document.text(re.sub(r"[ \t]*\n\s*\n\s*", "\n\n", joined), label=label)


def _without_fields(text: str) -> str:
    """What fields show, and where links lead; not how they are computed."""
    if "\x13" not in text:
        return text.replace("\x15", "").replace("\x14", "")
    kept: list[str] = []
    instructions: list[list[str] | None] = []  # of the fields that are open; None once they show something
    for part in re.split("([\x13-\x15])", text):
        if part == "\x13":
            instructions.append([])
        elif part == "\x14":
            if instructions:
                link = _LINK.search("".join(instructions[-1] or ()))
                instructions[-1] = None
                if link and not any(instruction is not None for instruction in instructions):
                    kept.append(f" {link[1]} ")
        elif part == "\x15":
            if instructions:
                instructions.pop()
        else:
            computing = next((i for i in instructions if i is not None), None)
            (kept if computing is None else computing).append(part)
    return "".join(kept)
