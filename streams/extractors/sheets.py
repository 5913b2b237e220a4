"""The sheets of an XLSX: cells as they are shown, row by row, read as a stream, however large."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from streams.extractors import xml
from streams.extractors.number_format import BUILT_IN, header_text, shown
from streams.extractors.package import Package
from streams.extractors.result import Document

_HEADERS = ("oddHeader", "evenHeader", "firstHeader", "oddFooter", "evenFooter", "firstFooter")
_BLOCK_CHARACTERS = 200_000
_GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")


@dataclass(slots=True)
class Book:
    """What the sheets of a workbook share."""

    sheets: dict[str, str] = field(default_factory=dict)  # part: name
    strings: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)  # by the number of a cell's style
    date_1904: bool = False
    parts: set[str] = field(default_factory=set)  # parts that say nothing more than the sheets do

    @classmethod
    def open(cls, package: Package) -> Book:
        """The workbook of a package; empty where it has none."""
        book = cls()
        main = next(
            (t for _, kind, t, _ in package.relations("") if kind == "officeDocument"), "xl/workbook.xml"
        )
        root = package.tree(main)
        relations = {key: (kind, target) for key, kind, target, _ in package.relations(main)}
        for node in root.iter("{*}sheet", "{*}workbookPr") if root is not None else ():
            if xml.local_name(node) == "workbookPr":
                book.date_1904 = node.get("date1904") in ("1", "true")
                continue
            relation = next((v for k, v in node.items() if k.endswith("}id")), "")
            kind, target = relations.get(relation, ("", ""))
            if kind == "worksheet" and package.has(target):
                book.sheets[target] = node.get("name") or ""
        if not book.sheets:
            sheets = sorted(name for name in package.names if re.fullmatch(r"xl/worksheets/\w+\.xml", name))
            book.sheets = {name: str(number) for number, name in enumerate(sheets, start=1)}
        targets = dict(relations.values())
        shared = targets.get("sharedStrings", "xl/sharedStrings.xml")
        styles = targets.get("styles", "xl/styles.xml")
        book.parts = {main, shared, styles}
        book.strings = [_string(item) for _, item in xml.stream(package.read(shared), "si")]
        book._read_styles(package.tree(styles))
        return book

    def _read_styles(self, root: Any) -> None:
        codes: dict[int, str] = dict(BUILT_IN)
        for node in root.iter("{*}numFmt") if root is not None else ():
            codes[_integer(node.get("numFmtId"))] = node.get("formatCode") or "General"
        for cells in root.iter("{*}cellXfs") if root is not None else ():
            self.formats = [codes.get(_integer(node.get("numFmtId")), "General") for node in cells]

    def cell(self, cell: Any) -> str:
        """What a ``c`` element shows."""
        kind, value, inline = cell.get("t"), None, ""
        for node in cell:
            name = xml.local_name(node)
            if name == "v":
                value = node.text
            elif name == "is":
                inline = _string(node)
        if kind == "inlineStr" or value is None:
            return inline or value or ""
        if kind == "s":
            number = _integer(value)
            return self.strings[number] if 0 <= number < len(self.strings) else ""
        if kind in ("str", "e", "d"):
            return str(value)
        if kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        try:
            style = _integer(cell.get("s"))
            return shown(
                float(value), self.formats[style] if style < len(self.formats) else None, self.date_1904
            )
        except (ValueError, OverflowError):
            return str(value)


def emit(document: Document, package: Package, book: Book, name: str) -> None:
    """Emit a sheet's cells, headers and hyperlinks."""
    number = list(book.sheets).index(name) + 1
    label = f"sheet {book.sheets[name]}"
    document.facts["pages"] = max(number, document.facts.get("pages", 0))
    # People look for sheets by their names.
    lines = [book.sheets[name]]
    waiting = 0
    for kind, element in xml.stream(package.read(name), "row", "hyperlink", "dataValidation", *_HEADERS):
        if kind == "row":
            texts: Iterable[str] = _searchable(book.cell(cell).strip() for cell in element)
        elif kind in _HEADERS:
            texts = [header_text(element.text or "")]
        else:
            names = ("location", "display", "tooltip", "promptTitle", "prompt", "errorTitle", "error")
            texts = [value for key in names if (value := element.get(key))]
        line = "\t".join(texts)
        if line:
            lines.append(line)
            waiting += len(line)
        if waiting > _BLOCK_CHARACTERS:
            document.text("\n".join(lines), page=number, label=label)
            lines, waiting = [], 0
            if document.truncated:
                return
    document.text("\n".join(lines), page=number, label=label)


def _searchable(cells: Iterable[str]) -> Iterator[str]:
    """What cells show; people look for 1,192 as 1192, too."""
    for text in cells:
        if text:
            yield text
            if _GROUPED.fullmatch(text):
                yield text.replace(",", "")


def _string(item: Any) -> str:
    """A rich text, and behind it its phonetic reading."""
    spoken: list[str] = []
    spelled: list[str] = []
    for node in item.iter("{*}t"):
        parent = node.getparent()
        (spoken if xml.local_name(parent) == "rPh" else spelled).append(node.text or "")
    return "".join(spelled) + (f" {' '.join(spoken)}" if spoken else "")


def _integer(value: str | None) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0
