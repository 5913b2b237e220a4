"""Outlook's files: MSG (an OLE container) and winmail.dat (TNEF), both of MAPI properties."""

import io
import re
import struct
from collections.abc import Iterator
from typing import Any

import olefile

from schemas.outcomes import Outcome
from streams.extractors import mapi
from streams.extractors.result import Document, ExtractionError

_STREAM = re.compile(r"__substg1\.0_([0-9A-F]{4})([0-9A-F]{4})", re.IGNORECASE)
# An attachment's own object: a mail, or what another program embedded.
_OBJECT_STORAGE = "__substg1.0_3701000d"
_HEADER_BYTES = {True: 32, False: 24}  # of the properties stream: of the mail itself, of one inside it

Path = tuple[str, ...]


def extract_msg(document: Document) -> None:
    """A mail of Outlook's: headers, recipients and body are its text, attachments and mails inside it are
    children. Raises ExtractionError."""
    document.used("olefile")
    try:
        with olefile.OleFileIO(io.BytesIO(document.payload)) as ole:
            _message(document, ole, ())
    except (OSError, struct.error, IndexError) as error:
        raise ExtractionError(Outcome.CORRUPT) from error


def _message(document: Document, ole: olefile.OleFileIO, path: Path) -> None:
    properties = _properties(ole, path, _HEADER_BYTES[not path])
    recipients = [_properties(ole, where, 8) for where in _storages(ole, path, "__recip_version1.0_")]
    mapi.emit_message(document, properties, recipients)
    for where in _storages(ole, path, "__attach_version1.0_"):
        _attachment(document, ole, where)


def _attachment(document: Document, ole: olefile.OleFileIO, path: Path) -> None:
    found = _properties(ole, path, 8)
    name = found.get(mapi.LONG_NAME) or found.get(mapi.SHORT_NAME) or found.get(mapi.NAME)
    payload = found.get(mapi.ATTACHED)
    if isinstance(payload, bytes):
        document.embedded(
            payload, filename=_text(name), declared_content_type=_text(found.get(mapi.MIME_TYPE))
        )
        return
    inside = next((entry for entry in _entries(ole, path) if entry[-1].lower() == _OBJECT_STORAGE), None)
    if inside is None:
        return
    # There is no file: its streams, one after the other, stand for it.
    streams = [(where, ole.openstream(list(where)).read()) for where in sorted(_below(ole, inside))]
    if any(where[-1].startswith("__properties") for where, _ in streams):
        child = document.child(b"".join(data for _, data in streams), filename=_text(name))
        child.content_type = "application/vnd.ms-outlook"
        child.read = document.read
        with child.opened():
            child.used("olefile")
            _message(child, ole, inside)
        return
    for where, data in streams:
        if where[-1] in ("CONTENTS", "Package", "\x01Ole10Native", "WordDocument", "Workbook"):
            document.embedded(data, filename=_text(name))


def _properties(ole: olefile.OleFileIO, path: Path, header_bytes: int) -> mapi.Properties:
    """The properties of one storage: those of fixed size stand in one stream, others in one each."""
    found: mapi.Properties = {}
    try:
        fixed = ole.openstream([*path, "__properties_version1.0"]).read()
    except OSError:
        fixed = b""
    for at in range(header_bytes, len(fixed) - 15, 16):
        kind, number = struct.unpack_from("<HH", fixed, at)
        if kind in (3, 0x40):
            found[number] = mapi.value_of(kind, fixed[at + 8 : at + 16], None)
    charset = mapi.codepage_of(found)
    for where in _entries(ole, path):
        match = _STREAM.fullmatch(where[-1])
        if match is None or ole.get_type(list(where)) != olefile.STGTY_STREAM:
            continue
        number, kind = int(match[1], 16), int(match[2], 16)
        # Of a string given in both forms the Unicode one is kept.
        if number not in found or kind == 0x1F:
            found[number] = mapi.value_of(kind, ole.openstream(list(where)).read(), charset)
    return found


def _entries(ole: olefile.OleFileIO, path: Path) -> Iterator[Path]:
    """What stands directly in a storage."""
    for entry in ole.listdir(streams=True, storages=True):
        if len(entry) == len(path) + 1 and tuple(entry[: len(path)]) == path:
            yield tuple(entry)


def _below(ole: olefile.OleFileIO, path: Path) -> Iterator[Path]:
    for entry in ole.listdir():
        if tuple(entry[: len(path)]) == path:
            yield tuple(entry)


def _storages(ole: olefile.OleFileIO, path: Path, prefix: str) -> list[Path]:
    found = [entry for entry in _entries(ole, path) if entry[-1].lower().startswith(prefix.lower())]
    return sorted(found)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# TNEF ([MS-OXTNEF]): attributes one after the other, each with its length.
