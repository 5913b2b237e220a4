"""Between registers and index fields: what a document stores so that merging can go on from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import getaddresses
from typing import Any, ClassVar

from connectors.elasticsearch import Stored
from schemas.identity import MESSAGE_PATH
from schemas.registers import (
    CONTENT_PREFIX,
    AnyRegister,
    ContentRegister,
    ContentVersion,
    DeletedRegister,
    LabelRegister,
    LabelsRegister,
    MessageContent,
    MessageState,
    Segment,
)
from schemas.words import stemmed
from streams.quoting import own_words

# What every part repeats of its message, so that a filter needs no join.
REPEATED = (
    *("thread_id", "rfc_message_id", "subject", "subject_stems", "sent_at"),
    *("sender", "to", "cc", "bcc", "reply_to"),
    *("sender_address", "to_address", "cc_address", "bcc_address", "reply_to_address"),
)
# As of when it is known what labels it wears and that it is there, and by whom.
ORIGIN = ("epoch", "history_id", "sources")
# What an attachment's document takes from its content as it is.
_OF_AN_ATTACHMENT = (
    *("filename", "raw_filename", "content_type", "declared_content_type", "size_bytes", "sha256"),
    *("signature", "skipped_reason", "seconds", "pages", "author", "title", "created", "inline", "truncated"),
)
# What the model reads beside a chunk (256 pieces less ``CHUNK_PIECES``).
HEADING_CHARACTERS = 100


@dataclass(slots=True)
class MessageView:
    """A message as stored, joined with what a batch says about it."""

    FIELDS: ClassVar[tuple[str, ...]] = ("registers", "parts", "live", "label_ids", "forget_at", *REPEATED)

    stored: Stored | None
    state: MessageState
    content: ContentVersion | None
    parts: frozenset[str]
    repeated: Mapping[str, Any]
    was_live: bool
    # Offsets in the topic: of each register's winner, by register name; and, while the message is deleted, of
    # the contents that are not shown. They are read again should it turn out to be seen after its deletion.
    offsets: Mapping[str, int] = field(default_factory=dict)
    passed_over: frozenset[int] = frozenset()
    forget_at: int | None = None  # milliseconds: when those leave the topic, see ``streams.forget``
    changed: bool = False
    new_content: ContentRegister | None = None
    part_contents: dict[str, ContentRegister] = field(default_factory=dict)

    @classmethod
    def read(cls, stored: Stored | None) -> MessageView:
        """The message as its document has it; an empty one where there is no document."""
        source = stored.source if stored is not None else {}
        registers = source.get("registers") or {}
        labels, deleted = registers.get("labels"), registers.get("deleted")
        state = MessageState(
            labels=LabelsRegister.model_validate(labels) if labels else None,
            label_changes={
                change["label_id"]: LabelRegister.model_validate(change)
                for change in registers.get("changes", ())
            },
            deleted=DeletedRegister.model_validate(deleted) if deleted else None,
        )
        content = registers.get("content")
        return cls(
            stored=stored,
            state=state,
            content=ContentVersion.model_validate(content) if content else None,
            parts=frozenset(source.get("parts") or ()),
            repeated=_present(source, REPEATED),
            was_live=bool(source.get("live")),
            offsets=registers.get("offsets") or {},
            passed_over=frozenset(registers.get("passed_over", ())),
            forget_at=source.get("forget_at"),
        )

    def join(self, seen: Sequence[tuple[AnyRegister, int]]) -> MessageView:
        """The message after also seeing registers at their offsets; the newest content of a part is kept."""
        state = self.state.join(register for register, _ in seen)
        contents = state.contents
        state = state.model_copy(update={"contents": {}})
        own = contents.pop(MESSAGE_PATH, None)
        view = replace(self, state=state, part_contents=contents)
        view.parts = self.parts | contents.keys()
        for part in contents.values():
            view.parts |= set(part.attachment.children) if part.attachment else set()
        if own is not None:
            view.parts |= {part.part_path for part in own.message.parts} if own.message else set()
            if state.live and (self.content is None or own.order() > self.content.order()):
                view.new_content, view.content = own, own.version
                view.repeated = _present(heading_fields(own), REPEATED)
        if not state.live:
            view.content = None  # seen again later, the same content must be written again
            view.repeated = {}
        view._note_offsets(seen)
        view.changed = (
            view.new_content is not None
            or view.passed_over != self.passed_over
            or view.parts != self.parts
            or state != self.state
            or self.stored is None
        )
        return view

    def _note_offsets(self, seen: Sequence[tuple[AnyRegister, int]]) -> None:
        winners: list[AnyRegister] = [*self.state.label_changes.values()]
        winners += [
            item for item in (self.state.labels, self.state.deleted, self.new_content) if item is not None
        ]
        names = {winner.name for winner in winners} | (
            {CONTENT_PREFIX} if self.content is not None else set()
        )
        by_identity = {id(register): offset for register, offset in seen}
        known = self.offsets
        offsets = {name: offset for name, offset in self.offsets.items() if name in names}
        offsets |= {w.name: by_identity[id(w)] for w in winners if id(w) in by_identity}
        self.offsets = offsets
        if self.live:
            self.passed_over = frozenset()
        else:
            # Losers too: behind the winner in the topic, they call for its being written forward.
            self.passed_over |= {offset for register, offset in seen if isinstance(register, ContentRegister)}
            self.passed_over |= {known[CONTENT_PREFIX]} if CONTENT_PREFIX in known else set()

    def pass_over(self, parts: Iterable[PartView]) -> None:
        """Remember where the contents stand that a deletion takes out of the index."""
        stood = {part.offset for part in parts if part.live and part.offset is not None}
        if not self.live and not stood <= self.passed_over:
            self.passed_over |= stood
            self.changed = True

    def agrees_with(self, other: MessageView) -> bool:
        """Whether parts written for ``other`` are right for this view too."""
        return (
            self.live == other.live
            and self.state.label_ids == other.state.label_ids
            and self.repeated == other.repeated
        )

    @property
    def live(self) -> bool:
        """Whether the message exists."""
        return self.state.live

    def stored_fields(self) -> dict[str, Any]:
        """The fields that carry the merge: labels, presence, parts, and the registers behind them."""
        labels, deleted = self.state.labels, self.state.deleted
        registers: dict[str, Any] = {
            "changes": [
                change.model_dump(exclude_none=True) for _, change in sorted(self.state.label_changes.items())
            ]
        }
        if labels is not None:
            registers["labels"] = labels.model_dump(mode="json")
        if deleted is not None:
            registers["deleted"] = deleted.model_dump(mode="json")
        if self.content is not None:
            registers["content"] = self.content.model_dump(mode="json")
        registers["offsets"] = dict(self.offsets)
        # Even none: a partial update keeps what is left out.
        registers["passed_over"] = sorted(self.passed_over)
        return {
            # Without content there is nothing to find yet: labels that came first wait in ``registers``.
            "live": self.live and self.content is not None,
            "label_ids": sorted(self.state.label_ids) if self.live else [],
            "has_attachment": bool(self.parts) and self.live,
            "parts": sorted(self.parts),
            "registers": registers,
            **self.origin_fields(),
        }

    def origin_fields(self) -> dict[str, Any]:
        """As of when the labels and the presence stand, and who said so."""
        marks = [(mark.epoch, mark.history_id) for mark in (self.state.deleted,) if mark is not None]
        if self.state.observed is not None:
            marks.append(self.state.observed)
        epoch, history_id = max(marks, default=(None, None))
        sources = {item.source for item in (self.state.labels, self.content) if item is not None}
        return _known({"epoch": epoch, "history_id": history_id, "sources": sorted(sources)})

    def repeated_fields(self) -> dict[str, Any]:
        """What the message's parts repeat of it: whoever writes last, they say the same."""
        return {
            **self.repeated,
            **self.origin_fields(),
            "live": self.live,
            "label_ids": sorted(self.state.label_ids),
        }


