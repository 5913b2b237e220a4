"""The parts of a mail as IMAP numbers and describes them: BODYSTRUCTURE, and what BODY[section] brings."""

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser

_HEAD_END = re.compile(rb"(?:\A|\n)\r?\n")
_DELIMITER_END = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")
_NOTHING = " ".join(["NIL"] * 10)


@dataclass(frozen=True, slots=True)
class Entity:
    """A mail or a part of one, byte for byte: its headers with the empty line behind them, and its body."""

    head: bytes
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> "Entity":
        """Split at the first empty line."""
        end = _HEAD_END.search(raw)
        cut = end.end() if end is not None else len(raw)
        return cls(raw[:cut], raw[cut:])

    @property
    def message(self) -> Message:
        """Its headers, parsed."""
        return BytesParser().parsebytes(self.head, headersonly=True)

    def parts(self) -> list["Entity"]:
        """What a multipart is made of; nothing of anything else."""
        message = self.message
        if message.get_content_maintype() != "multipart":
            return []
        try:
            boundary = message.get_boundary()
        except TypeError:  # name*=x; name*0=y: Python cannot put these in order
            return []
        if boundary is None:
            return []
        delimiter = b"--" + boundary.encode()
        found: list[Entity] = []
        start, at = None, self.body.find(delimiter)
        while at >= 0:
            match = _DELIMITER_END.match(self.body, at + len(delimiter))
            if match is not None and (at == 0 or self.body[at - 1 : at] == b"\n"):
                if start is not None:
                    end = at - 1 - (self.body[at - 2 : at - 1] == b"\r")
                    found.append(Entity.of(self.body[start : max(start, end)]))
                start = match.end()
                if match[1]:
                    return found
            at = self.body.find(delimiter, at + len(delimiter))
        return found if start is None else [*found, Entity.of(self.body[start:])]


def section(raw: bytes, name: str) -> bytes:
    """The bytes of ``1.2``, ``1.2.MIME``, ``HEADER`` or ``TEXT``. Raises KeyError where there is none."""
    entity = Entity.of(raw)
    if name in ("HEADER", "TEXT"):
        return entity.head if name == "HEADER" else entity.body
    for number in name.removesuffix(".MIME").split("."):
        parts = entity.parts() or [entity]
        if not number.isdecimal() or not 0 < int(number) <= len(parts):
            raise KeyError(name)
        entity = parts[int(number) - 1]
    return entity.head if name.endswith(".MIME") else entity.body


def structure(entity: Entity) -> str:
    """BODYSTRUCTURE, without parameters and the like."""
    message = entity.message
    kind, subtype = message.get_content_maintype(), message.get_content_subtype()
    parts = entity.parts()
    if parts:
        return f'({"".join(map(structure, parts))} "{subtype.upper()}" NIL NIL NIL)'
    encoding = re.sub(r"[^a-z0-9-]", "", str(message.get("Content-Transfer-Encoding", "7bit")).lower())
    fields = f'"{kind.upper()}" "{subtype.upper()}" NIL NIL NIL "{encoding.upper()}" {len(entity.body)}'
    lines = entity.body.count(b"\n")
    if (kind, subtype) == ("message", "rfc822"):
        fields += f" ({_NOTHING}) {structure(Entity.of(entity.body))} {lines}"
    elif kind == "text":
        fields += f" {lines}"
    return f"({fields} NIL NIL NIL)"