_TNEF_SUBJECT, _TNEF_BODY = 0x8004, 0x800C
_TNEF_PROPERTIES, _TNEF_ATTACHMENT_PROPERTIES, _TNEF_CODEPAGE = 0x9003, 0x9005, 0x9007
_TNEF_NEXT, _TNEF_TITLE, _TNEF_DATA = 0x9002, 0x8010, 0x800F
_MULTIPLE = 0x1000
_VARIABLE = (0x1E, 0x1F, 0x0D, 0x102)
_EMBEDDED_GUID_BYTES = 16


def extract_tnef(document: Document) -> None:
    """winmail.dat: the mail's text, its attachments as children. What comes before damage is kept."""
    document.used("tnef")
    payload, at = document.payload, 6
    properties: mapi.Properties = {}
    attachments: list[mapi.Properties] = []
    charset = None
    while at + 9 <= len(payload):
        _, number, _, size = struct.unpack_from("<BHHI", payload, at)
        data = payload[at + 9 : at + 9 + size]
        at += 9 + size + 2
        if number == _TNEF_CODEPAGE and len(data) >= 4:
            charset = mapi.codepage_of({mapi.MESSAGE_CODEPAGE: struct.unpack_from("<i", data)[0]})
        elif number == _TNEF_NEXT:
            attachments.append({})
        elif number == _TNEF_SUBJECT:
            properties.setdefault(mapi.SUBJECT, mapi.value_of(0x1E, data, charset))
        elif number == _TNEF_BODY:
            properties.setdefault(mapi.BODY, mapi.value_of(0x1E, data, charset))
        elif number == _TNEF_PROPERTIES:
            properties |= _tnef_properties(data, charset)
        elif attachments and number == _TNEF_TITLE:
            attachments[-1].setdefault(mapi.SHORT_NAME, mapi.value_of(0x1E, data, charset))
        elif attachments and number == _TNEF_DATA:
            attachments[-1][mapi.ATTACHED] = data
        elif attachments and number == _TNEF_ATTACHMENT_PROPERTIES:
            attachments[-1] = _tnef_properties(data, charset) | attachments[-1]
    document.truncated |= at > len(payload) + 2
    mapi.emit_message(document, properties)
    document.is_container = bool(attachments) and not document.characters
    for found in attachments:
        attached = found.get(mapi.ATTACHED)
        if isinstance(attached, bytes):
            if attached[_EMBEDDED_GUID_BYTES : _EMBEDDED_GUID_BYTES + 4] == b"\x78\x9f\x3e\x22":
                attached = attached[_EMBEDDED_GUID_BYTES:]
            name = _text(found.get(mapi.LONG_NAME)) or _text(found.get(mapi.SHORT_NAME))
            document.embedded(attached, filename=name, declared_content_type=_text(found.get(mapi.MIME_TYPE)))


def _tnef_properties(data: bytes, charset: str | None) -> mapi.Properties:
    found: mapi.Properties = {}
    try:
        (count,) = struct.unpack_from("<I", data)
        at = 4
        for _ in range(min(count, len(data))):
            kind, number = struct.unpack_from("<HH", data, at)
            at += 4
            if number >= 0x8000:
                at = _skip_name(data, at)
            values, at = _tnef_values(data, at, kind)
            if values and not kind & _MULTIPLE:
                found[number] = mapi.value_of(kind, values[0], charset)
    except struct.error:
        return found  # damaged from here on
    return found


def _skip_name(data: bytes, at: int) -> int:
    """Past the name of a property that has one."""
    (form,) = struct.unpack_from("<I", data, at + 16)
    if form == 0:
        return at + 24
    (length,) = struct.unpack_from("<I", data, at + 20)
    return at + 24 + _padded(length)


def _tnef_values(data: bytes, at: int, kind: int) -> tuple[list[bytes], int]:
    count, base = 1, kind & ~_MULTIPLE
    if kind & _MULTIPLE or base in _VARIABLE:
        (count,) = struct.unpack_from("<I", data, at)
        at += 4
    values = []
    for _ in range(min(count, len(data))):
        if base in _VARIABLE:
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
        else:
            size = {2: 2, 11: 2, 5: 8, 6: 8, 7: 8, 20: 8, 0x40: 8, 0x48: 16}.get(base, 4)
        if at + size > len(data):
            raise struct.error("cut short")
        values.append(data[at : at + size])
        at += _padded(size)
    return values, at


def _padded(size: int) -> int:
    return size + (-size) % 4
