"""MAPI, the properties that Outlook keeps a mail in: their values, and the compressed RTF of old bodies."""

import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from streams.extractors.charsets import codec_name, decode
from streams.extractors.result import Document
from streams.extractors.text import html_to_text

# Property ids ([MS-OXPROPS]).
SUBJECT, BODY, RTF, HTML = 0x0037, 0x1000, 0x1009, 0x1013
SENDER_NAME, SENDER_ADDRESS, SENDER_SMTP = 0x0C1A, 0x0C1F, 0x5D01
DISPLAY_TO, DISPLAY_CC, DISPLAY_BCC = 0x0E04, 0x0E03, 0x0E02
SUBMITTED, DELIVERED, MESSAGE_CODEPAGE, INTERNET_CODEPAGE = 0x0039, 0x0E06, 0x3FFD, 0x3FDE
NAME, ADDRESS, SMTP_ADDRESS = 0x3001, 0x3003, 0x39FE
ATTACHED, SHORT_NAME, LONG_NAME, MIME_TYPE = 0x3701, 0x3704, 0x3707, 0x370E
_UNICODE, _STRING, _TIME = 0x001F, 0x001E, 0x0040
_FIXED = {2: "<h", 3: "<i", 4: "<f", 5: "<d", 11: "<H", 20: "<q"}
_CODEPAGES = {
    65001: "utf-8",
    20127: "cp1252",
    28591: "cp1252",
    28592: "iso8859_2",
    28595: "iso8859_5",
    20866: "koi8_r",
    936: "gb18030",
    54936: "gb18030",
    50220: "iso2022_jp",
    51932: "euc_jp",
    51949: "euc_kr",
    949: "cp949",
}
_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)

_FACTS = (
    ("title", (SUBJECT,)),
    ("author", (SENDER_NAME, SENDER_SMTP)),
    ("created", (SUBMITTED, DELIVERED)),
)

Properties = dict[int, Any]


def codepage_of(properties: Mapping[int, Any]) -> str | None:
    """The charset of the strings that are not Unicode."""
    number = properties.get(INTERNET_CODEPAGE) or properties.get(MESSAGE_CODEPAGE)
    if not isinstance(number, int) or number <= 0:
        return None
    return _CODEPAGES.get(number) or codec_name(f"cp{number}")


def value_of(kind: int, raw: bytes, charset: str | None) -> Any:
    """A property's value by its type; bytes where the type says no more."""
    if kind == _UNICODE:
        return raw.decode("utf-16-le", "replace").rstrip("\x00")
    if kind == _STRING:
        return decode(raw.rstrip(b"\x00"), charset)
    if kind == _TIME and len(raw) >= 8:
        return _time(struct.unpack_from("<q", raw)[0])
    if kind in _FIXED and len(raw) >= struct.calcsize(_FIXED[kind]):
        return struct.unpack_from(_FIXED[kind], raw)[0]
    return raw


def _time(ticks: int) -> str | None:
    try:
        return (_FILETIME_EPOCH + timedelta(microseconds=ticks // 10)).isoformat()
    except OverflowError:
        return None


def emit_message(document: Document, properties: Properties, recipients: Iterable[Properties] = ()) -> None:
    """Headers, recipients and body as the document's text; a body that is there as RTF only is a child."""
    lines: list[str] = []

    def line(name: str, *ids: int) -> None:
        said = dict.fromkeys(value for number in ids if isinstance(value := properties.get(number), str))
        if text := " ".join(value for value in said if value.strip()):
            lines.append(f"{name}: {text}")

    line("Subject", SUBJECT)
    line("From", SENDER_NAME, SENDER_SMTP, SENDER_ADDRESS)
    for name, number in (("To", DISPLAY_TO), ("Cc", DISPLAY_CC), ("Bcc", DISPLAY_BCC)):
        line(name, number)
    line("Date", SUBMITTED, DELIVERED)
    for recipient in recipients:
        said = dict.fromkeys(
            str(recipient[number]) for number in (NAME, SMTP_ADDRESS, ADDRESS) if recipient.get(number)
        )
        if said:
            lines.append("Recipient: " + " ".join(said))
    document.text("\n".join((*lines, _body(document, properties))))
    for fact, numbers in _FACTS:
        value = next((v for number in numbers if isinstance(v := properties.get(number), str) and v), None)
        if value:
            document.facts[fact] = value


def _body(document: Document, properties: Properties) -> str:
    plain, html, rtf = (properties.get(number) for number in (BODY, HTML, RTF))
    if isinstance(plain, str) and plain.strip():
        return plain
    if html:
        source = html if isinstance(html, str) else decode(html, codepage_of(properties))
        return html_to_text(source)
    if isinstance(rtf, bytes) and rtf:
        document.embedded(decompress_rtf(rtf), declared_content_type="application/rtf")
    return ""


# [MS-OXRTFCP] 2.1.3.1.1: what the dictionary holds before the first byte.
_RTF_DICTIONARY = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans "
    rb"SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    b"\r\n"
    rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
_WINDOW = 4096


def decompress_rtf(packed: bytes) -> bytes:
    """RTF out of the form in which Outlook keeps it; what there is of it where it is damaged."""
    if len(packed) < 16:
        return b""
    _, raw_size, magic = struct.unpack_from("<IIi", packed)
    if magic == 0x414C454D:  # "MELA": not compressed
        return packed[16 : 16 + raw_size]
    window = bytearray(_RTF_DICTIONARY.ljust(_WINDOW, b"\x00"))
    write, at, out = len(_RTF_DICTIONARY), 16, bytearray()
    while at < len(packed):
        control, at = packed[at], at + 1
        for bit in range(8):
            if at >= len(packed):
                break
            if not control >> bit & 1:
                block = packed[at : at + 1]
                at += 1
            else:
                reference = int.from_bytes(packed[at : at + 2])
                at += 2
                offset, length = reference >> 4, (reference & 15) + 2
                if offset == write:
                    return bytes(out)
                # A run may reach into what it writes.
                block = b""
                for step in range(length):
                    byte = window[(offset + step) % _WINDOW]
                    out.append(byte)
                    window[write] = byte
                    write = (write + 1) % _WINDOW
                continue
            out += block
            window[write : write + 1] = block or b"\x00"
            write = (write + 1) % _WINDOW
    return bytes(out)
