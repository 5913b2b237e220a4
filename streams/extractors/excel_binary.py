"""XLS ([MS-XLS], and Excel 5 and 95): cells as they are shown, headers, text boxes, comments, hyperlinks."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from schemas.outcomes import Outcome
from streams.extractors.number_format import BUILT_IN, header_text, plain, shown
from streams.extractors.result import Document, ExtractionError

_BOF, _EOF, _CONTINUE, _FILEPASS, _CODEPAGE, _DATEMODE = 0x809, 0x0A, 0x3C, 0x2F, 0x42, 0x22
_SHEET, _SST, _FORMAT, _XF, _HEADER, _FOOTER = 0x85, 0xFC, 0x41E, 0xE0, 0x14, 0x15
_LABELSST, _LABEL, _RSTRING, _NUMBER, _RK, _MULRK = 0xFD, 0x204, 0xD6, 0x203, 0x27E, 0xBD
_STRING, _BOOLERR, _TXO, _HLINK, _SERIES_TEXT, _NOTE = 0x207, 0x205, 0x1B6, 0x1B8, 0x100D, 0x1C
_EXCEL_2 = (0x02, 0x03, 0x04)  # an integer, a number, a text
_FORMULAS = (0x06, 0x206, 0x406)
ERRORS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
}
_BIFF_8 = 0x0600
_URL = re.compile(rb"(?:(?:h\0t\0t\0p\0|f\0t\0p\0|m\0a\0i\0l\0t\0o\0|f\0i\0l\0e\0)(?:[\x20-\x7e]\0)+)")


class _Strings:
    """Strings over the borders of CONTINUE records, where a new flag byte says how the rest is written."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts, self._part, self._at = parts, 0, 0

    def take(self, size: int) -> bytes:
        found = b""
        while size > 0 and self._part < len(self._parts):
            block = self._parts[self._part][self._at : self._at + size]
            found, size, self._at = found + block, size - len(block), self._at + len(block)
            if size > 0:
                self._part, self._at = self._part + 1, 0
        if size > 0:
            raise EOFError
        return found

    def characters(self, count: int, wide: bool) -> str:
        found: list[str] = []
        while count > 0:
            left = len(self._parts[self._part]) - self._at
            if left <= 0:
                self._part, self._at = self._part + 1, 0
                if self._part >= len(self._parts):
                    raise EOFError
                wide = bool(self.take(1)[0] & 1)
                continue
            size = min(count, left // 2 if wide else left) or 1
            found.append(
                self.take(size * (2 if wide else 1)).decode("utf-16-le" if wide else "latin-1", "replace")
            )
            count -= size
        return "".join(found)

    def string(self) -> str:
        """A string with its phonetic reading behind it."""
        count, flags = struct.unpack("<HB", self.take(3))
        runs = struct.unpack("<H", self.take(2))[0] if flags & 8 else 0
        extra_bytes = struct.unpack("<I", self.take(4))[0] if flags & 4 else 0
        text = self.characters(count, bool(flags & 1))
        self.take(4 * runs)
        extra = self.take(extra_bytes) if extra_bytes else b""
        if len(extra) > 12:
            length = struct.unpack_from("<H", extra, 12)[0]
            spoken = extra[14 : 14 + 2 * length].decode("utf-16-le", "replace")
            text += f" {spoken}" if spoken.strip() else ""
        return text


class _Workbook:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._strings: list[str] = []
        self._codes: dict[int, str] = dict(BUILT_IN)
        self._styles: list[int] = []
        self._sheets: list[tuple[int, str]] = []
        self._codec = "cp1252"
        self._biff_8 = True
        self._date_1904 = False
        self._lines: dict[int, list[str]] = {}
        self._formula_row = -1  # of the formula whose string follows
        self._last_row: tuple[int, int] | None = None

    def read(self, data: bytes) -> None:
        sheet, depth = -1, 0
        try:
            for kind, parts, offset in _records(data):
                body = parts[0]
                if kind == _FILEPASS:
                    raise ExtractionError(Outcome.ENCRYPTED)
                if kind & 0xFF == 0x09 and kind in (_BOF, 0x09, 0x209, 0x409):
                    depth += 1
                    if depth == 1:
                        self._biff_8 = len(body) > 1 and struct.unpack_from("<H", body)[0] == _BIFF_8
                        starts = [start for start, _ in self._sheets]
                        sheet = starts.index(offset) if offset in starts else -1
                elif kind == _EOF:
                    depth = max(depth - 1, 0)
                else:
                    try:
                        self._record(kind, parts, sheet)
                    except (struct.error, IndexError, EOFError, ValueError, OverflowError):
                        self._document.truncated = True
        finally:
            self._emit()

    def _emit(self) -> None:
        for number in range(len(self._sheets)):
            self._lines.setdefault(number, [])
        for number, texts in sorted(self._lines.items()):
            known = 0 <= number < len(self._sheets)
            name = self._sheets[number][1] if known else None
            self._document.text(
                "\n".join(filter(None, (name, *texts))),
                page=number + 1 if known else None,
                label=f"sheet {name}" if name else None,
            )
        self._document.facts["pages"] = max(len(self._sheets), 1)

    def _say(self, sheet: int, text: str) -> None:
        if text.strip():
            self._lines.setdefault(sheet, []).append(text.strip())

    def _cell(self, sheet: int, row: int, text: str) -> None:
        if not text.strip():
            return
        lines = self._lines.setdefault(sheet, [])
        if lines and self._last_row == (sheet, row):
            lines[-1] += "\t" + text.strip()
        else:
            lines.append(text.strip())
        self._last_row = (sheet, row)

    def _record(self, kind: int, parts: list[bytes], sheet: int) -> None:
        if not self._value(kind, parts, sheet) and not self._setting(kind, parts):
            self._object(kind, parts, sheet)

    def _setting(self, kind: int, parts: list[bytes]) -> bool:
        """Whether it is what holds for the whole workbook."""
        body = parts[0]
        if kind == _CODEPAGE:
            number = struct.unpack_from("<H", body)[0]
            self._codec = {1200: "utf-16-le", 32768: "mac_roman", 32769: "cp1252", 10000: "mac_roman"}.get(
                number, f"cp{number}"
            )
        elif kind == _DATEMODE:
            self._date_1904 = body[:1] == b"\1"
        elif kind == _SHEET:
            start = struct.unpack_from("<I", body)[0]
            self._sheets.append((start, self._short(body[6:])))
        elif kind == _SST:
            count = struct.unpack_from("<I", body, 4)[0]
            strings = _Strings([body[8:], *parts[1:]])
            for _ in range(min(count, 10_000_000)):
                self._strings.append(strings.string())
        elif kind == _FORMAT:
            number = struct.unpack_from("<H", body)[0]
            self._codes[number] = self._long(body[2:]) if self._biff_8 else self._short(body[2:])
        elif kind == _XF:
            self._styles.append(struct.unpack_from("<H", body, 2)[0])
        else:
            return False
        return True

    def _value(self, kind: int, parts: list[bytes], sheet: int) -> bool:
        """Whether it is the value of a cell, or of several."""
        body = parts[0]
        if kind == _LABELSST:
            row, _, _, number = struct.unpack_from("<HHHI", body)
            self._cell(sheet, row, self._strings[number])
        elif kind in (_LABEL, _RSTRING):
            self._cell(sheet, struct.unpack_from("<H", body)[0], self._long(body[6:], parts))
        elif kind == _NUMBER:
            row, _, style, value = struct.unpack_from("<HHHd", body)
            self._cell(sheet, row, self._shown(value, style))
        elif kind in _EXCEL_2:
            row = struct.unpack_from("<H", body)[0]
            if kind == _EXCEL_2[2]:
                self._cell(sheet, row, body[8 : 8 + body[7]].decode(self._codec, "replace"))
            else:
                self._cell(
                    sheet, row, plain(struct.unpack_from("<H" if kind == _EXCEL_2[0] else "<d", body, 7)[0])
                )
        elif kind == _RK:
            row, _, style, value = struct.unpack_from("<HHHI", body)
            self._cell(sheet, row, self._shown(rk_number(value), style))
        elif kind == _MULRK:
            row = struct.unpack_from("<H", body)[0]
            for at in range(4, len(body) - 2 - 5, 6):
                style, value = struct.unpack_from("<HI", body, at)
                self._cell(sheet, row, self._shown(rk_number(value), style))
        elif kind in _FORMULAS:
            self._formula(body, sheet)
        elif kind in (_STRING, 0x07):
            self._cell(sheet, self._formula_row, self._long(body, parts))
        elif kind == _BOOLERR:
            row, _, _, value, is_error = struct.unpack_from("<HHHBB", body)
            self._cell(sheet, row, ERRORS.get(value, "") if is_error else ("FALSE", "TRUE")[value & 1])
        else:
            return False
        return True

    def _object(self, kind: int, parts: list[bytes], sheet: int) -> None:
        """What stands around the cells: headers, text boxes, links, charts' names, notes."""
        body = parts[0]
        if kind in (_HEADER, _FOOTER) and body:
            text = self._long(body) if self._biff_8 else self._short(body)
            self._say(sheet, header_text(text))
        elif kind == _TXO:
            if len(parts) > 1 and parts[1]:
                wide = parts[1][0] & 1
                count = struct.unpack_from("<H", body, 10)[0]
                raw = b"".join(part[1:] if n < 1 else b"" for n, part in enumerate(parts[1:]))
                raw = raw[: count * (2 if wide else 1)]
                self._say(sheet, raw.decode("utf-16-le" if wide else "latin-1", "replace"))
        elif kind == _HLINK:
            for link in _URL.findall(body):
                self._say(sheet, link.decode("utf-16-le", "replace"))
        elif kind == _SERIES_TEXT and len(body) > 3:
            self._say(sheet, self._short(body[2:]))
        elif kind == _NOTE and not self._biff_8 and len(body) > 6:
            self._say(sheet, body[6:].decode(self._codec, "replace"))

    def _formula(self, body: bytes, sheet: int) -> None:
        row, _, style = struct.unpack_from("<HHH", body)
        self._formula_row = row
        if body[12:14] != b"\xff\xff":
            self._cell(sheet, row, self._shown(struct.unpack_from("<d", body, 6)[0], style))
        elif body[6] == 1:
            self._cell(sheet, row, ("FALSE", "TRUE")[body[8] & 1])
        elif body[6] == 2:
            self._cell(sheet, row, ERRORS.get(body[8], ""))

    def _shown(self, value: float, style: int) -> str:
        code = self._codes.get(self._styles[style]) if style < len(self._styles) else None
        return shown(value, code, self._date_1904) if value == value else plain(0)

    def _short(self, raw: bytes) -> str:
        if not raw:
            return ""
        if not self._biff_8:
            return raw[1 : 1 + raw[0]].decode(self._codec, "replace")
        if raw[1] & 1:
            return raw[2 : 2 + 2 * raw[0]].decode("utf-16-le", "replace")
        return raw[2 : 2 + raw[0]].decode("latin-1")

    def _long(self, raw: bytes, parts: list[bytes] | None = None) -> str:
        if len(raw) < 2:
            return ""
        if not self._biff_8:
            count = struct.unpack_from("<H", raw)[0]
            return raw[2 : 2 + count].decode(self._codec, "replace")
        return _Strings([raw, *(parts or [raw])[1:]]).string()


def extract_bare_excel(document: Document) -> None:
    """The same of a file that is no container, as those of Excel 2 to 4 are. Raises ExtractionError."""
    extract_excel(document, document.payload)


def extract_excel(document: Document, data: bytes) -> None:
    """Emit the sheets of a ``Workbook`` or ``Book`` stream. Raises ExtractionError."""
    document.used("mailstream-xls")
    _Workbook(document).read(data)


def _records(data: bytes) -> Iterator[tuple[int, list[bytes], int]]:
    """Type, content with that of its CONTINUE records, and offset of each record."""
    at = 0
    held: tuple[int, list[bytes], int] | None = None
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<HH", data, at)
        body = data[at + 4 : at + 4 + length]
        if kind == _CONTINUE and held is not None:
            held[1].append(body)
        else:
            if held is not None:
                yield held
            held = (kind, [body], at)
        at += 4 + length
    if held is not None:
        yield held


def rk_number(value: int) -> float:
    """A number in the short form of both binary formats."""
    if value & 2:
        number: float = struct.unpack("<i", struct.pack("<I", value))[0] >> 2
    else:
        number = struct.unpack("<d", struct.pack("<II", 0, value & 0xFFFFFFFC))[0]
    return number / 100 if value & 1 else number
