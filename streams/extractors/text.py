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
# These write every letter in seven bits: their bytes are valid UTF-8, and mean something else.
_SEVEN_BIT = re.compile(r"^(iso2022_\w+|hz|utf_7)$")
_ESCAPES = ((b"\x1b$)C", "iso2022_kr"), (b"\x1b$B", "iso2022_jp_2"), (b"\x1b$@", "iso2022_jp_2"))
_META_CHARSET = re.compile(rb"<meta[^>]+charset=[\"']?\s*([\w-]+)", re.IGNORECASE)
_HIDDEN = re.compile(r"<(script|style)\b", re.IGNORECASE)
_HIDDEN_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}
# Deeper trees make every HTML library recurse to death; such a page is stripped of its tags instead.
_MAX_HTML_BYTES = 20 * 1024 * 1024


def decode(payload: bytes, declared: str | None) -> str:
    """The text of ``payload``: as ``decode_surely`` reads it, else as guessed, else with marks for losses."""
    sure = decode_surely(payload, declared)
    if sure is not None:
        return sure
    sample = payload[:_SAMPLE_BYTES]
    if sum(byte > 127 for byte in sample) < _GUESSABLE_BYTES:
        return payload.decode("cp1252", "replace")
    guess = from_bytes(sample).best()
    return payload.decode(guess.encoding if guess is not None else "cp1252", "replace")


def decode_surely(payload: bytes, declared: str | None) -> str | None:
    """The text by its mark, as UTF-8 or as declared; None where the charset must be guessed. Takes time
    proportional to the size, whatever the bytes are.

    UTF-8 goes before a declared eight-bit charset because hardly any other text happens to be valid UTF-8.
    """
    for bom, encoding in _BOMS:
        if payload.startswith(bom):
            return payload.decode(encoding, "replace")
    candidates = ["utf-8"] if b"\x00" not in payload[:_SAMPLE_BYTES] else []
    escaped = next((encoding for escape, encoding in _ESCAPES if escape in payload[:_SAMPLE_BYTES]), None)
    if escaped:
        candidates.insert(0, escaped)
    codec = _codec(declared)
    if codec:
        candidates.insert(0 if _SEVEN_BIT.match(codec) else len(candidates), codec)
    for candidate in candidates:
        try:
            return payload.decode(candidate)
        except (LookupError, ValueError):  # unknown after all, no charset (rot13), or not what the bytes are
            continue
    return None


def _codec(declared: str | None) -> str | None:
    try:
        return codecs.lookup(declared).name.replace("-", "_") if declared else None
    except (LookupError, ValueError):
        return None


def extract_text(document: Document) -> None:
    """Text as it stands, CSV and JSON and the like included."""
    document.text(decode(document.payload, document.charset))


def extract_html(document: Document) -> None:
    """HTML as text, tables and lists laid out; scripts, styles and comments left out."""
    if len(document.payload) > _MAX_HTML_BYTES:
        raise ExtractionError(Outcome.LIMIT_EXCEEDED)
    meta = _META_CHARSET.search(document.payload[:_SAMPLE_BYTES])
    source = decode(document.payload, document.charset or (meta[1].decode("ascii") if meta else None))
    document.used("inscriptis")
    document.text(html_to_text(source))


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
