"""What travels in the topics besides documents: changes, requests, cursors, the registry, dead letters.

Ids, counters and states only: no subject, address (but in the registry), file name or text. Times are
milliseconds since 1970-01-01 UTC. Unknown fields are kept, so that an older program passes them on.
"""

import time
from collections.abc import Iterable
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
    """What happened to a message, or what stands about it."""

    UPSERT = "upsert"  # it is there: fetch it
    LABELS = "labels"  # all its labels, as of history_id
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
    # The labels added or removed, or all of them; for an upsert all of them, where the history names them.
    label_ids: tuple[str, ...] | None = None
    # How to fetch it: raw brings small attachments along, full leaves them behind references.
    fetch: Literal["full", "raw"] = "full"
    origin: Literal["history", "listing", "audit", "replay"] = "history"
    emitted_at: int = Field(default_factory=now_milliseconds)


# Labels of messages that are shown nowhere, and indexed only where a mailbox's policy says so.
HIDDEN_LABELS = frozenset({"SPAM", "TRASH"})


class MailboxState(StrEnum):
    """Whether a mailbox is worked on."""

    LIVE = "live"
    PARKED = "parked"  # its credentials were refused; somebody must look
    PURGED = "purged"  # removed: every stage drops what still arrives for it


class Switch(Event):
    """A mailbox was switched from one way of reading it to another."""

    before: str
    after: str
    epoch: int  # that began with it
    history_id: int | None = None  # how far the way before had come
    forced: str | None = None  # the reason that was given for switching all the same
    against: tuple[str, ...] = ()  # what spoke against it
    switched_at: int = Field(default_factory=now_milliseconds)


class MailboxRecord(Event):
    """One mailbox of the registry (``mail.mailboxes``; key: mailbox_id)."""

    mailbox_id: str
    address: str
    epoch: int = 1
    purged_below: int = 0  # what bears a lower epoch was purged, and is dropped wherever it still turns up
    source: Literal["gmail_api", "imap", "dual"] | None = None  # None: as USE_GMAIL_API says
    state: MailboxState = MailboxState.LIVE
    state_reason: str | None = None
    # Label ids. Indexed is what bears an included one (any, where none is named) and no excluded one.
    include_labels: tuple[str, ...] = ()
    exclude_labels: tuple[str, ...] = tuple(sorted(HIDDEN_LABELS))
    query: str | None = None  # Gmail's query: which of the mail that is there is read; new mail always is
    # What a deletion in Gmail does here: the same, nothing, or the same after that many days.
    deletions: Literal["mirror", "keep"] = "mirror"
    keep_days: int | None = Field(default=None, ge=1)  # with keep; None: for good
    rechecked_at: int | None = None  # when IMAP was last asked to observe again what differed
    switches: tuple[Switch, ...] = ()  # cutovers and rollbacks, the newest last
    created_at: int = Field(default_factory=now_milliseconds)

    def in_scope(self, label_ids: Iterable[str]) -> bool:
        """Whether a message with these labels is to be indexed."""
        labels = set(label_ids)
        included = not self.include_labels or bool(labels & set(self.include_labels))
        return included and not labels & set(self.exclude_labels)


class CredentialRecord(Event):
    """A mailbox's credentials, encrypted (``mail.mailboxes``; key: ``<mailbox_id>/credential``)."""

    key_id: str  # which key encrypted it, so that keys can be rotated
    nonce: str  # base64
    ciphertext: str  # base64; AES-256-GCM over JSON, with the mailbox id as associated data


def credential_key(mailbox_id: str) -> str:
    """The record key of a mailbox's credentials."""
    return f"{mailbox_id}/credential"


class Suppression(Event):
    """A message that was purged: no stage lets it in again (``mail.mailboxes``; key: ``suppressed_key``)."""

    mailbox_id: str
    message_id: str
    suppressed_at: int = Field(default_factory=now_milliseconds)


def suppressed_key(mailbox_id: str, message_id: str) -> str:
    """The record key of a message's suppression; without a message id, what those of a mailbox begin with."""
    return f"{mailbox_id}/suppressed/{message_id}"


class LabelDirectory(Event):
    """The names of a mailbox's labels by id (``mail.mailboxes``; key: ``<mailbox_id>/labels``)."""

    mailbox_id: str
    names: dict[str, str]


def labels_key(mailbox_id: str) -> str:
    """The record key of a mailbox's label directory."""
    return f"{mailbox_id}/labels"


class SyncRequest(Event):
    """Somebody asks for work on a mailbox (``mail.sync-requests``; key: mailbox_id).

    hint: look into the history now. backfill: list messages (those of ``query``) and emit them; with
    ``dry_run`` count them only. resync: make the index equal to the mailbox. audit: say where it is not, and
    with ``repair`` mend that; with ``labels`` say also which labels each message bears. All but hints are
    recorded in the cursor and answered there.
    """

    mailbox_id: str
    kind: Literal["hint", "backfill", "resync", "audit"] = "hint"
    request_id: str = ""
    query: str | None = None
    dry_run: bool = False
    repair: bool = False
    labels: bool = False
    history_id: int | None = None  # of a hint: what the push named. Never a cursor
    requested_at: int = Field(default_factory=now_milliseconds)  # of a push: when Gmail published it


