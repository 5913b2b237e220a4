"""XML from strangers: no entities, no DTD, nothing fetched; what is damaged is read as far as it goes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from lxml import etree

from schemas.outcomes import Outcome
from streams.extractors.result import ExtractionError

_SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "recover": True}
_PARSER = etree.XMLParser(**_SAFE)
# lxml's tree takes ten times the bytes of the source: larger parts are only read as a stream.
MAX_TREE_BYTES = 64 * 1024 * 1024


def parse(data: bytes) -> Any:
    """The root element, or None where there is none. Raises ExtractionError over the cap."""
    if len(data) > MAX_TREE_BYTES:
        raise ExtractionError(Outcome.LIMIT_EXCEEDED)
    try:
        return etree.fromstring(data, _PARSER)
    except (etree.LxmlError, ValueError):
        return None


def stream(data: bytes, *names: str) -> Iterator[tuple[str, Any]]:
    """Elements of these local names as they end, with their names; each is gone when the next comes."""
    elements = etree.iterparse(
        io.BytesIO(data), events=("end",), tag=[f"{{*}}{name}" for name in names], **_SAFE
    )
    try:
        for _, element in elements:
            yield local_name(element), element
            element.clear(keep_tail=True)
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:
                del parent[0]
    except etree.LxmlError:
        return


def local_name(element: Any) -> str:
    """The name without its namespace; empty for comments and the like."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """The attribute of this local name, whatever its namespace."""
    value: str | None = element.get(name)
    if value is None:
        value = next((v for key, v in element.items() if key.rpartition("}")[2] == name), None)
    return value
