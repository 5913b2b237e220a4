"""A mail as a tree of parts, and the one function that numbers them.

``walk`` decides the part path of every leaf and which leaves are attachments; the numbers are part of the
document id, so they must come out the same whether the tree was built from raw bytes (``parse``), from
Gmail's JSON (``connectors.gmail.message``) or over IMAP. Numbering follows IMAP's section numbers: the
children of a multipart are 1, 2, ...; a mail of a single part is part "1"; nested levels are joined by ".".
A message/rfc822 part is a leaf here: what it contains gets paths of its own, below it, from the engine.
"""

import base64
import binascii
import codecs
import hashlib
import io
import quopri
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.generator import BytesGenerator
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32
from typing import Any

# Deeper trees than this are hostile: Gmail itself stops at 100 levels. What lies below is dropped.
MAX_DEPTH = 100
# Of a header with parameters no more is read: the standard library takes the square of its length.
MAX_PARAMETER_CHARACTERS = 8_192
# Nor are encoded words decoded beyond this, for the same reason; what follows stays as it stands.
MAX_ENCODED_CHARACTERS = 65_536
MAX_CHARSET_CHARACTERS = 40
# Python's own codecs are no charsets of mail; some refuse what they are asked for, and punycode takes the
# square of the size: 80 kB of it hold a worker up for a second.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Part:
    """One node of a mail's MIME tree; the root's headers are the mail's headers."""

    content_type: str  # lower case, "type/subtype", no parameters
    headers: tuple[tuple[str, str], ...] = ()  # decoded to text, in order, names as they stood
    filename: str | None = None
    disposition: str | None = None  # "attachment", "inline", or what else stood there; lower case
    charset: str | None = None
    children: tuple["Part", ...] = ()
    size_bytes: int | None = None  # of the decoded body, as declared by whoever gave us the part
    body: bytes | None = None  # transfer-decoded; None when it must be fetched by ``reference``
    reference: str | None = None  # an opaque, short-lived handle to the body (Gmail's attachmentId)

    def header(self, name: str) -> str | None:
        """The first header of that name (any case), or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    @property
    def content_id(self) -> str | None:
        """The Content-ID without its angle brackets, by which HTML refers to an inline image."""
        value = self.header("Content-ID")
        return value.strip().strip("<>") or None if value else None

    @property
    def is_text(self) -> bool:
        """Whether the part is text, or a broken multipart without children, which is shown as text."""
        return self.content_type.startswith("text/") or self.content_type.startswith("multipart/")

    @property
    def is_attachment(self) -> bool:
        """A leaf with a file name or ``Content-Disposition: attachment``, or any leaf that is not text."""
        return bool(self.filename) or self.disposition == "attachment" or not self.is_text


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the tree with its path; ``alternative_of`` is the path of the enclosing
    multipart/alternative, if any: its text leaves say the same thing twice."""

    path: str
    part: Part
    alternative_of: str | None = None


def walk(root: Part) -> list[Leaf]:
    """Every leaf in the order of the mail, with its part path."""
    if not root.children:
        return [Leaf("1", root)]
    leaves: list[Leaf] = []
    _number(root, "", None, leaves, 0)
    return leaves


def _number(part: Part, prefix: str, alternative_of: str | None, leaves: list[Leaf], depth: int) -> None:
    if part.content_type == "multipart/alternative":
        alternative_of = prefix or "0"
    for number, child in enumerate(part.children, start=1):
        path = f"{prefix}.{number}" if prefix else str(number)
        if child.children and depth < MAX_DEPTH:
            _number(child, path, alternative_of, leaves, depth + 1)
        else:
            leaves.append(Leaf(path, child, alternative_of))


def attachments(root: Part) -> list[Leaf]:
    """The leaves that are attachments."""
    return [leaf for leaf in walk(root) if leaf.part.is_attachment]


