"""A large message by its outline (BODYSTRUCTURE): small bodies come with it, large ones are references.

So a message takes no more memory than over the API: what is large is fetched in blocks when its turn comes,
and what is too large for the engine is not fetched at all.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from imapclient.response_types import BodyData

from connectors.errors import NotFoundError
from schemas.mime import MAX_DEPTH, Part, parse

# Parts up to this size, as they are sent, come with the message; and no more of them than this together.
SMALL_PART_BYTES = 1024 * 1024
SMALL_PARTS_BYTES = 8 * 1024 * 1024
# Of 76 characters and a line end, which nearly all programs write, 57 bytes come out.
_BASE64_BYTES = 57 / 78
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")


@dataclass(frozen=True, slots=True)
class Node:
    """A part as BODYSTRUCTURE has it. ``section`` is its number, "" for the message as a whole."""

    section: str
    children: tuple[Node, ...] = ()
    sent_bytes: int = 0
    is_digest: bool = False

    @property
    def head(self) -> str:
        """The section that has its headers."""
        return f"{self.section}.MIME" if self.section else "HEADER"

    @property
    def body(self) -> str:
        """The section that has its body, transfer-encoded."""
        return self.section or "TEXT"

    def nodes(self) -> Iterator[Node]:
        """Itself and all below it."""
        yield self
        for child in self.children:
            yield from child.nodes()


def outline(structure: BodyData, section: str = "", depth: int = 0) -> Node:
    """The tree of parts, numbered as ``schemas.mime`` does it."""
    if structure.is_multipart and depth < MAX_DEPTH:
        children = tuple(
            outline(child, f"{section}.{number}" if section else str(number), depth + 1)
            for number, child in enumerate(structure[0], start=1)
        )
        return Node(section, children, is_digest=_text(structure[1]) == "digest")
    size = structure[6] if not structure.is_multipart and len(structure) > 6 else 0
    return Node(section, (), size if isinstance(size, int) else 0)


def small(root: Node) -> list[Node]:
    """The leaves whose bodies come with the message, in the order of the mail."""
    found, together = [], 0
    for node in root.nodes():
        if not node.children and node.sent_bytes <= SMALL_PART_BYTES:
            together += node.sent_bytes
            if together <= SMALL_PARTS_BYTES:
                found.append(node)
    return found


class Reference(NamedTuple):
    """Where a body stands; it holds until the folder's UIDVALIDITY changes or the message moves."""

    folder_key: str
    uidvalidity: int
    uid: int
    encoding: str
    section: str

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def of(cls, text: str) -> Reference:
        """Read one. Raises NotFoundError."""
        try:
            key, uidvalidity, uid, encoding, section = text.split(".", 4)
            return cls(key, int(uidvalidity), int(uid), encoding, section)
        except ValueError:
            raise NotFoundError("no reference of IMAP's") from None


def assemble(node: Node, sections: Mapping[str, bytes], place: tuple[str, int, int]) -> Part:
    """The message's tree of the sections that were fetched; the other bodies are references.

    ``place`` is folder key, UIDVALIDITY and UID.
    """
    head, body = sections[node.head], sections.get(node.body)
    if node.children:
        children = []
        for child in node.children:
            part = assemble(child, sections, place)
            if node.is_digest and part.header("Content-Type") is None:
                part = replace(part, content_type="message/rfc822")
            children.append(part)
        return replace(parse(head), children=tuple(children), size_bytes=None, body=None)
    if body is not None:
        return parse(head + body)
    part = parse(head)
    encoding = re.sub(r"[^a-z0-9-]", "", (part.header("Content-Transfer-Encoding") or "").lower())
    return replace(
        part,
        children=(),
        # What its encoding makes of it; the engine counts what it receives.
        size_bytes=int(node.sent_bytes * _BASE64_BYTES) if encoding == "base64" else node.sent_bytes,
        body=None,
        reference=str(Reference(*place, encoding, node.body)),
    )


class Decoder:
    """Undoes a transfer encoding, block by block, as ``schemas.mime.parse`` does it of a whole."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._pending = b""
        self._ended = False

    def feed(self, block: bytes) -> bytes:
        """The bytes that this block completes, possibly none."""
        if self._encoding == "base64":
            self._pending += _NOT_BASE64.sub(b"", block)
            if self._ended:
                return b""
            end = self._pending.find(b"=")
            if end >= 0:
                self._ended = True
                return _unpadded(self._pending[:end])
            whole = len(self._pending) - len(self._pending) % 4
            ready, self._pending = self._pending[:whole], self._pending[whole:]
            return binascii.a2b_base64(ready)
        if self._encoding == "quoted-printable":
            lines, line_end, self._pending = (self._pending + block).rpartition(b"\n")
            return binascii.a2b_qp(lines + line_end)
        if "uu" in self._encoding:  # its lines say little without its first and its last
            self._pending += block
            return b""
        return block

    def close(self) -> bytes:
        """What is left when no block is."""
        pending, self._pending = self._pending, b""
        if self._encoding == "base64":
            return b"" if self._ended else _unpadded(pending)
        if self._encoding == "quoted-printable":
            return binascii.a2b_qp(pending)
        if pending:
            return parse(b"Content-Transfer-Encoding: x-uuencode\n\n" + pending).body or b""
        return b""


def _unpadded(characters: bytes) -> bytes:
    """Base64 without its padding; of a single character nothing can be told."""
    if len(characters) % 4 == 1:
        characters = characters[:-1]
    return binascii.a2b_base64(characters + b"=" * (-len(characters) % 4))


def _text(value: Any) -> str:
    return value.decode("ascii", "replace").lower() if isinstance(value, bytes) else ""