@dataclass(slots=True)
class PartView:
    """An attachment's document as stored."""

    FOLLOWED: ClassVar[tuple[str, ...]] = ("live", "label_ids", *ORIGIN, *REPEATED)
    FIELDS: ClassVar[tuple[str, ...]] = ("registers", *FOLLOWED)

    content: ContentVersion | None
    offset: int | None  # where in the topic the content stands
    live: bool
    repeats: Mapping[str, Any]

    @classmethod
    def read(cls, stored: Stored | None) -> PartView:
        """The part as its document has it; an empty one where there is no document."""
        source = stored.source if stored is not None else {}
        registers = source.get("registers") or {}
        content = registers.get("content")
        return cls(
            content=ContentVersion.model_validate(content) if content else None,
            offset=registers.get("offset"),
            live=bool(source.get("live")),
            repeats=_present(source, cls.FOLLOWED),
        )

    def older_than(self, content: ContentRegister) -> bool:
        """Whether ``content`` must be written."""
        return self.content is None or content.order() > self.content.order()


def heading_fields(register: ContentRegister) -> dict[str, Any]:
    """What a message says about itself before its text."""
    content = register.message
    assert content is not None, "the register of the empty part path carries a message"
    receivers = {"to": content.to, "cc": content.cc, "bcc": content.bcc, "reply_to": content.reply_to}
    return _known(
        {
            "thread_id": content.thread_id,
            "rfc_message_id": content.rfc_message_id,
            "subject": content.subject,
            "sender": content.sender,
            "sender_address": address_forms([content.sender]),
            **{name: list(people) for name, people in receivers.items()},
            **{f"{name}_address": address_forms(people) for name, people in receivers.items()},
            "sent_at": content.sent_at,
            "subject_stems": stemmed(content.subject),
        }
    )


