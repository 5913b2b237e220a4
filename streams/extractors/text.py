"""Plain text of any kind and any charset, and HTML laid out as a person would read it."""

import codecs
import re

from charset_normalizer import from_bytes
from inscriptis import get_text

from schemas.outcomes import Outcome
from streams.extractors.result import Document, ExtractionError

# Guessing reads everything; this much of a text tells its charset.
_SAMPLE_BYTES = 64 * 1024
# From a few accents nobody can tell a charset: guesses go astray (ä in Latin-1 passed for Arabic), and the
# commonest charset of the West is right more often.
_GUESSABLE_BYTES = 12
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_META_CHARSET = re.compile(rb"<meta[^>]+charset=[\"']?\s*([\w-]+)", re.IGNORECASE)
_TAG = re.compile(r"(?s)<(script|style)\b.*?</\1\s*>|<[^>]*>")
# Deeper trees make every HTML library recurse to death; such a page is stripped of its tags instead.
_MAX_HTML_BYTES = 20 * 1024 * 1024


def decode(payload: bytes, declared: str | None) -> str:
    """The text of ``payload``: by its mark, as UTF-8, as declared, as guessed, or with marks for losses.

    UTF-8 goes before the declared charset because hardly any other text happens to be valid UTF-8.
    """
    for bom, encoding in _BOMS:
        if payload.startswith(bom):
            return payload.decode(encoding, "replace")
    if b"\x00" not in payload[:_SAMPLE_BYTES]:
        try:
            return payload.decode("utf-8")
        except UnicodeDecodeError:
            pass
    if declared:
        try:
            return payload.decode(declared)
        except (LookupError, UnicodeDecodeError, ValueError):
            pass
    sample = payload[:_SAMPLE_BYTES]
    if sum(byte > 127 for byte in sample) < _GUESSABLE_BYTES:
        return payload.decode("cp1252", "replace")
    guess = from_bytes(sample).best()
    return payload.decode(guess.encoding if guess is not None else "cp1252", "replace")


def extract_text(document: Document) -> None:
    """Text as it stands, CSV and JSON and the like included."""
    document.text(decode(document.payload, document.charset))


def extract_html(document: Document) -> None:
    """HTML as text, tables and lists laid out; scripts, styles and comments left out."""
    if len(document.payload) > _MAX_HTML_BYTES:
        raise ExtractionError(Outcome.LIMIT_EXCEEDED)
    meta = _META_CHARSET.search(document.payload[:_SAMPLE_BYTES])
    source = decode(document.payload, document.charset or (meta[1].decode("ascii") if meta else None))
    document.text(html_to_text(source))
    document.used("inscriptis")


def html_to_text(source: str) -> str:
    """HTML as text; where the tree cannot be built (too deep, too broken), the source without its tags."""
    try:
        text = str(get_text(source))
    except Exception:  # noqa: BLE001 - lxml and the layout raise many kinds on hostile trees
        text = ""
    return text if text.strip() else _TAG.sub(" ", source)
