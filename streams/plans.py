"""What a batch of registers asks of the index: which documents to write, and which texts to embed.

Pure: registers and what stands in the index in, writes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.elasticsearch import Stored, Write
from connectors.kafka import Record
from schemas.events import now_milliseconds
from schemas.identity import MESSAGE_PATH, document_id, message_key
from schemas.registers import AnyRegister, ContentRegister
from streams.fields import MessageView, PartView, attachment_fields, message_fields


@dataclass(slots=True)
class Group:
    """The registers of one message in a batch, each with the record it came in."""

    mailbox_id: str
    message_id: str
    registers: list[tuple[AnyRegister, Record]] = field(default_factory=list)
    # Part paths whose documents the index refused, and those of which nothing is tried any more.
    refused: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    max_chunks: dict[str, int] = field(default_factory=dict)  # by part path, where all were too much

    @property
    def message_document(self) -> str:
        """The id of the message's own document."""
        return document_id(self.mailbox_id, self.message_id)

    def part_document(self, part_path: str) -> str:
        """The id of the document of one of its parts."""
        return document_id(self.mailbox_id, self.message_id, part_path)

    @property
    def seen(self) -> list[tuple[AnyRegister, int]]:
        """The registers, each with its offset in the topic."""
        return [(register, record.offset) for register, record in self.registers]

    def identity(self, part_path: str) -> dict[str, Any]:
        """The fields that say which document it is, and when it was written."""
        return {
            "kind": "attachment" if part_path else "message",
            "mailbox_id": self.mailbox_id,
            "message_id": self.message_id,
            "message_key": message_key(self.mailbox_id, self.message_id),
            "part_path": part_path,
            "indexed_at": now_milliseconds(),
        }

    def record_of(self, part_path: str) -> Record:
        """The record to name when the document of that part is rejected."""
        for register, record in reversed(self.registers):
            if isinstance(register, ContentRegister) and register.part_path == part_path:
                return record
        return self.registers[-1][1]

    def offset_of(self, content: ContentRegister) -> int:
        """Where in the topic that content stands."""
        return next(record.offset for register, record in self.registers if register is content)

    def refuse(self, part_path: str) -> None:
        """Go on without that part's content; without its document, where the content was not to blame."""
        others = [
            (register, record)
            for register, record in self.registers
            if not isinstance(register, ContentRegister) or register.part_path != part_path
        ]
        if part_path in self.refused or len(others) == len(self.registers) or not others:
            self.given_up.add(part_path)
        self.refused.add(part_path)
        self.registers = others or self.registers


@dataclass(slots=True)
class Planned:
    """A write, the group it belongs to, and the content that still has to be chunked and embedded."""

    group: Group
    part_path: str
    write: Write
    content: ContentRegister | None = None
    chunks: int = 0


def plan_message(group: Group, view: MessageView, forget_milliseconds: int) -> Planned | None:
    """The message's own document: whole when its content is new or gone, else only what changed.

    A deleted one is forgotten when nothing was heard of it for ``forget_milliseconds``.
    """
    if not view.changed or MESSAGE_PATH in group.given_up:
        return None
    fields = {**group.identity(MESSAGE_PATH), **view.stored_fields()}
    whole = view.new_content is not None or view.stored is None or (view.was_live and not view.live)
    # Forgotten when nothing was heard of it for so long; seen again, it is not.
    if view.passed_over:
        heard_at = max(record.written_at or now_milliseconds() for _, record in group.registers)
        fields["forget_at"] = heard_at + forget_milliseconds
    elif view.forget_at is not None:
        fields["forget_at"] = None
    if view.new_content is not None and view.live:
        fields |= message_fields(view.new_content)
    write = Write(group.message_document, fields, view.stored, partial=not whole)
    return Planned(group, MESSAGE_PATH, write, view.new_content if view.live else None)


def part_views(group: Group, view: MessageView, stored: Mapping[str, Stored]) -> dict[str, PartView]:
    """What stands of each of the message's parts, by path."""
    return {path: PartView.read(stored.get(group.part_document(path))) for path in view.parts}


def plan_parts(group: Group, view: MessageView, stored: Mapping[str, Stored]) -> Iterable[Planned]:
    """The documents of the message's parts: new contents, and what they repeat of the message."""
    repeated = view.repeated_fields()
    for path in sorted(view.parts - group.given_up):
        known = stored.get(group.part_document(path))
        part = PartView.read(known)
        content = view.part_contents.get(path)
        document = group.part_document(path)
        identity = group.identity(path)
        if not view.live:
            if part.live:
                tombstone = {**identity, "live": False, "registers": {}}
                yield Planned(group, path, Write(document, tombstone, known))
        elif content is not None and part.older_than(content):
            registers = {
                "content": content.version.model_dump(mode="json"),
                "offset": group.offset_of(content),
            }
            fields = {**identity, **repeated, **attachment_fields(content), "registers": registers}
            yield Planned(group, path, Write(document, fields, known), content)
        elif known is not None and part.content is not None and part.repeats != repeated:
            # What the message has no longer is taken from the part, too.
            gone = dict.fromkeys(part.repeats.keys() - repeated.keys())
            fields = {**gone, **repeated, "indexed_at": identity["indexed_at"]}
            yield Planned(group, path, Write(document, fields, known, partial=True))