def message_fields(register: ContentRegister) -> dict[str, Any]:
    """The fields of a message's own content."""
    content = register.message
    assert content is not None, "the register of the empty part path carries a message"
    return heading_fields(register) | _known(
        {
            "size_bytes": content.size_bytes,
            "text": content.text,
            "truncated": content.truncated,
            "names_stems": stemmed(_names(content)),
            "text_stems": stemmed(content.text),
            "engine_version": register.version.engine,
        }
    )


def _names(content: MessageContent) -> str:
    """The people of a message and its files: it is found by both."""
    files = (part.filename or "" for part in content.parts)
    return "\n".join((content.sender, *content.to, *content.cc, *files))


def attachment_fields(register: ContentRegister) -> dict[str, Any]:
    """The fields of an attachment's content."""
    content = register.attachment
    assert content is not None, "the register of a part carries an attachment"
    text = "\n\n".join(segment.text for segment in content.segments)
    return _known(
        {
            **{name: getattr(content, name) for name in _OF_AN_ATTACHMENT},
            "outcome": content.outcome.value,
            "scan": content.scan.value,
            "engines": list(content.engines),
            "engine_version": register.version.engine,
            "text": text,
            "has_attachment": True,
            "names_stems": stemmed(
                "\n".join(filter(None, (content.filename, content.title, content.author)))
            ),
            "text_stems": stemmed(text),
        }
    )


def address_forms(headers: Iterable[str]) -> list[str]:
    """What an address in these headers is found by: itself, its domain, and the domains above that."""
    forms = set()
    for _, address in getaddresses(list(headers)):
        address = address.strip().lower()
        _, _, domain = address.rpartition("@")
        names = domain.split(".")
        forms |= {address} | {".".join(names[start:]) for start in range(len(names) - 1)}
    return sorted(forms - {""})


def segments_of(register: ContentRegister) -> Sequence[Segment]:
    """The text to be embedded, with its places."""
    if register.attachment is not None:
        return register.attachment.segments
    content = register.message
    assert content is not None, "a content register carries a message or an attachment"
    return (Segment(text=own_words(content.text) or content.subject),)


def heading_of(register: ContentRegister) -> str:
    """What is embedded before each piece: one of a long mail does not say by itself what it is about."""
    return register.message.subject[:HEADING_CHARACTERS] if register.message is not None else ""


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _present(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: fields[name] for name in names if fields.get(name) is not None}
