"""ODT, ODS, ODP, their templates and their flat forms: text with its page, sheet or slide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from lxml import etree

from schemas.outcomes import Outcome
from streams.extractors import xml
from streams.extractors.package import Package
from streams.extractors.pictures import embed_base64, worth_reading
from streams.extractors.result import Document, ExtractionError

_PARAGRAPHS = {"p", "h"}
_SPACES = {"s": " ", "tab": "\t", "line-break": "\n"}
_FACTS = {"title": "title", "initial-creator": "author", "creator": "author", "creation-date": "created"}
_TOLD = {"subject", "keyword", "description", "user-defined"}
# Changed text that is gone, styles' internals, and what is only looked at.
_SKIPPED = {
    "tracked-changes",
    "forms",
    "scripts",
    "font-face-decls",
    "binary-data",
    "event-listeners",
    "settings",
}
_LABELED = {
    **dict.fromkeys(("header", "header-left", "header-first"), "header"),
    **dict.fromkeys(("footer", "footer-left", "footer-first"), "footer"),
    **dict.fromkeys(("notes", "note"), "notes"),
    "annotation": "comments",
}


def extract_opendocument(document: Document) -> None:
    """Emit a package's text and its objects' as children. Raises ExtractionError."""
    package = Package(document)
    manifest = package.read("META-INF/manifest.xml")
    if b"encryption-data" in manifest:
        raise ExtractionError(Outcome.ENCRYPTED)
    document.used("lxml")
    for name in ("meta.xml", "content.xml", "styles.xml"):
        root = package.tree(name)
        if root is not None:
            _emit(document, root)
    for name in package.names:
        folder, _, base = name.partition("/")
        if base == "content.xml" and folder != "META-INF":
            root = package.tree(name)
            if root is not None:
                document.text("\n".join(text for _, text in _lines(root)), label="object")
        elif ("/" not in name and name.startswith("Object ")) or name.startswith(("Pictures/", "media/")):
            payload = package.read(name)
            is_picture = name.startswith(("Pictures/", "media/"))
            if payload and (not is_picture or worth_reading(payload)):
                document.embedded(payload, filename=name.rpartition("/")[2])
    if not document.characters and not package.intact:
        raise ExtractionError(Outcome.CORRUPT)


def extract_flat_opendocument(document: Document) -> None:
    """The same of a file that is one XML document. Raises ExtractionError."""
    document.used("lxml")
    root = xml.parse(document.payload)
    if root is None:
        raise ExtractionError(Outcome.CORRUPT)
    _emit(document, root)
    for node in root.iter("{*}binary-data"):
        embed_base64(document, node.text)


def _emit(document: Document, root: Any) -> None:
    """Emit lines that stand in one place together."""
    for fact, name in ((node, xml.local_name(node)) for node in root.iter("{*}meta") for node in node):
        text = (fact.text or "").strip()
        if text and name in _FACTS:
            document.facts.setdefault(_FACTS[name], text)
        elif text and name in _TOLD:
            document.text(text, label="properties")
    page = None
    for (page, label), lines in groupby(_lines(root), key=itemgetter(0)):
        document.text("\n".join(text for _, text in lines), page=page, label=label)
    if page:
        document.facts["pages"] = max(page, document.facts.get("pages", 0))


def _lines(root: Any) -> Iterator[tuple[tuple[int | None, str | None], str]]:
    """(page, label) and text of each paragraph, those inside another (a note, a text box) before it."""
    stack: list[list[str]] = []
    labels: list[str] = []
    cells: list[str] | None = None
    page = 1
    counted, sheet = 0, ""
    for event, element in _walk(root):
        name = xml.local_name(element)
        where = (
            (counted if counted else page if page > 1 else None),
            ", ".join(filter(None, (sheet, labels[-1] if labels else ""))) or None,
        )
        if event == "start":
            if name in ("table", "page") and _is_place(element, name):
                counted += 1
                title = xml.attribute(element, "name") or str(counted)
                sheet = f"sheet {title}" if name == "table" else f"slide {counted}"
                if name == "table":
                    yield (counted, sheet), title
            if name in _LABELED:
                labels.append(_LABELED[name])
            if name == "table-row" and sheet.startswith("sheet"):
                cells = []
            if name in _PARAGRAPHS:
                stack.append([element.text or ""])
            elif stack:
                if name == "s":
                    stack[-1].append(" ")
                elif name in _SPACES:
                    stack[-1].append(_SPACES[name])
                stack[-1].append(element.text or "")
            elif name in ("title", "desc") and (element.text or "").strip():
                yield where, element.text.strip()
            if name == "soft-page-break":
                page += 1
            if name == "a" and (target := xml.attribute(element, "href")) and not target.startswith("#"):
                yield where, target
        else:
            if name in _PARAGRAPHS and stack:
                text = "".join(stack.pop()).strip()
                if text and cells is not None and not labels:
                    cells.append(text)
                elif text:
                    yield where, text
            elif name == "table-row" and cells is not None:
                if cells:
                    yield where, "\t".join(cells)
                cells = None
            if name in _LABELED and labels:
                labels.pop()
            if stack:
                stack[-1].append(element.tail or "")


def _is_place(element: Any, name: str) -> bool:
    """Whether this is a sheet of a workbook (not a table in a text), or a slide."""
    parent = element.getparent()
    return name == "page" or (parent is not None and xml.local_name(parent) == "spreadsheet")


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if event == "start" and xml.local_name(element) in _SKIPPED:
            walk.skip_subtree()
            continue
        yield event, element