class Listing(Event):
    """How far a run through the whole mailbox has come."""

    run: str  # a random id; a new run starts from the first page
    kind: Literal["backfill", "resync"] = "backfill"
    history_id: int  # H0: the mailbox's position when the run began
    query: str | None = None
    page_token: str | None = None  # of the next page to read; None at the start and at the end
    pages: int = 0
    listed: int = 0
    relisted: bool = False  # begun again after a stale page token: what was emitted before is left out
    total: int | None = None  # messages in the mailbox by its own word, when the run began
    complete: bool = False


class Estimate(Event):
    """What a backfill would cost: the answer to a dry run."""

    request_id: str
    messages: int
    units: int
    seconds: float
    messages_per_minute: float | None = None  # None: nobody limits it


class AuditReport(Event):
    """How a mailbox and the index compare; ``sample`` names a few ids of each difference."""

    request_id: str
    history_id: int
    mailbox_messages: int
    index_messages: int
    missing: int  # in Gmail and in scope, not in the index
    stale: int  # in the index, not in Gmail
    labels: int  # in both, with different labels
    kept: int = 0  # in the index and not in Gmail, because the mailbox's policy says so
    repaired: bool = False
    sample: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    finished_at: int = Field(default_factory=now_milliseconds)

    @property
    def differences(self) -> int:
        """How many messages are not as they should be."""
        return self.missing + self.stale + self.labels


class HeldDraft(Event):
    """A draft that is being written: its upsert waits until it has been left alone for a while."""

    message_id: str
    history_id: int
    label_ids: tuple[str, ...] = ()
    seen_at: int = Field(default_factory=now_milliseconds)


class Cursor(Event):
    """How far a mailbox has been read (``mail.cursors``; key: mailbox_id). Never ahead of the events."""

    mailbox_id: str
    epoch: int
    history_id: int  # everything up to here has been emitted, or is held below
    source_state: str | None = None  # what the source wants to be given back: of IMAP, how its folders stood
    listing: Listing
    drafts: dict[str, HeldDraft] = Field(default_factory=dict)  # by message id
    requests: tuple[SyncRequest, ...] = ()  # taken, not yet done; the first is under way
    estimate: Estimate | None = None
    audit: AuditReport | None = None
    watch_expires_at: int | None = None
    watch_renewed_at: int | None = None
    quota_units: int | None = None  # of Gmail's, left to the source when this was written
    updated_at: int = Field(default_factory=now_milliseconds)


class Observation(Event):
    """What IMAP saw of a message in a dual run (``mail.observations``; key: mailbox_id).

    For comparison only: IMAP and the API have no common order. ``seen``: it is there, with these labels and
    parts; ``labels``: its labels are others; ``gone``: it is in no folder any more.
    """

    mailbox_id: str
    epoch: int
    message_id: str  # X-GM-MSGID in hex, the API's id
    kind: Literal["seen", "labels", "gone"]
    thread_id: str | None = None
    label_ids: tuple[str, ...] = ()  # the system's by the API's ids, others by ``label_id_of`` their names
    parts: dict[str, str] = Field(
        default_factory=dict
    )  # SHA-256 by part path; the text's under the empty one
    size_bytes: int | None = None
    received_at: int | None = None  # when the mailbox got it
    observed_at: int = Field(default_factory=now_milliseconds)
    spent_bytes: int = 0  # received for this observation
    spent_requests: int = 0


class KeptDeletions(Event):
    """Messages that Gmail has deleted and the index still shows (``mail.cursors``; key: see ``kept_key``)."""

    mailbox_id: str
    epoch: int
    due_at: int
    history_ids: dict[str, int]  # by message id


def kept_key(mailbox_id: str, due_day: str) -> str:
    """The record key of the deletions of a mailbox that fall due on a day (``2026-03-31``, UTC)."""
    return f"{mailbox_id}/kept/{due_day}"


class Deferred(Event):
    """Work that takes long or must wait (``mail.deferred``; key: document id)."""

    mailbox_id: str
    message_id: str
    epoch: int
    part_path: str = ""  # an attachment, or the whole message when empty
    reason: Literal["ocr", "throttled", "unavailable", "reprocess"]
    # To read again, of one message: part paths, each with the verdict that stood when it was asked for.
    parts: dict[str, int] = Field(default_factory=dict)
    fetch: Literal["full", "raw"] = "full"
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


class DeadLetterResolution(Event):
    """A person has dealt with a dead letter (``mail.dead-letters``; key as the letter's)."""

    letter: str  # the letter's place in the topic: "<partition>:<offset>"
    action: Literal["replayed", "discarded"]
    resolved_at: int = Field(default_factory=now_milliseconds)
