"""The lines of text in the XML of Word, PowerPoint, Excel, charts and diagrams, known by local names.

One walk serves every variant: transitional and strict OOXML, macro files and templates, flat packages, Word
2003's own XML. What a document shows twice for old readers (``mc:Fallback``) is read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lxml import etree

from streams.extractors.xml import attribute, local_name

_PARAGRAPHS = frozenset({"p", "comment", "threadedComment", "si", "pt", "cm", "shape", "textpath"})
_TEXT = frozenset({"t", "v", "text", "delText", "Data", "PlainText", "lpwstr"})
_BREAKS = {"br": "\n", "cr": "\n", "tab": "\t", "ptab": "\t", "noBreakHyphen": "-", "tc": "\t"}
# What no reader sees: what was deleted, the old reader's copy, formulas of charts, styles.
_SKIPPED = frozenset(
    {"Fallback", "del", "moveFrom", "sectPrChange", "pPrChange", "rPrChange", "tblGrid", "binData"}
)
# Names and descriptions that the author gave to pictures, controls and links.
_SPOKEN = {
    "docPr": ("title", "descr"),
    "cNvPr": ("title", "descr"),
    "alias": ("val",),
    "listItem": ("displayText",),
    "listEntry": ("val",),
    "textpath": ("string",),
    "hlinkClick": ("tooltip",),
    "hyperlink": ("tooltip", "display"),
    "dataValidation": ("promptTitle", "prompt", "errorTitle", "error"),
}
# All the names that ``lines`` knows: of a document's elements, most are how it looks.
_READ = [
    f"{{*}}{name}"
    for name in sorted(
        _PARAGRAPHS.union(
            *(_TEXT, _BREAKS, _SKIPPED, _SPOKEN),
            ("sp", "lastRenderedPageBreak", "instrText", "rPh", "bookmarkStart"),
        )
    )
]
_LINK = re.compile(r"""\b(?:HYPERLINK|INCLUDEPICTURE|INCLUDETEXT)\s+(?:\\\w\s+)*"([^"]+)\"""")


@dataclass(slots=True)
class Line:
    """A paragraph and the page that it begins on, as far as the file says."""

    text: str
    page: int


def lines(root: Any, *, skip_placeholders: bool = False) -> Iterator[Line]:
    """Paragraphs in the order of the file; a text box inside one comes before it."""
    stack: list[list[str]] = [[]]
    page = 1
    walk = etree.iterwalk(root, events=("start", "end"), tag=_READ)
    kinds: dict[Any, str] = {}
    for event, element in walk:
        tag = element.tag
        name = kinds.get(tag)
        if name is None:
            name = kinds[tag] = local_name(element)
        if event == "end":
            if name in _PARAGRAPHS and len(stack) > 1:
                text = "".join(stack.pop()).strip()
                if text:
                    yield Line(text, page)
            continue
        if name in _SKIPPED or (skip_placeholders and name == "sp" and _is_placeholder(element)):
            walk.skip_subtree()
            continue
        if name in _PARAGRAPHS:
            stack.append([])
        if name in _TEXT:
            if element.text:
                stack[-1].append(element.text)
                if name in ("v", "Data", "text"):
                    stack[-1].append(" ")
        elif name in _BREAKS:
            stack[-1].append(_BREAKS[name])
            if name == "br" and attribute(element, "type") == "page":
                page += 1
        elif name == "lastRenderedPageBreak":
            page += 1
        elif name == "instrText":
            stack[-1].extend(f" {link} " for link in _LINK.findall(element.text or ""))
        elif name == "rPh":  # phonetic text stands beside what it spells
            stack[-1].append(" ")
        if name == "bookmarkStart":
            # Word's own begin with an underscore.
            target = attribute(element, "name") or ""
            if target and not target.startswith("_"):
                yield Line(target, page)
        elif name in _SPOKEN:
            for spoken in _SPOKEN[name]:
                if value := attribute(element, spoken):
                    yield Line(value.strip(), page)
    rest = " ".join("".join(texts) for texts in stack).strip()
    if rest:
        yield Line(rest, page)


def _is_placeholder(shape: Any) -> bool:
    """Whether the shape only says where text would stand; dates and footers of a master are shown."""
    holder = next(shape.iter("{*}ph"), None)
    return holder is not None and holder.get("type") not in ("dt", "ftr", "hdr")
