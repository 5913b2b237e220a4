"""EPUB: the chapters in reading order."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from schemas.outcomes import Outcome
from streams.extractors import xml
from streams.extractors.charsets import decode
from streams.extractors.package import Package
from streams.extractors.result import Document, ExtractionError
from streams.extractors.text import html_to_text

_PAGES = (".xhtml", ".html", ".htm", ".xml")
_FACTS = {"title": "title", "creator": "author", "date": "created"}


def extract_epub(document: Document) -> None:
    """Emit each chapter with its number. Raises ExtractionError."""
    package = Package(document)
    if package.has("META-INF/encryption.xml") and package.has("META-INF/rights.xml"):
        raise ExtractionError(Outcome.ENCRYPTED)
    document.used("inscriptis")
    chapters = _chapters(document, package)
    document.facts["pages"] = len(chapters)
    for number, name in enumerate(chapters, start=1):
        source = decode(package.read(name), None)
        # An XML declaration names a charset that the decoded text has no longer.
        text = html_to_text(source.partition("?>")[2] if source.startswith("<?xml") else source)
        document.text(text, page=number, label=f"chapter {number}")
    if not document.characters and not package.intact:
        raise ExtractionError(Outcome.CORRUPT)


def _chapters(document: Document, package: Package) -> list[str]:
    container = package.tree("META-INF/container.xml")
    roots = container.iter("{*}rootfile") if container is not None else ()
    opf = next((node.get("full-path") for node in roots if node.get("full-path")), "") or next(
        (name for name in package.names if name.endswith(".opf")), ""
    )
    root = package.tree(opf) if opf else None
    if root is None:
        return sorted(name for name in package.names if name.lower().endswith(_PAGES))
    items: dict[str, str] = {}
    order: list[str] = []
    for node in root.iter():
        name = xml.local_name(node)
        if name == "item" and node.get("id") and node.get("href"):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(opf), unquote(node.get("href"))))
            items[node.get("id")] = target.partition("#")[0]
        elif name == "itemref" and node.get("idref") in items:
            order.append(items[node.get("idref")])
        elif name in _FACTS and (node.text or "").strip():
            document.facts.setdefault(_FACTS[name], node.text.strip())
    # What the spine leaves out (notes, appendices) is text all the same.
    rest = [name for name in items.values() if name.lower().endswith(_PAGES) and name not in order]
    return [name for name in dict.fromkeys([*order, *rest]) if package.has(name)]
