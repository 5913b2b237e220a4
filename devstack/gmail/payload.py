"""A raw mail as the JSON that Gmail makes of it: ``MessagePart`` trees, bodies, snippets.

Built here from Python's ``email`` package and nothing of the product, so that it can check the product.

What is emulated of Gmail:

- part ids: the root is "", its children "0", "1", ...; deeper ones "1.0"; the mail inside a message/rfc822
  part "1" is its only child "1.0";
- the body of a text part without a file name is inline and in UTF-8 where its declared charset is known and
  fits its bytes, though its Content-Type header still names the old charset; otherwise the bytes are the
  mail's own. ``size`` counts the bytes that are given;
- every other body (a file name, ``Content-Disposition: attachment``, not text, or too large) is behind an
  ``attachmentId``, transfer-decoded and otherwise untouched;
- a message/rfc822 part has the nested mail's bytes behind an ``attachmentId`` and its tree in ``parts``.
"""

import base64
import binascii
import html
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.errors import MessageError
from email.generator import BytesGenerator
from email.message import Message
from email.parser import BytesParser
from functools import cached_property
from io import BytesIO
from typing import Any

from devstack.gmail.headers import VERBATIM, eight_bit_text, file_name, header_text

MAX_DEPTH = 100  # levels of nesting; Gmail opens no more
MAX_INLINE_BYTES = 512 * 1024  # a longer text body goes behind an attachmentId
SNIPPET_CHARACTERS = 200


@dataclass
class MimePart:
    """One node of a mail. ``content``: the transfer-decoded body of a leaf, or the bytes of a nested mail."""

    part_id: str
    media_type: str
    filename: str
    headers: list[tuple[str, str]]
    disposition: str | None = None
    charset: str | None = None
    content: bytes | None = None
    children: list["MimePart"] = field(default_factory=list)

    @property
    def is_external(self) -> bool:
        """Whether the body is behind an attachmentId."""
        if self.content is None:
            return False
        textual = self.media_type.startswith(("text/", "multipart/"))
        return (
            bool(self.filename)
            or self.disposition == "attachment"
            or not textual
            or len(self.content) > MAX_INLINE_BYTES
        )

    @cached_property
    def inline_content(self) -> bytes:
        """The bytes that ``body.data`` bears: UTF-8 for text whose charset is known and fits."""
        content = self.content or b""
        if self.charset is None or not self.media_type.startswith("text/"):
            return content
        try:
            return content.decode(self.charset).encode("utf-8")
        except (LookupError, UnicodeError, ValueError):
            return content

    def walk(self) -> Iterator["MimePart"]:
        """This part and all below it, in the order of the mail."""
        yield self
        for child in self.children:
            yield from child.walk()


def parse_mail(raw: bytes) -> MimePart:
    """The tree of a mail. Never raises: a malformed mail gives the tree that can be made out."""
    return _parse(raw, "", 0)


def _parse(raw: bytes, part_id: str, depth: int) -> MimePart:
    try:
        return _convert(BytesParser(policy=VERBATIM).parsebytes(raw), part_id, depth, b"\r\n" in raw)
    except (RecursionError, MessageError, TypeError):
        # Hundreds of levels, or parameters that Python cannot put in order: the mail is shown as one text.
        message = BytesParser(policy=VERBATIM).parsebytes(raw, headersonly=True)
        return MimePart(part_id, "text/plain", "", _headers(message), content=_leaf_content(message))


def _convert(message: Message, part_id: str, depth: int, crlf: bool) -> MimePart:
    media_type = message.get_content_type()
    part = MimePart(
        part_id,
        eight_bit_text(media_type),
        file_name(message),
        _headers(message),
        disposition=message.get_content_disposition(),
        charset=_charset(message),
    )
    inner = (
        [child for child in message.get_payload() if isinstance(child, Message)]
        if (message.is_multipart())
        else []
    )
    if not media_type.startswith("multipart/") or not inner:
        part.content = _nested_content(message, inner, crlf) if inner else _leaf_content(message)
    if depth >= MAX_DEPTH:
        part.content = part.content if part.content is not None else b""
    elif media_type.startswith("multipart/"):
        for number, child in enumerate(inner):
            part.children.append(_convert(child, _child_id(part_id, number), depth + 1, crlf))
    elif media_type in {"message/rfc822", "message/global"}:
        part.children.append(_parse(part.content or b"", _child_id(part_id, 0), depth + 1))
    return part


