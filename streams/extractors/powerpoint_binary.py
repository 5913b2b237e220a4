"""PPT ([MS-PPT]): slides in their order with their notes, comments, links and embedded objects."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from schemas.outcomes import Outcome
from streams.extractors.ole_file import Streams
from streams.extractors.result import Document, ExtractionError

_DOCUMENT, _SLIDE, _NOTES, _DIRECTORY = 1000, 1006, 1008, 6002
_LIST, _PERSIST, _NOTES_ATOM, _ENCRYPTION = 4080, 1011, 1009, 12052
_UTF_16, _LATIN_1, _STRING, _OBJECT = 4000, 4008, 4026, 4113
_MASTERS = {1016: "master", 4041: "handout"}
# Names of programs, fonts and the like are strings too.
_SILENT = {2005, 4023, 4049, 5000, 2006, 1010, 4116, 1052}
_HEADER = struct.Struct("<HHI")
_MAX_DEPTH = 24


def extract_powerpoint(document: Document, streams: Streams) -> None:
    """Emit the slides of a ``PowerPoint Document`` stream. Raises ExtractionError."""
    data = streams.get(("PowerPoint Document",), b"")
    document.used("mailstream-ppt")
    if ("EncryptedSummary",) in streams:
        raise ExtractionError(Outcome.ENCRYPTED)
    slides: list[tuple[int, int]] = []  # persist reference, slide id
    outline: dict[int, list[str]] = {}
    pages: list[tuple[int, int, int]] = []  # kind, start and end of the record
    rest: list[str] = []
    objects: list[bytes] = []
    for kind, _, start, end in _records(data, 0, len(data)):
        if kind == _ENCRYPTION:
            raise ExtractionError(Outcome.ENCRYPTED)
        if kind == _DOCUMENT:
            slides, outline, texts = _document(data, start, end)
            rest = texts
        elif kind in (_SLIDE, _NOTES, *_MASTERS):
            pages.append((kind, start, end))
        elif kind == _OBJECT:
            objects.append(data[start - 8 : end])
    _emit(document, data, slides, outline, pages)
    document.text("\n".join(dict.fromkeys(rest)), label="comments and links")
    for stored in objects:
        if payload := _object(document, stored):
            document.embedded(payload)


def _emit(
    document: Document,
    data: bytes,
    slides: list[tuple[int, int]],
    outline: dict[int, list[str]],
    pages: list[tuple[int, int, int]],
) -> None:
    offsets = _persisted(data)
    by_start = {start - _HEADER.size: (kind, start, end) for kind, start, end in pages}
    document.facts["pages"] = len(slides) or sum(kind == _SLIDE for kind, _, _ in pages)
    seen: set[int] = set()
    numbers = {identity: number for number, (_, identity) in enumerate(slides, start=1)}
    for number, (reference, _) in enumerate(slides, start=1):
        texts = list(outline.get(number, ()))
        page = by_start.get(offsets.get(reference, -1))
        if page is not None and page[1] not in seen:
            seen.add(page[1])
            outlined = set(texts)
            texts += [text for text in _texts(data, page[1], page[2]) if text not in outlined]
        document.text("\n".join(texts), page=number, label=f"slide {number}")
    unread = [page for page in pages if page[1] not in seen]
    said: set[str] = set()
    for kind, start, end in unread:
        number = numbers.get(_slide_of_notes(data, start, end), 0) if kind == _NOTES else 0
        new = [text for text in _texts(data, start, end) if text not in said]
        said.update(new)
        label = "notes" if kind == _NOTES else _MASTERS.get(kind, "slide")
        place = f"slide {number}, {label}" if number else label
        document.text("\n".join(new), page=number or None, label=place)


def _document(
    data: bytes, start: int, end: int
) -> tuple[list[tuple[int, int]], dict[int, list[str]], list[str]]:
    """Slides, their outline texts by number, and the other strings of the document container."""
    slides: list[tuple[int, int]] = []
    outline: dict[int, list[str]] = {}
    rest: list[str] = []
    for kind, instance, first, last in _records(data, start, end):
        if kind != _LIST:
            if kind not in _SILENT:
                rest += _texts(data, first - _HEADER.size, last)
            continue
        for inner, _, at, stop in _records(data, first, last):
            if inner == _PERSIST and instance == 0 and stop - at >= 16:
                reference, _, _, identity = struct.unpack_from("<IIII", data, at)
                slides.append((reference, identity))
            elif text := _atom(data, inner, at, stop):
                if instance == 0:
                    outline.setdefault(len(slides), []).append(text)
                else:
                    rest.append(text)
    return slides, outline, rest


def _records(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Type, instance, start and end of the content of each record."""
    while start + _HEADER.size <= end:
        version, kind, length = _HEADER.unpack_from(data, start)
        start += _HEADER.size
        yield kind, version >> 4, start, min(start + length, end)
        start += length


def _texts(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[str]:
    at = start
    while at + _HEADER.size <= end:
        version, kind, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        stop = min(at + length, end)
        if version & 0xF == 0xF:
            if depth < _MAX_DEPTH and kind not in _SILENT:
                yield from _texts(data, at, stop, depth + 1)
        elif text := _atom(data, kind, at, stop):
            yield text
        at += length


def _atom(data: bytes, kind: int, start: int, end: int) -> str:
    if kind in (_UTF_16, _STRING):
        text = data[start : end - (end - start) % 2].decode("utf-16-le", "replace")
    elif kind == _LATIN_1:
        text = data[start:end].decode("latin-1")
    else:
        return ""
    text = text.replace("\r", "\n").replace("\x0b", "\n").strip("\0\n ")
    return "" if text in ("*", "___PPT9", "___PPT10", "___PPT12", "___PPT11") else text


def _persisted(data: bytes) -> dict[int, int]:
    """Offsets of the newest version of each persisted object, by its number."""
    found: dict[int, int] = {}
    for kind, _, start, end in _records(data, 0, len(data)):
        if kind != _DIRECTORY:
            continue
        while start + 4 <= end:
            [head] = struct.unpack_from("<I", data, start)
            first, count = head & 0xFFFFF, min(head >> 20, (end - start - 4) // 4)
            offsets = struct.unpack_from(f"<{count}I", data, start + 4)
            found.update(enumerate(offsets, start=first))
            start += 4 + 4 * count if count else 4
    return found


def _slide_of_notes(data: bytes, start: int, end: int) -> int:
    for kind, _, first, last in _records(data, start, end):
        if kind == _NOTES_ATOM and last - first >= 4:
            return int(struct.unpack_from("<I", data, first)[0])
    return 0


def _object(document: Document, record: bytes) -> bytes:
    version, _, _ = _HEADER.unpack_from(record)
    if version >> 4 == 0:
        return record[8:]
    room = document.limits.max_unpacked_bytes - document.budget.unpacked_bytes
    try:
        payload = zlib.decompressobj().decompress(record[12:], max(room, 1))
    except zlib.error:
        return b""
    document.budget.unpack(len(payload))
    return payload
