"""Office files that are one XML document: flat WordprocessingML, Word 2003's XML, SpreadsheetML 2003."""

from __future__ import annotations

from typing import Any

from schemas.outcomes import Outcome
from streams.extractors import markup, xml
from streams.extractors.pictures import embed_base64
from streams.extractors.result import Document, ExtractionError

_FACTS = {"title": "title", "creator": "author", "author": "author", "created": "created"}


def extract_flat_office(document: Document) -> None:
    """Emit the text of every part or sheet; what is there in base64 becomes children. Raises
    ExtractionError."""
    document.used("lxml")
    root = xml.parse(document.payload)
    if root is None:
        raise ExtractionError(Outcome.CORRUPT)
    for node in root.iter("{*}coreProperties", "{*}DocumentProperties"):
        for fact in node:
            if (name := _FACTS.get(xml.local_name(fact).lower())) and (fact.text or "").strip():
                document.facts[name] = fact.text.strip()
    if xml.local_name(root) == "Workbook":
        _emit_sheets(document, root)
    else:
        _emit_words(document, root)
    for node in root.iter("{*}binaryData", "{*}binData"):
        embed_base64(document, node.text)


def _emit_words(document: Document, root: Any) -> None:
    page = 1
    texts: list[str] = []
    for line in markup.lines(root):
        if line.page != page:
            document.text("\n".join(texts), page=page)
            page, texts = line.page, []
        texts.append(line.text)
    document.text("\n".join(texts), page=page if page > 1 else None)
    if page > 1:
        document.facts["pages"] = page
    targets = [
        node.get("Target") for node in root.iter("{*}Relationship") if node.get("TargetMode") == "External"
    ]
    targets += [value for node in root.iter("{*}hlink") if (value := xml.attribute(node, "dest"))]
    document.text("\n".join(dict.fromkeys(filter(None, targets))), label="links")


def _emit_sheets(document: Document, root: Any) -> None:
    number = 0
    for sheet in root.iter("{*}Worksheet"):
        number += 1
        rows = []
        for row in sheet.iter("{*}Row"):
            cells = []
            for cell in row:
                link = xml.attribute(cell, "HRef")
                texts = ["".join(data.itertext()).strip() for data in cell.iter("{*}Data")]
                cells += [text for text in (*texts, link) if text]
            if cells:
                rows.append("\t".join(cells))
        for node in sheet.iter("{*}Header", "{*}Footer"):
            rows += [text for text in (xml.attribute(node, "Data"),) if text]
        name = xml.attribute(sheet, "Name") or str(number)
        document.text("\n".join(rows), page=number, label=f"sheet {name}")
    document.facts["pages"] = number