def _child_id(part_id: str, number: int) -> str:
    return f"{part_id}.{number}" if part_id else str(number)


def _headers(message: Message) -> list[tuple[str, str]]:
    return [(eight_bit_text(name), header_text(value)) for name, value in message.items()]


def _charset(message: Message) -> str | None:
    try:
        return message.get_content_charset()
    except (LookupError, UnicodeError, ValueError, TypeError, AttributeError):
        return None


def _leaf_content(message: Message) -> bytes:
    try:
        content = message.get_payload(decode=True)
    except (ValueError, LookupError, binascii.Error):
        content = None
    if isinstance(content, bytes):
        return content
    text = message.get_payload()
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else b""


class _Writer(BytesGenerator):
    """Writes a multipart without parts as the bytes it is; the standard library decodes it first."""

    def _handle_multipart(self, msg: Message) -> None:
        if isinstance(msg.get_payload(), str):
            self._handle_text(msg)  # type: ignore[attr-defined]
        else:
            super()._handle_multipart(msg)  # type: ignore[misc]


def _nested_content(message: Message, inner: list[Message], crlf: bool) -> bytes:
    """What a message/* part contains, as it stood, for the parser has already opened it."""
    written = BytesIO()
    policy = VERBATIM.clone(linesep="\r\n" if crlf else "\n")
    for number, child in enumerate(inner):
        if number:
            written.write(policy.linesep.encode())
        _Writer(written, mangle_from_=False, policy=policy).flatten(child)
    content = written.getvalue()
    # The standard forbids a transfer encoding here; some programs use one all the same.
    encoding = str(message.get("content-transfer-encoding", "")).lower()
    if encoding == "base64":
        try:
            return base64.b64decode(content.strip())
        except binascii.Error:
            return content
    return quopri.decodestring(content) if encoding == "quoted-printable" else content


_TAGS = re.compile(r"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>")


def plain_text(root: MimePart) -> str:
    """The words of the mail's own text parts: plain text, or HTML without its tags where there is none."""
    texts = [part for part in root.walk() if part.content is not None and not part.is_external]
    plain = [part for part in texts if part.media_type != "text/html"]
    chosen = [part for part in plain if part.inline_content.strip()] or texts
    found = []
    for part in chosen:
        text = part.inline_content.decode("utf-8", "replace")
        found.append(html.unescape(_TAGS.sub(" ", text)) if part.media_type == "text/html" else text)
    return "\n".join(found)


def snippet(root: MimePart) -> str:
    """The first words of the mail, escaped for HTML as Gmail gives them."""
    words = " ".join(plain_text(root)[: 20 * SNIPPET_CHARACTERS].split())
    return html.escape(words[:SNIPPET_CHARACTERS].rstrip()).replace("&#x27;", "&#39;")


def base64url(content: bytes) -> str:
    """Base64 for URLs, padded, as Gmail writes it."""
    return base64.urlsafe_b64encode(content).decode("ascii")


def part_json(part: MimePart, attachment_ids: dict[str, str]) -> dict[str, Any]:
    """The ``MessagePart`` resource of a part; ``attachment_ids`` has those whose bodies are references."""
    resource: dict[str, Any] = {
        "partId": part.part_id,
        "mimeType": part.media_type,
        "filename": part.filename,
        "headers": [{"name": name, "value": value} for name, value in part.headers],
        "body": _body_json(part, attachment_ids),
    }
    if part.children:
        resource["parts"] = [part_json(child, attachment_ids) for child in part.children]
    return resource


def _body_json(part: MimePart, attachment_ids: dict[str, str]) -> dict[str, Any]:
    if part.content is None:
        return {"size": 0}
    if part.part_id in attachment_ids:
        return {"attachmentId": attachment_ids[part.part_id], "size": len(part.content)}
    content = part.inline_content
    return {"size": len(content), "data": base64url(content)} if content else {"size": 0}


def metadata_json(part: MimePart, wanted: list[str]) -> dict[str, Any]:
    """The payload of ``format=metadata``: the mail's headers, or only those whose names are ``wanted``."""
    names = {name.lower() for name in wanted}
    headers = [
        {"name": name, "value": value} for name, value in part.headers if not names or name.lower() in names
    ]
    return {"mimeType": part.media_type, "headers": headers}