def body_leaves(root: Part) -> list[Leaf]:
    """The leaves that make up the mail's own text: of each multipart/alternative the plain text, or the
    HTML where there is no plain text (or only white space of it)."""
    texts = [leaf for leaf in walk(root) if not leaf.part.is_attachment]
    chosen: list[Leaf] = []
    for leaf in texts:
        if leaf.alternative_of is None:
            chosen.append(leaf)
            continue
        group = [other for other in texts if other.alternative_of == leaf.alternative_of]
        plain = [
            other for other in group if other.part.content_type == "text/plain" and _has_text(other.part)
        ]
        if leaf in (plain or [other for other in group if other.part.content_type == "text/html"] or group):
            chosen.append(leaf)
    return chosen


def text_digest(bodies: Iterable[tuple[bytes, str | None]]) -> str:
    """SHA-256 of a mail's own text, given its body leaves' bytes and charsets in order.

    Charset, line ends and white space make no difference: they are others from ``full``, from ``raw``, and
    over IMAP.
    """
    words = [word for body, charset in bodies for word in _decoded(body, charset).split()]
    return hashlib.sha256(" ".join(words).encode("utf-8", "replace")).hexdigest()


def _decoded(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(codec_of(charset) or "utf-8")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")


def codec_of(charset: str | None) -> str | None:
    """Python's name of a charset that a stranger named; None where there is none of that name."""
    # Python remembers every name that it was ever asked for.
    if not charset or len(charset) > MAX_CHARSET_CHARACTERS:
        return None
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None
    return None if name in _NO_CHARSETS else name


def readable(text: str) -> str:
    """Text that UTF-8 can write: half a pair of UTF-16, which JSON and some codecs let pass, is marked."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def _has_text(part: Part) -> bool:
    return part.body is None or bool(part.body.strip())


_WITH_PARAMETERS = {"content-type", "content-disposition"}


class _AsItStands(Compat32):
    """Headers keep their folds, and their bytes that are no ASCII (as surrogates); written back, a mail is
    what it was, byte for byte: a nested mail has one hash, whoever took it out."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, _, value = sourcelines[0].partition(":")
        return name, (value + "".join(sourcelines[1:])).rstrip("\r\n")

    def header_fetch_parse(self, name: str, value: str) -> str:
        return value[:MAX_PARAMETER_CHARACTERS].strip() if name.lower() in _WITH_PARAMETERS else value.strip()

    def fold_binary(self, name: str, value: str) -> bytes:
        return f"{name}:{value}{self.linesep}".encode("utf-8", "surrogateescape")


_POLICY = _AsItStands()
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;]+))', re.IGNORECASE)


class _Mail(Message):
    """A multipart keeps its parts where another parameter of its header cannot be read."""

    def get_boundary(self, failobj: Any = None) -> Any:
        try:
            return super().get_boundary(failobj)
        except TypeError:  # name*=x; name*0=y: Python cannot put these in order
            found = _BOUNDARY.search(str(self.get("content-type", "")))
            return failobj if found is None else (found[1] or found[2] or "").rstrip()


_LINE_END_BYTES = 1000  # RFC 5322's longest line; how one ends is how all do


def parse(raw: bytes) -> Part:
    """The tree of a mail in RFC 5322 form. Never raises: a malformed mail becomes the tree that is there."""
    policy = _POLICY.clone(linesep="\r\n" if b"\r\n" in raw[:_LINE_END_BYTES] else "\n")
    try:
        return _convert(BytesParser(_Mail, policy=policy).parsebytes(raw), 0)
    except RecursionError:
        # Hundreds of nested levels: nobody's mail. Its headers and its text stay findable.
        message = BytesParser(_Mail, policy=policy).parsebytes(raw, headersonly=True)
        message.replace_header("Content-Type", "text/plain")
        return _convert(message, 0)


def _convert(message: Message, depth: int) -> Part:
    content_type = readable(message.get_content_type())
    headers = tuple((readable(name), decode_words(str(value))) for name, value in message.items())
    disposition = message.get_content_disposition()
    common = {
        "content_type": content_type,
        "headers": headers,
        "filename": file_name(message),
        "disposition": readable(disposition) if disposition is not None else None,
        "charset": charset_of(message),
    }
    if content_type.startswith("multipart/") and message.is_multipart() and depth < MAX_DEPTH:
        children = tuple(_convert(child, depth + 1) for child in _messages(message))
        if children:
            return Part(**common, children=children)  # type: ignore[arg-type]
    body = nested_bytes(message) if message.is_multipart() else decoded_payload(message)
    return Part(**common, size_bytes=len(body), body=body)  # type: ignore[arg-type]


