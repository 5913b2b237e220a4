"""The sheets of an XLSB ([MS-XLSB]): what XLSX says in XML, in records."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from streams.extractors.excel_binary import ERRORS, rk_number
from streams.extractors.number_format import BUILT_IN, header_text, shown
from streams.extractors.package import Package
from streams.extractors.result import Document

_ROW, _SST_ITEM, _FORMAT, _CELL_FORMATS, _CELL_FORMATS_END, _XF = 0, 19, 44, 617, 618, 47
_RK, _ERROR, _BOOL, _REAL, _STRING, _INDEX = 2, 3, 4, 5, 6, 7
_FORMULA_STRING, _FORMULA_NUMBER, _SHEET, _HEADER, _COMMENT, _BOOK = 8, 9, 156, 479, 637, 153


def emit_binary_sheets(document: Document, package: Package) -> None:
    """Emit the cells, headers and comments of each sheet."""
    strings = [
        _text(body, 1) for kind, body in _records(package.read("xl/sharedStrings.bin")) if kind == _SST_ITEM
    ]
    styles = _styles(package.read("xl/styles.bin"))
    targets = {key: target for key, _, target, _ in package.relations("xl/workbook.bin")}
    date_1904 = False
    number = 0
    for kind, body in _records(package.read("xl/workbook.bin")):
        if kind == _BOOK:
            date_1904 = bool(body[0] & 1)
        if kind != _SHEET:
            continue
        number += 1
        relation, at = _counted(body, 8)
        name, _ = _counted(body, at)
        part = targets.get(relation, "")
        lines = [name, *_sheet(package.read(part), strings, styles, date_1904)]
        for _, below, target, outside in package.relations(part):
            if below == "comments":
                comments = _records(package.read(target))
                lines += [_text(comment, 1) for found, comment in comments if found == _COMMENT]
            elif outside:
                lines.append(target)
        document.text("\n".join(lines), page=number, label=f"sheet {name}")
    document.facts["pages"] = number


def _sheet(data: bytes, strings: list[str], styles: list[str], date_1904: bool) -> Iterator[str]:
    row: list[str] = []
    for kind, body in _records(data):
        if kind == _ROW:
            if row:
                yield "\t".join(row)
            row = []
            continue
        try:
            text = header_text(_header(body)) if kind == _HEADER else ""
            if kind in (_STRING, _FORMULA_STRING):
                text = _text(body, 8)
            elif kind == _INDEX:
                text = strings[struct.unpack_from("<I", body, 8)[0]]
            elif kind in (_RK, _REAL, _FORMULA_NUMBER):
                raw = struct.unpack_from("<I" if kind == _RK else "<d", body, 8)[0]
                style = struct.unpack_from("<I", body, 4)[0] & 0xFFFFFF
                code = styles[style] if style < len(styles) else None
                text = shown(rk_number(raw) if kind == _RK else raw, code, date_1904)
            elif kind == _BOOL:
                text = ("FALSE", "TRUE")[body[8] & 1]
            elif kind == _ERROR:
                text = ERRORS.get(body[8], "")
        except (struct.error, IndexError, ValueError, OverflowError):
            continue
        if text.strip():
            row.append(text.strip())
    if row:
        yield "\t".join(row)


def _header(body: bytes) -> str:
    texts, at = [], 2
    while at + 4 <= len(body):
        text, at = _counted(body, at)
        texts.append(text)
    return " ".join(filter(None, texts))


def _styles(data: bytes) -> list[str]:
    codes: dict[int, str] = dict(BUILT_IN)
    found: list[str] = []
    inside = False
    for kind, body in _records(data):
        if kind == _FORMAT:
            codes[struct.unpack_from("<H", body)[0]] = _text(body, 2)
        elif kind in (_CELL_FORMATS, _CELL_FORMATS_END):
            inside = kind == _CELL_FORMATS
        elif kind == _XF and inside:
            found.append(codes.get(struct.unpack_from("<H", body, 2)[0], "General"))
    return found


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content; both type and length are numbers of seven bits a byte."""
    at = 0
    while at < len(data):
        kind = data[at]
        at += 1
        if kind & 0x80 and at < len(data):
            kind = kind & 0x7F | (data[at] & 0x7F) << 7
            at += 1
        length = shift = 0
        while at < len(data) and shift < 28:
            byte = data[at]
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                break
        yield kind, data[at : at + length]
        at += length


def _counted(body: bytes, at: int) -> tuple[str, int]:
    if at + 4 > len(body):
        return "", len(body)
    [count] = struct.unpack_from("<I", body, at)
    if count == 0xFFFFFFFF:
        return "", at + 4
    end = at + 4 + 2 * count
    return body[at + 4 : end].decode("utf-16-le", "replace"), end


def _text(body: bytes, at: int) -> str:
    return _counted(body, at)[0]
