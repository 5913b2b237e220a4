"""Plain text, HTML laid out as a person would read it, and what can be read of XML."""

import html
import re

from inscriptis import get_text
from lxml import etree

from schemas.outcomes import Outcome
from streams.extractors.charsets import decode
from streams.extractors.result import Document, ExtractionError

_HEAD_BYTES = 4096
_META_CHARSET = re.compile(rb"<meta[^>]+charset=[\"']?\s*([\w-]+)", re.IGNORECASE)
_HIDDEN = re.compile(r"<(script|style)\b", re.IGNORECASE)
_HIDDEN_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}
# Deeper trees make every HTML library recurse to death; such a page is stripped of its tags instead.
_MAX_HTML_BYTES = 20 * 1024 * 1024
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,1000})", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{1,10000}>")
_ATTRIBUTE = re.compile(
    r"""\b(?:alt|title|placeholder|content|label)\s*=\s*(?:"([^"<>]+)"|'([^'<>]+)')""", re.IGNORECASE
)
_LETTERS = re.compile(r"[^\W\d_]{2}")
# What these attributes of XML hold is written for people.
_READ_ATTRIBUTES = re.compile(
    "alt|caption|content|desc|description|href|label|name|placeholder|subject|summary|term|text|title|tooltip|value"
)
_MARKUP = re.compile(
    r"</?(?:p|br|a|b|i|div|span|ul|li|table|img|em|strong|h\d)\b[^<>]{0,500}>", re.IGNORECASE
)


def extract_text(document: Document) -> None:
    """Text as it stands, CSV and JSON and the like included."""
    document.text(decode(document.payload, document.charset))


def extract_html(document: Document) -> None:
    """HTML as text, tables and lists laid out, and what pictures are called; scripts, styles and comments
    left out. Raises ExtractionError."""
    if len(document.payload) > _MAX_HTML_BYTES:
        raise ExtractionError(Outcome.LIMIT_EXCEEDED)
    meta = _META_CHARSET.search(document.payload[:_HEAD_BYTES])
    source = decode(document.payload, document.charset or (meta[1].decode("ascii") if meta else None))
    document.used("inscriptis")
    text = html_to_text(source)
    title = _TITLE.search(source)
    if title and title[1].strip():
        document.facts["title"] = _unescaped(title[1])
        if document.facts["title"] not in text:
            text = f"{document.facts['title']}\n{text}"
    document.text("\n".join((text, *_attribute_texts(source))))


def html_to_text(source: str) -> str:
    """HTML as text; where the tree cannot be built (too deep, too broken), the source without its tags.

    For parser processes only: the layout may take any time on a hostile tree.
    """
    try:
        text = str(get_text(source))
    except Exception:  # noqa: BLE001 - lxml and the layout raise many kinds on hostile trees
        text = ""
    return text if text.strip() else without_tags(source)


def without_tags(source: str) -> str:
    """HTML without its tags, scripts and styles. Takes time proportional to the size, whatever it is given:
    no expression in it looks further than to the next match (``<script.*?</script>`` would: 16 s for
    160 kB of opening tags)."""
    kept: list[str] = []
    unended: set[str] = set()
    position = 0
    while True:
        start = source.find("<", position)
        end = source.find(">", start) if start >= 0 else -1
        if end < 0:
            kept.append(source[position:])
            return "".join(kept)
        kept += (source[position:start], " ")
        position = end + 1
        hidden = _HIDDEN.match(source, start)
        name = hidden[1].lower() if hidden else None
        if name and name not in unended:
            closing = _HIDDEN_ENDS[name].search(source, position)
            if closing:
                position = closing.start()
            else:
                unended.add(name)


def _attribute_texts(source: str) -> list[str]:
    """What pictures and fields of a page are called: each said once."""
    found = (
        _unescaped(match[1] or match[2])
        for tag in _TAG.finditer(source)
        for match in _ATTRIBUTE.finditer(tag[0])
    )
    # A content type or a viewport is for browsers.
    return list(dict.fromkeys(text for text in found if " " in text and "=" not in text))


def _unescaped(text: str) -> str:
    return " ".join(html.unescape(text).split())


def extract_xml(document: Document) -> None:
    """The texts of an XML file, SVG and feeds included, and of the attributes that are written for people.
    No entity is resolved and nothing is loaded. What is no XML after all is read as text."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, recover=True, remove_comments=True
    )
    try:
        root = etree.fromstring(_without_mark(document), parser)
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None:
        extract_text(document)
        return
    document.used("lxml")
    texts: list[str] = []
    for event, node in etree.iterwalk(root, events=("start", "end")):
        if event == "end":
            texts.append(node.tail or "")
        elif isinstance(node.tag, str):
            name = etree.QName(node).localname
            texts += _attributes(node)
            # A stylesheet inside a drawing is no text.
            texts.append("" if name in ("style", "script") else node.text or "")
            if name == "title" and node.text and node.text.strip():
                document.facts.setdefault("title", node.text.strip())
        elif isinstance(node, etree._Entity):
            texts.append("")
    document.text("\n".join(_readable(text) for text in texts if text.strip()))


def _without_mark(document: Document) -> bytes | str:
    """The bytes, as lxml knows XML's own declaration; text where it says another charset than it has."""
    try:
        document.payload.decode("utf-8")
    except UnicodeDecodeError:
        if b"encoding=" not in document.payload[:_HEAD_BYTES]:
            text = decode(document.payload, document.charset)
            return re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    return document.payload.lstrip()


def _attributes(node: "etree._Element") -> list[str]:
    found = []
    for key, value in node.attrib.items():
        name = etree.QName(key).localname.lower()
        if _READ_ATTRIBUTES.fullmatch(name) and _LETTERS.search(value) and not value.startswith("data:"):
            found.append(value)
    return found


def _readable(text: str) -> str:
    """Feeds carry HTML as text."""
    return " ".join((html_to_text(text) if _MARKUP.search(text) else text).split())
