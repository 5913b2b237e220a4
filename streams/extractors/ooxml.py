"""Office files in OOXML: unstructured reads the body, then every part of the package is read for the rest.

Of the second pass only what the first one missed is emitted: headers, notes, comments, text boxes, content
controls, charts, diagrams, alternative texts, hyperlinks, phonetic text. What is embedded becomes children.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

from schemas.outcomes import Outcome
from streams.extractors import markup, sheets
from streams.extractors.package import Package
from streams.extractors.partition import partition
from streams.extractors.pictures import worth_reading
from streams.extractors.result import Document, ExtractionError
from streams.extractors.said import Said
from streams.extractors.sheets_binary import emit_binary_sheets
from streams.extractors.xml import local_name

# unstructured takes 1.1 s a MB of a document's XML and 1.7 s of a sheet's, our pass a tenth of that: it reads
# larger bodies alone.
_MAX_PARTITION_BYTES = {"word": 2_000_000, "slides": 8_000_000}
_BODIES = {"word": re.compile(r"word/\w+\.xml"), "slides": re.compile(r"ppt/slides/\w+\.xml")}
_NO_BODY = re.compile(r"(?!)")
# Written by the author for whoever looks for the document.
_TOLD = ("subject", "description", "keywords", "category")
_FACTS = {"title": "title", "creator": "author", "created": "created"}
# Parts that hold settings and drawings of drawings, not text.
_SILENT = re.compile(
    r"(^|/)(_rels|theme|printerSettings)/|(^|/)(\[Content_Types\]|settings|styles|stylesWithEffects|webSettings|"
    r"fontTable|numbering|presProps|viewProps|tableStyles|calcChain|app|people|item\d+|itemProps\d+|"
    r"commentsExtended|commentsIds|colors\d*|style\d+|layout\d+|quickStyle\d+|vbaData|attachedToolbars|"
    r"pivotCache\w+|volatileDependencies|connections|metadata|docMetadata|LabelInfo)\.xml$",
    re.IGNORECASE,
)
_EMBEDDED = {"oleObject", "package", "aFChunk", "control", "attachedTemplate", "subDocument"}
_PICTURES = {"image"}
_NOT_EMBEDDED = {
    "thumbnail",
    "vmlDrawing",
    "printerSettings",
    "vbaProject",
    "font",
    "video",
    "audio",
    "media",
}
_LABELS = {
    "header": "header", "footer": "footer", "footnotes": "footnotes", "endnotes": "endnotes",
    "comments": "comments", "threadedComment": "comments", "notesSlide": "notes", "chart": "chart",
    "diagramData": "diagram", "diagramDrawing": "diagram", "glossaryDocument": "building blocks",
    "slideLayout": "layout", "slideMaster": "master", "notesMaster": "master", "handoutMaster": "master",
    "custom-properties": "properties",
}  # fmt: skip
_MASTERS = {"slideLayout", "slideMaster", "notesMaster", "handoutMaster"}
_BINARY = re.compile(r"\.(bin|xml|rels|vml|fntdata|odttf|psmdcp|sigs|data)$", re.IGNORECASE)


@dataclass(slots=True)
class _Place:
    """Where a part belongs: a slide or sheet and its label, and what kind of part it is there."""

    kind: str = ""
    page: int | None = None
    label: str | None = None

    @property
    def words(self) -> str | None:
        return ", ".join(filter(None, (self.label, _LABELS.get(self.kind)))) or None


@dataclass(slots=True)
class _Map:
    """The parts of a package in reading order, links out of it, and what is embedded."""

    places: dict[str, _Place] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=dict)
    embedded: dict[str, str] = field(default_factory=dict)  # part: kind of relation


def extract_ooxml(document: Document) -> None:
    """Everything in a DOCX, PPTX, XLSX, their templates and macro files, and other packages of the kind.
    Raises ExtractionError."""
    package = Package(document)
    kind = _kind(package)
    said = Said()
    partitioned = False
    if kind in _BODIES and package.intact:
        size = sum(package.size_bytes(name) for name in package.names if _BODIES[kind].fullmatch(name))
        if size <= _MAX_PARTITION_BYTES[kind]:
            for text in partition(document, kind):
                said.add(text)
                partitioned = True
    if kind == "sheets" and package.has("xl/workbook.bin"):
        emit_binary_sheets(document, package)
    book = sheets.Book.open(package) if kind == "sheets" else None
    parts = _map(package, book.sheets if book else {})
    for name, place in parts.places.items():
        if book is not None and name in book.sheets:
            sheets.emit(document, package, book, name)
        elif (
            name.endswith((".xml", ".vml")) and not _SILENT.search(name) and not (book and name in book.parts)
        ):
            # A body that unstructured did not read is said as it stands, repetitions and all.
            whole = not partitioned and _BODIES.get(kind, _NO_BODY).fullmatch(name)
            _emit_part(document, package, name, place, None if whole else said)
        new = [link for link in parts.links.get(name, ()) if said.is_new(link)]
        label = f"{place.words}, links" if place.words else "links"
        document.text("\n".join(new), page=place.page, label=label)
    if not document.characters and not package.intact and not parts.embedded:
        raise ExtractionError(Outcome.CORRUPT)
    _facts(document, package)
    _children(document, package, parts)


def _kind(package: Package) -> str:
    main = next((target for _, kind, target, _ in package.relations("") if kind == "officeDocument"), "")
    for kind, folder in (("word", "word/"), ("slides", "ppt/"), ("sheets", "xl/")):
        if main.startswith(folder) or any(name.startswith(folder) for name in package.names):
            return kind
    return "other"


def _map(package: Package, sheet_names: dict[str, str]) -> _Map:
    found = _Map()
    slides = 0

    def visit(name: str, place: _Place, depth: int) -> None:
        nonlocal slides
        if name in found.places or depth > 12 or (name and not package.has(name)):
            return
        if name:
            found.places[name] = place
        relations = package.relations(name)
        ordered = _in_order(package, name, relations)
        for _, kind, target, outside in ordered:
            if outside:
                if kind in ("hyperlink", *_EMBEDDED) and target:
                    found.links.setdefault(name, []).append(target)
                continue
            if kind in _EMBEDDED | _PICTURES or (kind not in _NOT_EMBEDDED and not _BINARY.search(target)):
                if package.has(target):
                    found.embedded.setdefault(target, kind)
                continue
            below = _Place(kind, place.page, place.label)
            if kind == "slide":
                slides += 1
                below = _Place(kind, slides, f"slide {slides}")
            elif target in sheet_names:
                page = list(sheet_names).index(target) + 1
                below = _Place(kind, page, f"sheet {sheet_names[target]}")
            elif kind in _MASTERS:
                below = _Place(kind)
            visit(target, below, depth + 1)

    visit("", _Place(), 0)
    # What nothing refers to may be text all the same: writers forget, and damage takes the references.
    for name in package.names:
        if re.search(r"(^|/)embeddings/[^/]+$", name):
            found.embedded.setdefault(name, "package")
        elif name.endswith(".xml") and name not in found.places:
            found.places[name] = _Place()
    return found


def _in_order(
    package: Package, name: str, relations: list[tuple[str, str, str, bool]]
) -> list[tuple[str, str, str, bool]]:
    """Slides in the order of the presentation, not of its relations."""
    if not any(kind == "slide" for _, kind, _, _ in relations) or not name.endswith("presentation.xml"):
        return relations
    root = package.tree(name)
    nodes = root.iter("{*}sldId") if root is not None else ()
    order = {node.get(key): n for n, node in enumerate(nodes) for key in node if key.endswith("}id")}
    return sorted(relations, key=lambda relation: order.get(relation[0], -1))


def _emit_part(document: Document, package: Package, name: str, place: _Place, said: Said | None) -> None:
    """Emit a part's lines, page by page where the file tells; with ``said`` only what is not in there."""
    root = package.tree(name)
    if root is None:
        return
    is_body = local_name(root) == "document"
    page = 1
    texts: list[str] = []
    for line in markup.lines(root, skip_placeholders=place.kind in _MASTERS):
        if is_body and line.page != page:
            document.text("\n".join(texts), page=page, label=place.words)
            page, texts = line.page, []
        if said is None or said.is_new(line.text):
            texts.append(line.text)
    document.text("\n".join(texts), page=page if is_body and page > 1 else place.page, label=place.words)
    if is_body and page > 1:
        document.facts["pages"] = max(page, document.facts.get("pages", 0))
    if place.kind == "slide":
        document.facts["pages"] = max(place.page or 0, document.facts.get("pages", 0))


def _facts(document: Document, package: Package) -> None:
    for _, kind, target, outside in package.relations(""):
        if kind != "core-properties" or outside:
            continue
        root = package.tree(target)
        for node in root if root is not None else ():
            name, text = local_name(node), (node.text or "").strip()
            if text and name in _FACTS:
                document.facts[_FACTS[name]] = text
            elif text and name in _TOLD:
                document.text(text, label="properties")


def _children(document: Document, package: Package, parts: _Map) -> None:
    for name, kind in parts.embedded.items():
        payload = package.read(name)
        if kind in _PICTURES:
            if worth_reading(payload):
                document.embedded(payload, filename=posixpath.basename(name))
        elif payload:
            document.embedded(payload, filename=posixpath.basename(name))
