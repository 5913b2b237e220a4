"""Calendars and address cards: what their fields say, unfolded and decoded."""

import base64
import binascii
import quopri
import re

from streams.extractors.charsets import decode
from streams.extractors.result import Document

_FOLD = re.compile(r"\r?\n[ \t]")
_SOFT_BREAK = re.compile(r"=\r?\n")
_ESCAPE = re.compile(r"\\([nN,;:\\])")
_LINE = re.compile(r"(?:[\w-]+\.)?([\w-]+)((?:;(?:[^\":;]|\"[^\"]*\")*)*):(.*)", re.DOTALL)
_PARAMETER = re.compile(r";([\w-]+)(?:=(\"[^\"]*\"|[^;]*))?")
# What only programs read.
_SILENT = re.compile(
    "BEGIN|END|VERSION|PRODID|UID|DTSTAMP|SEQUENCE|METHOD|CALSCALE|REV|TRANSP|RRULE|TZOFFSETFROM|TZOFFSETTO|TZID"
    "|TZNAME|ACTION|TRIGGER|CLASS|PRIORITY|LAST-MODIFIED|CREATED|X-WR-TIMEZONE"
)
_TITLES = ("SUMMARY", "FN", "X-WR-CALNAME")


def extract_card(document: Document) -> None:
    """A line a field: its name, its value, and the people that its parameters name. Files inside (a photo,
    an attachment) are children. Raises ExtractionError over the caps."""
    lines: list[str] = []
    for line in _lines(decode(document.payload, document.charset)):
        match = _LINE.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        name, value = match[1].upper(), match[3]
        parameters = {key.upper(): (given or "").strip('"') for key, given in _PARAMETER.findall(match[2])}
        encoding = (parameters.get("ENCODING") or "").upper()
        if encoding in ("B", "BASE64") or "BASE64" in parameters or value.startswith("data:"):
            _file(document, value, parameters)
            continue
        if encoding == "QUOTED-PRINTABLE" or "QUOTED-PRINTABLE" in parameters:
            value = decode(quopri.decodestring(value.encode()), parameters.get("CHARSET"))
        if _SILENT.fullmatch(name):
            continue
        value = _ESCAPE.sub(lambda escaped: "\n" if escaped[1] in "nN" else escaped[1], value)
        if name in ("N", "ADR", "ORG"):
            value = " ".join(part for part in value.split(";") if part)
        people = " ".join(parameters[key] for key in ("CN", "ROLE", "X-FILENAME") if parameters.get(key))
        lines.append(f"{name}: {value} {people}".strip())
        if name in _TITLES:
            document.facts.setdefault("title", value)
    document.text("\n".join(lines))


def _lines(text: str) -> list[str]:
    """Fields, one a line; quoted-printable folds in a way of its own."""
    if "QUOTED-PRINTABLE" in text.upper():
        text = _SOFT_BREAK.sub("", text)
    return [line for line in _FOLD.sub("", text).splitlines() if line.strip()]


def _file(document: Document, value: str, parameters: dict[str, str]) -> None:
    try:
        payload = base64.b64decode("".join(value.rpartition(",")[2].split()), validate=False)
    except binascii.Error:
        return
    document.embedded(payload, filename=parameters.get("X-FILENAME") or parameters.get("FILENAME"))