def _messages(message: Message) -> Iterator[Message]:
    payload = message.get_payload()
    if isinstance(payload, list):
        yield from (child for child in payload if isinstance(child, Message))


class _Writer(BytesGenerator):
    """Writes a multipart without parts as the bytes it is; the standard library decodes it first."""

    def _handle_multipart(self, msg: Message) -> None:
        if isinstance(msg.get_payload(), str):
            self._handle_text(msg)  # type: ignore[attr-defined]
        else:
            super()._handle_multipart(msg)  # type: ignore[misc]


def nested_bytes(message: Message) -> bytes:
    """The bytes of a message/* part that the parser has already opened, undoing a transfer encoding that
    the standard forbids there and some programs use all the same."""
    written = io.BytesIO()
    for number, child in enumerate(_messages(message)):
        if number:
            written.write(message.policy.linesep.encode())
        _Writer(written, mangle_from_=False, policy=message.policy).flatten(child)
    inner = written.getvalue()
    encoding = str(message.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding == "base64":
        try:
            return base64.b64decode(inner.strip(), validate=False)
        except binascii.Error:
            return inner
    return quopri.decodestring(inner) if encoding == "quoted-printable" else inner


def decoded_payload(message: Message) -> bytes:
    """The transfer-decoded bytes of a leaf; as they stand where the encoding is broken."""
    payload = message.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def charset_of(message: Message) -> str | None:
    """The declared charset in lower case, or None where there is none or it cannot be read."""
    charset = _parameter(message, "content-type", "charset")
    return charset.lower() if charset and charset.isascii() else None


def file_name(message: Message) -> str | None:
    """The declared file name, RFC 2231 and RFC 2047 undone; from Content-Disposition, else Content-Type."""
    for header, parameter in (("content-disposition", "filename"), ("content-type", "name")):
        name = decode_words(_parameter(message, header, parameter) or "").strip()
        if name:
            return name
    return None


def _parameter(message: Message, header: str, name: str) -> str | None:
    """A parameter of a header, RFC 2231 undone; None where there is none, or the header cannot be read."""
    try:
        value = message.get_param(name, None, header)
    except (ValueError, TypeError, AttributeError):
        return None
    if value is None or isinstance(value, str):
        return value
    charset, _, text = value
    codec = codec_of(charset) if charset else "ascii"
    if codec is None:
        return str(text)
    try:
        return str(text).encode("raw-unicode-escape").decode(codec, "replace")
    except (LookupError, ValueError):
        return str(text)


_LINE_END = re.compile(r"\r\n|\r|\n")


def decode_words(value: str) -> str:
    """A header's text: folds joined, RFC 2047 words decoded, 8-bit bytes read as UTF-8 or Latin-1."""
    value = " ".join(line.strip(" \t") for line in _LINE_END.split(value)).strip()
    if "\udc80" <= max(value, default="") <= "\udcff":
        raw = value.encode("utf-8", "surrogateescape")
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError:
            value = raw.decode("latin-1")
    if "=?" not in value:
        return readable(value)
    head, rest = value[:MAX_ENCODED_CHARACTERS], value[MAX_ENCODED_CHARACTERS:]
    try:
        words = decode_header(head)
    except (HeaderParseError, ValueError, IndexError):
        return readable(value)
    return readable("".join(_word(text, charset) for text, charset in words) + rest)


def _word(text: bytes | str, charset: str | None) -> str:
    if isinstance(text, str):
        return text
    # The standard library hands over what is not encoded in this codec.
    codec = (codec_of(charset) or "utf-8") if charset else "raw-unicode-escape"
    try:
        return text.decode(codec, "replace")
    except (LookupError, ValueError):
        return text.decode("utf-8", "replace")
