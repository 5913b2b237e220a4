"""Header text as Gmail gives it: unfolded, RFC 2047 words decoded, 8-bit bytes read as UTF-8 or Latin-1."""

import base64
import binascii
import quopri
import re
from datetime import UTC
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32
from email.utils import collapse_rfc2231_value, parsedate_to_datetime


class VerbatimPolicy(Compat32):
    """Parses as ``compat32`` does, and writes every header back exactly as it stood."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """Keep all that follows the colon, folds and spaces included."""
        name, _, value = sourcelines[0].partition(":")
        return name, (value + "".join(sourcelines[1:])).rstrip("\r\n")

    def header_fetch_parse(self, name: str, value: str) -> str:
        """A header without the spaces around it; bytes that are no ASCII stay surrogates."""
        return str(value).strip()

    def fold_binary(self, name: str, value: str) -> bytes:
        """The header line as it was read."""
        return f"{name}:{value}{self.linesep}".encode("utf-8", "surrogateescape")


VERBATIM = VerbatimPolicy()

# A mail whose headers end after more than this has no sensible headers; the rest counts as body.
MAX_HEADER_BYTES = 4 * 1024 * 1024
_BLANK_LINE = re.compile(rb"\r?\n\r?\n|\r\r")


def parse_headers(raw: bytes) -> Message:
    """The headers of a mail, without the work of taking its body apart."""
    end = _BLANK_LINE.search(raw, 0, MAX_HEADER_BYTES)
    return BytesParser(policy=VERBATIM).parsebytes(raw[: end.end() if end else MAX_HEADER_BYTES], True)


_FOLD = re.compile(r"[ \t]*(?:\r\n|\r|\n)[ \t]*")
_WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?]*)\?=")


def header_text(value: str) -> str:
    """Decode a header's value as it stands in the mail. What cannot be decoded stays as it is."""
    text = eight_bit_text(_FOLD.sub(" ", value).strip())
    if "=?" in text:
        text = _decode_words(text)
    # Some codecs (utf-7) give halves of surrogate pairs, which are no text.
    return text.encode("utf-8", "replace").decode("utf-8")


def eight_bit_text(value: str) -> str:
    """Text whose surrogates (bytes that the parser found no ASCII) are read as UTF-8, else as Latin-1."""
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode("utf-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _decode_words(text: str) -> str:
    decoded: list[str] = []
    position = 0
    run, run_charset = b"", ""
    for word in _WORD.finditer(text):
        between = text[position : word.start()]
        charset = word[1].partition("*")[0].lower()  # RFC 2231 allows a language after a star
        content = _word_bytes(word[2], word[3])
        if content is None:
            continue
        if run_charset and not between.strip():
            between = ""  # space between two encoded words only separates them
        if between or charset != run_charset:
            decoded += [_decoded(run, run_charset), between]
            run = b""
        # A character may be split over two words, so words of one charset are decoded together.
        run, run_charset = run + content, charset
        position = word.end()
    return "".join([*decoded, _decoded(run, run_charset), text[position:]])


def _word_bytes(encoding: str, content: str) -> bytes | None:
    source = content.encode("utf-8")
    if encoding in "qQ":
        return quopri.decodestring(source.replace(b"_", b" "), header=False)
    try:
        return base64.b64decode(source + b"=" * (-len(source) % 4))
    except binascii.Error:
        return None


def _decoded(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset or "ascii", "replace")
    except (LookupError, UnicodeError, ValueError):
        return eight_bit_text(content.decode("utf-8", "surrogateescape"))


def file_name(message: Message) -> str:
    """The file name of a part, decoded; from Content-Disposition, else Content-Type; "" without one."""
    for header, parameter in (("content-disposition", "filename"), ("content-type", "name")):
        try:
            value = message.get_param(parameter, None, header)
            if value is not None and (text := header_text(collapse_rfc2231_value(value))):
                return text
        except (ValueError, TypeError, LookupError, AttributeError):
            continue
    return ""


def date_milliseconds(message: Message) -> int | None:
    """The Date header in milliseconds since 1970; None when there is none or it is no date of mail."""
    try:
        date = parsedate_to_datetime(str(message.get("date", "")))
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        milliseconds = int(date.timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
        return None
    return milliseconds if 0 < milliseconds < _YEAR_2100 else None


_YEAR_2100 = 4_102_444_800_000
