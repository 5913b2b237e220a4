"""The charset of a text: by its mark, by what is declared, by what the bytes say."""

import codecs
import re

from schemas.mime import codec_of

# Guessing takes time; this much of a text tells its charset.
_SAMPLE_BYTES = 16 * 1024
# From a few accents nobody can tell a charset: guesses go astray (ä in Latin-1 passed for Arabic), and the
# commonest charset of the West is right more often.
_GUESSABLE_BYTES = 8
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# These write every letter in seven bits: their bytes are valid UTF-8, and mean something else.
_SEVEN_BIT = re.compile(r"^(iso2022_\w+|hz|utf_7)$")
_ESCAPES = (
    (b"\x1b$)C", "iso2022_kr"),
    (b"\x1b$B", "iso2022_jp_2"),
    (b"\x1b$@", "iso2022_jp_2"),
    (b"\x1b$(", "iso2022_jp_ext"),
)
# What programs write that do not know their charset: every byte is valid in it, which says nothing.
_DEFAULTS = {"iso8859_1", "cp1252", "ascii"}
# In EBCDIC a space is 0x40, a new line 0x15 or 0x25, letters and digits lie where ASCII has nothing.
_EBCDIC_LETTERS = frozenset((*range(0x81, 0x8A), *range(0x91, 0x9A), *range(0xA2, 0xAA)))
_EBCDIC_TEXT = _EBCDIC_LETTERS | frozenset(
    (*range(0xC1, 0xCA), *range(0xD1, 0xDA), *range(0xE2, 0xEA), *range(0xF0, 0xFA), *b"\x40\x4b\x6b\x15\x25")
)
_PRINTABLE_SHARE = 0.98
# A few bytes that are no UTF-8 among thousands that are: damage, not another charset.
_DAMAGED_SHARE = 0.005


def decode(payload: bytes, declared: str | None) -> str:
    """The text of ``payload``: as ``decode_surely`` reads it, else as guessed, else with marks for losses.

    For parser processes only: guessing takes its time.
    """
    sample = payload[:_SAMPLE_BYTES]
    wide = None if payload.startswith(tuple(bom for bom, _ in _BOMS)) else wide_charset(sample)
    if wide:
        return payload.decode(wide, "replace")
    sure = decode_surely(payload, declared)
    if sure is not None and (codec_name(declared) not in _DEFAULTS or not _doubtful(sample)):
        return sure
    if is_ebcdic(sample):
        return _ebcdic(payload, sample)
    if _is_damaged_utf8(payload):
        return payload.decode("utf-8", "replace")
    if sure is None and sum(byte > 127 for byte in sample) < _GUESSABLE_BYTES:
        return payload.decode("cp1252", "replace")
    return payload.decode(_guess(payload) or codec_name(declared) or "cp1252", "replace")


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
    codec = codec_name(declared)
    if codec:
        # By the standard of the web, who says Latin-1 means Windows-1252.
        codec = "cp1252" if codec == "iso8859_1" else codec
        candidates.insert(0 if _SEVEN_BIT.match(codec) else len(candidates), codec)
    for candidate in candidates:
        try:
            return payload.decode(candidate)
        except (LookupError, ValueError):  # unknown after all, no charset (rot13), or not what the bytes are
            continue
    return None


def codec_name(declared: str | None) -> str | None:
    """Python's name of the charset; None where there is none of that name."""
    name = codec_of(declared)
    return name.replace("-", "_") if name is not None else None


def wide_charset(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: the one that makes the bytes the plainest text, or None."""
    if b"\x00" not in sample:
        return None
    for width, codecs_of_width in ((4, ("utf-32-le", "utf-32-be")), (2, ("utf-16-le", "utf-16-be"))):
        whole = sample[: len(sample) // width * width]
        found = [(_plainness(whole, codec), codec) for codec in codecs_of_width]
        plainness, codec = max(found)
        if plainness > 0:
            return codec
    return None


def _plainness(sample: bytes, codec: str) -> float:
    """The share of characters that texts in any language are full of; 0 where the bytes are no text."""
    try:
        text = sample.decode(codec)
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4:
            return 0.0
        text = sample[: error.start].decode(codec)  # the sample ends within a pair
    shown = sum(character.isprintable() or character in "\t\r\n\f" for character in text)
    if not text or shown < _PRINTABLE_SHARE * len(text):
        return 0.0
    return sum(character.isascii() or "\u3000" <= character <= "\u30ff" for character in text) / len(text)


def is_ebcdic(sample: bytes) -> bool:
    """Whether the bytes are a mainframe's text, by how often they are what letters are there."""
    if len(sample) < 16 or sample.count(0x40) < 0.05 * len(sample) or sample.count(0x20) > 0.02 * len(sample):
        return False
    text = sum(byte in _EBCDIC_TEXT for byte in sample)
    return text > 0.85 * len(sample) and sum(byte in _EBCDIC_LETTERS for byte in sample) > 0.1 * len(sample)


def _ebcdic(payload: bytes, sample: bytes) -> str:
    # 500 is 037 with brackets and exclamation marks elsewhere, 1140 is 037 with the euro sign.
    brackets_500 = sample.count(0x4A) + sample.count(0x5A) + sample.count(0x4F)
    brackets_037 = sample.count(0xBA) + sample.count(0xBB)
    text = payload.decode("cp500" if brackets_500 > brackets_037 else "cp1140", "replace")
    return text.replace("\x85", "\n")


def _doubtful(sample: bytes) -> bool:
    """Whether bytes beyond ASCII are so many that another charset than the default would show."""
    beyond = sum(byte > 127 for byte in sample)
    return is_ebcdic(sample) or beyond > max(_GUESSABLE_BYTES, 0.1 * len(sample))


def _is_damaged_utf8(payload: bytes) -> bool:
    text = payload.decode("utf-8", "replace")
    beyond = sum(character > "\x7f" and character != "\ufffd" for character in text[:_SAMPLE_BYTES])
    lost = text[:_SAMPLE_BYTES].count("\ufffd")
    return lost <= beyond and lost <= max(_DAMAGED_SHARE * len(text[:_SAMPLE_BYTES]), 1) and beyond > 4 * lost


def _guess(payload: bytes) -> str | None:
    import chardet  # its models take a moment to load, and most texts are UTF-8

    # A text may begin with pages of ASCII: the sample is taken where the rest begins.
    first = next((number for number, byte in enumerate(payload) if byte > 127), 0)
    start = max(0, first - 256)
    guess = chardet.detect(payload[start : start + _SAMPLE_BYTES])
    return codec_name(guess["encoding"])
