"""What travels in the topics besides documents: changes, requests, cursors, the registry, dead letters.

Ids, counters and states only: no subject, address (but in the registry), file name or text. Times are
milliseconds since 1970-01-01 UTC. Unknown fields are kept, so that an older program passes them on.
"""

import time
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field


def now_milliseconds() -> int:
    """The wall clock, in the unit of every ``*_at`` field."""
    return int(time.time() * 1000)


class Event(BaseModel):
    """Base of everything that is written to a topic: immutable, JSON on the wire."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def encode(self) -> bytes:
        """The record's value: JSON without nulls."""
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read a record's value. Raises ``pydantic.ValidationError`` when it is no such event."""
        return cls.model_validate_json(value)


class ChangeKind(StrEnum):
    """What happened to a message."""

    UPSERT = "upsert"
    LABEL_ADDED = "label_added"
    LABEL_REMOVED = "label_removed"
    DELETE = "delete"


class MessageChange(Event):
    """One change of one message (``mail.changes``, ``mail.backfill``; key: mailbox_id).

    ``history_id`` is the history record's id, or the listing's starting point for ``origin`` listing.
    """

    mailbox_id: str
    message_id: str
    kind: ChangeKind
    epoch: int
    history_id: int
    thread_id: str | None = None
    label_ids: tuple[str, ...] = ()  # for the label kinds: the labels added or removed
    origin: Literal["history", "listing", "audit", "replay"] = "history"
    emitted_at: int = Field(default_factory=now_milliseconds)


# Labels of messages that are shown nowhere, and indexed only where a mailbox's policy says so.
HIDDEN_LABELS = frozenset({"SPAM", "TRASH"})


class MailboxState(StrEnum):
    """Whether a mailbox is worked on."""

    LIVE = "live"
    PARKED = "parked"  # its credentials were refused; somebody must look
    PURGED = "purged"  # removed: every stage drops what still arrives for it


class MailboxRecord(Event):
    """One mailbox of the registry (``mail.mailboxes``; key: mailbox_id)."""

    mailbox_id: str
    address: str
    epoch: int = 1
    source: Literal["gmail_api", "imap", "dual"] | None = None  # None: as USE_GMAIL_API says
    state: MailboxState = MailboxState.LIVE
    state_reason: str | None = None
    include_spam_trash: bool = False
    created_at: int = Field(default_factory=now_milliseconds)


class CredentialRecord(Event):
    """A mailbox's credentials, encrypted (``mail.mailboxes``; key: ``<mailbox_id>/credential``)."""

    key_id: str  # which key encrypted it, so that keys can be rotated
    nonce: str  # base64
    ciphertext: str  # base64; AES-256-GCM over JSON, with the mailbox id as associated data


def credential_key(mailbox_id: str) -> str:
    """The record key of a mailbox's credentials."""
    return f"{mailbox_id}/credential"


class Listing(Event):
    """How far a run through the whole mailbox has come."""

    run: str  # a random id; a new run starts from the first page
    history_id: int  # H0: the mailbox's position when the run began
    page_token: str | None = None  # of the next page to read; None at the start and at the end
    pages: int = 0
    listed: int = 0
    total: int | None = None  # messages in the mailbox by its own word, when the run began
    complete: bool = False


class Cursor(Event):
    """How far a mailbox has been read (``mail.cursors``; key: mailbox_id). Never ahead of the events."""

    mailbox_id: str
    epoch: int
    history_id: int  # everything up to here has been emitted
    listing: Listing
    updated_at: int = Field(default_factory=now_milliseconds)


class SyncRequest(Event):
    """Somebody asks for work on a mailbox (``mail.sync-requests``; key: mailbox_id)."""

    mailbox_id: str
    kind: Literal["hint", "backfill", "resync", "audit"] = "hint"
    requested_at: int = Field(default_factory=now_milliseconds)


class Deferred(Event):
    """Work that takes long or must wait (``mail.deferred``; key: document id)."""

    mailbox_id: str
    message_id: str
    epoch: int
    part_path: str = ""  # an attachment, or the whole message when empty
    reason: Literal["ocr", "throttled", "unavailable"]
    not_before: int = 0
    attempts: int = 0
    emitted_at: int = Field(default_factory=now_milliseconds)


class DeadLetter(Event):
    """What failed for good (``mail.dead-letters``; key: mailbox_id, or empty where it is unknown)."""

    mailbox_id: str | None = None
    message_id: str | None = None
    part_path: str | None = None
    stage: str
    error_class: str
    error: str
    attempts: int = 1
    topic: str
    partition: int
    offset: int
    key_hash: str | None = None
    event: str | None = None  # base64 of the record's value, only for topics that carry ids alone
    failed_at: int = Field(default_factory=now_milliseconds)
