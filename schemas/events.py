"""What travels in the topics besides documents: changes, requests, cursors, the registry, dead letters.

Ids, counters and states only: no subject, address (but in the registry), file name or text. Times are
milliseconds since 1970-01-01 UTC. Unknown fields are kept, so that an older program passes them on.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from schemas.headers import Headers, headers_of, refuse_foreign
from schemas.privacy import Unit, content, hashed_of, identifying, operational, personal, secret


def now_milliseconds() -> int:
    """The wall clock, in the unit of every ``*_at`` field."""
    return int(time.time() * 1000)


def day_of(milliseconds: int) -> str:
    """The day (UTC) of such a time: ``2026-03-31``."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()


def second_of(milliseconds: int) -> str:
    """The second (UTC) of such a time: ``2026-03-31 09:30:00+00:00``."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(" ", "seconds")


NOW: Any = Field(default_factory=now_milliseconds)  # the default of a field that says when it was made


class Event(BaseModel):
    """Base of everything that is written to a topic: immutable, JSON on the wire."""

    # Built when one is first used: no command needs them all, and each starts sooner.
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, defer_build=True)

    # Major and minor. A new optional field raises the minor; the major is that of the topic's name.
    schema_version: ClassVar[tuple[int, int]] = (1, 0)

    @classmethod
    def schema_id(cls) -> str:
        """The schema's name, as headers and exported schemas have it."""
        return f"mailstream.{cls.__name__}"

    @classmethod
    def schema_headers(cls) -> Headers:
        """What the headers of a record say about its value."""
        return headers_of(cls.schema_id(), cls.schema_version)

    def encode(self) -> bytes:
        """The record's value: JSON without nulls."""
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()

    @classmethod
    def decode(cls, value: bytes, headers: Headers = ()) -> Self:
        """Read a record's value. Raises ``ValueError`` when it is no such event: ``ForeignSchemaError`` when
        the record's headers say so (another schema, a higher major version), else ``ValidationError``."""
        refuse_foreign(headers, cls.schema_id(), cls.schema_version[0])
        return cls.model_validate_json(value)


MailboxId = Annotated[str, identifying("the mailbox's id, random")]
MessageId = Annotated[str, identifying("Gmail's id of the message")]
Epoch = Annotated[int, operational("rises when the mailbox is added again; compares first", Unit.ORDINAL)]
HistoryId = Annotated[int, operational("as of when", Unit.HISTORY)]


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

    mailbox_id: MailboxId
    message_id: MessageId
    kind: Annotated[ChangeKind, operational("what happened, or what stands about the message")]
    epoch: Epoch
    history_id: Annotated[int, operational("of the change, or of the listing's start", Unit.HISTORY)]
    thread_id: Annotated[str | None, identifying("Gmail's id of the thread")] = None
    label_ids: Annotated[
        tuple[str, ...] | None, identifying("those added or removed; all, where kind is labels or upsert")
    ] = None
    fetch: Annotated[Literal["full", "raw"], operational("whether small attachments come along (raw)")] = (
        "full"
    )
    origin: Annotated[Literal["history", "listing", "audit", "replay"], operational("what told of it")] = (
        "history"
    )
    emitted_at: Annotated[int, operational("when it was written", Unit.TIME)] = NOW


# Labels of messages that are shown nowhere, and indexed only where a mailbox's policy says so.
HIDDEN_LABELS = frozenset({"SPAM", "TRASH"})


class MailboxState(StrEnum):
    """Whether a mailbox is worked on."""

    LIVE = "live"
    PARKED = "parked"  # its credentials were refused; somebody must look
    PURGED = "purged"  # removed: every stage drops what still arrives for it


class Switch(Event):
    """A mailbox was switched from one way of reading it to another."""

    before: Annotated[str, operational("how it was read")]
    after: Annotated[str, operational("how it is read from then on")]
    epoch: Annotated[int, operational("that began with it", Unit.ORDINAL)]
    history_id: Annotated[int | None, operational("how far the way before had come", Unit.HISTORY)] = None
    forced: Annotated[str | None, content("the reason that was given for switching all the same")] = None
    against: Annotated[tuple[str, ...], operational("what spoke against it")] = ()
    switched_at: Annotated[int, operational("when", Unit.TIME)] = NOW


class MailboxRecord(Event):
    """One mailbox of the registry (``mail.mailboxes``; key: mailbox_id)."""

    mailbox_id: MailboxId
    address: Annotated[str, personal("the mailbox's e-mail address")]
    epoch: Epoch = 1
    purged_below: Annotated[int, operational("what bears a lower epoch was purged", Unit.ORDINAL)] = 0
    source: Annotated[
        Literal["gmail_api", "imap", "dual"] | None, operational("absent: as USE_GMAIL_API says")
    ] = None
    state: Annotated[MailboxState, operational("whether it is worked on")] = MailboxState.LIVE
    state_reason: Annotated[str | None, operational("the class of the error that parked it")] = None
    include_labels: Annotated[
        tuple[str, ...], identifying("indexed is what bears one of them; all, where none is named")
    ] = ()
    exclude_labels: Annotated[tuple[str, ...], identifying("and none of these")] = tuple(
        sorted(HIDDEN_LABELS)
    )
    query: Annotated[
        str | None, personal("Gmail's query for the mail that was there first; new mail is read anyway")
    ] = None
    deletions: Annotated[Literal["mirror", "keep"], operational("what a deletion in Gmail does here")] = (
        "mirror"
    )
    keep_days: Annotated[int | None, operational("with keep: how long; absent: for good", Unit.DAYS)] = Field(
        default=None, ge=1
    )
    rechecked_at: Annotated[
        int | None, operational("when IMAP was last asked to observe again what differed", Unit.TIME)
    ] = None
    switches: Annotated[tuple[Switch, ...], operational("cutovers and rollbacks, the newest last")] = ()
    created_at: Annotated[int, operational("when it was added", Unit.TIME)] = NOW

    def in_scope(self, label_ids: Iterable[str]) -> bool:
        """Whether a message with these labels is to be indexed."""
        labels = set(label_ids)
        included = not self.include_labels or bool(labels & set(self.include_labels))
        return included and not labels & set(self.exclude_labels)


class CredentialRecord(Event):
    """A mailbox's credentials, encrypted (``mail.mailboxes``; key: ``<mailbox_id>/credential``)."""

    key_id: Annotated[str, operational("which key encrypted it, so that keys can be rotated")]
    nonce: Annotated[str, operational("base64")]
    ciphertext: Annotated[str, secret("base64; AES-256-GCM over JSON, bound to the mailbox id")]


def credential_key(mailbox_id: str) -> str:
    """The record key of a mailbox's credentials."""
    return f"{mailbox_id}/credential"


class Suppression(Event):
    """A message that was purged: no stage lets it in again (``mail.mailboxes``; key: ``suppressed_key``)."""

    mailbox_id: MailboxId
    message_id: MessageId
    suppressed_at: Annotated[int, operational("when it was purged", Unit.TIME)] = NOW


def suppressed_key(mailbox_id: str, message_id: str) -> str:
    """The record key of a message's suppression; without a message id, what those of a mailbox begin with."""
    return f"{mailbox_id}/suppressed/{message_id}"


class LabelDirectory(Event):
    """The names of a mailbox's labels by id (``mail.mailboxes``; key: ``<mailbox_id>/labels``)."""

    mailbox_id: MailboxId
    names: Annotated[dict[str, str], personal("what its owner calls each label, by label id")]


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

    mailbox_id: MailboxId
    kind: Annotated[Literal["hint", "backfill", "resync", "audit"], operational("what is asked for")] = "hint"
    request_id: Annotated[str, identifying("chosen by whoever asks; the answer names it")] = ""
    query: Annotated[str | None, personal("of a backfill: Gmail's query")] = None
    dry_run: Annotated[bool, operational("of a backfill: count only")] = False
    repair: Annotated[bool, operational("of an audit: mend what differs")] = False
    labels: Annotated[bool, operational("of an audit: say also which labels each message bears")] = False
    history_id: Annotated[int | None, operational("of a hint, as the push named it", Unit.HISTORY)] = None
    requested_at: Annotated[int, operational("when; of a push, when Gmail published it", Unit.TIME)] = NOW


class Listing(Event):
    """How far a run through the whole mailbox has come."""

    run: Annotated[str, identifying("a random id; a new run starts from the first page")]
    kind: Annotated[Literal["backfill", "resync"], operational("what it is for")] = "backfill"
    history_id: Annotated[int, operational("the mailbox's position when the run began", Unit.HISTORY)]
    query: Annotated[str | None, personal("Gmail's query")] = None
    page_token: Annotated[str | None, identifying("of the next page; absent at both ends")] = None
    pages: Annotated[int, operational("pages read", Unit.COUNT)] = 0
    listed: Annotated[int, operational("messages listed", Unit.COUNT)] = 0
    relisted: Annotated[bool, operational("begun again after a stale page token")] = False
    total: Annotated[int | None, operational("messages that the mailbox counts", Unit.COUNT)] = None
    complete: Annotated[bool, operational("whether it has reached its end")] = False


class Estimate(Event):
    """What a backfill would cost: the answer to a dry run."""

    request_id: Annotated[str, identifying("the request that it answers")]
    messages: Annotated[int, operational("messages that the query finds", Unit.COUNT)]
    units: Annotated[int, operational("what fetching them costs", Unit.QUOTA)]
    seconds: Annotated[float, operational("how long it takes at least", Unit.SECONDS)]
    messages_per_minute: Annotated[float | None, operational("absent: nobody limits it", Unit.PER_MINUTE)] = (
        None
    )


class AuditReport(Event):
    """How a mailbox and the index compare; ``sample`` names a few ids of each difference."""

    request_id: Annotated[str, identifying("the request that it answers")]
    history_id: Annotated[int, operational("the mailbox's position that was compared", Unit.HISTORY)]
    mailbox_messages: Annotated[int, operational("messages in Gmail", Unit.COUNT)]
    index_messages: Annotated[int, operational("messages in the index", Unit.COUNT)]
    missing: Annotated[int, operational("messages in Gmail and in scope, not in the index", Unit.COUNT)]
    stale: Annotated[int, operational("messages in the index, not in Gmail", Unit.COUNT)]
    labels: Annotated[int, operational("messages in both, with different labels", Unit.COUNT)]
    kept: Annotated[int, operational("messages in the index only, by the mailbox's policy", Unit.COUNT)] = 0
    repaired: Annotated[bool, operational("whether that was mended")] = False
    sample: Annotated[dict[str, tuple[str, ...]], identifying("message ids by kind of difference")] = Field(
        default_factory=dict
    )
    finished_at: Annotated[int, operational("when it ended", Unit.TIME)] = NOW

    @property
    def differences(self) -> int:
        """How many messages are not as they should be."""
        return self.missing + self.stale + self.labels


class HeldDraft(Event):
    """A draft that is being written: its upsert waits until it has been left alone for a while."""

    message_id: MessageId
    history_id: Annotated[int, operational("of the last autosave", Unit.HISTORY)]
    label_ids: Annotated[tuple[str, ...], identifying("its labels")] = ()
    seen_at: Annotated[int, operational("when that was seen", Unit.TIME)] = NOW


class Cursor(Event):
    """How far a mailbox has been read (``mail.cursors``; key: mailbox_id). Never ahead of the events."""

    mailbox_id: MailboxId
    epoch: Epoch
    history_id: Annotated[int, operational("up to here all is emitted, or held in drafts", Unit.HISTORY)]
    source_state: Annotated[
        str | None, operational("what the source wants given back: of IMAP, how its folders stood")
    ] = None
    listing: Annotated[Listing, operational("how far the run through the whole mailbox has come")]
    drafts: Annotated[dict[str, HeldDraft], identifying("unfinished, by message id")] = Field(
        default_factory=dict
    )
    requests: Annotated[
        tuple[SyncRequest, ...], operational("taken, not yet done; the first is under way")
    ] = ()
    estimate: Annotated[Estimate | None, operational("the answer to the last dry run")] = None
    audit: Annotated[AuditReport | None, operational("the answer to the last audit")] = None
    watch_expires_at: Annotated[int | None, operational("when Gmail's pushes for it end", Unit.TIME)] = None
    watch_renewed_at: Annotated[int | None, operational("when they were last asked for", Unit.TIME)] = None
    quota_units: Annotated[int | None, operational("left to the source then", Unit.QUOTA)] = None
    updated_at: Annotated[int, operational("when it was written", Unit.TIME)] = NOW


class Observation(Event):
    """What IMAP saw of a message in a dual run (``mail.observations``; key: mailbox_id).

    For comparison only: IMAP and the API have no common order. ``seen``: it is there, with these labels and
    parts; ``labels``: its labels are others; ``gone``: it is in no folder any more; ``spent``: what the API
    took meanwhile, about no message.
    """

    mailbox_id: MailboxId
    epoch: Epoch
    message_id: Annotated[
        str, identifying("X-GM-MSGID in hex, which is the API's id; empty for what was spent")
    ]
    kind: Annotated[Literal["seen", "labels", "gone", "spent"], operational("what was seen of it")]
    way: Annotated[Literal["imap", "gmail_api"], operational("by which way the mailbox was read")] = "imap"
    thread_id: Annotated[str | None, identifying("X-GM-THRID in hex")] = None
    label_ids: Annotated[
        tuple[str, ...], identifying("the system's by the API's ids, others by a hash of their names")
    ] = ()
    parts: Annotated[dict[str, str], hashed_of("SHA-256 by part path; the text's under the empty one")] = (
        Field(default_factory=dict)
    )
    size_bytes: Annotated[int | None, operational("the message's size", Unit.BYTES)] = None
    received_at: Annotated[int | None, operational("when the mailbox got it", Unit.TIME)] = None
    observed_at: Annotated[int, operational("when it was seen", Unit.TIME)] = NOW
    spent_bytes: Annotated[int, operational("received since the last observation", Unit.BYTES)] = 0
    spent_requests: Annotated[int, operational("requests sent since the last observation", Unit.COUNT)] = 0


class KeptDeletions(Event):
    """Messages that Gmail has deleted and the index still shows (``mail.cursors``; key: see ``kept_key``)."""

    mailbox_id: MailboxId
    epoch: Epoch
    due_at: Annotated[int, operational("when the deletions take effect", Unit.TIME)]
    history_ids: Annotated[dict[str, int], identifying("when each was deleted, by message id", Unit.HISTORY)]


def kept_key(mailbox_id: str, due_day: str) -> str:
    """The record key of the deletions of a mailbox that fall due on a day (``2026-03-31``, UTC)."""
    return f"{mailbox_id}/kept/{due_day}"


class Deferred(Event):
    """Work that takes long or must wait (``mail.deferred``; key: document id)."""

    mailbox_id: MailboxId
    message_id: MessageId
    epoch: Epoch
    part_path: Annotated[str, identifying("an attachment, or the whole message when empty")] = ""
    reason: Annotated[Literal["ocr", "throttled", "unavailable", "reprocess"], operational("why it waits")]
    parts: Annotated[
        dict[str, int], operational("what to read again: verdicts by part path", Unit.ORDINAL)
    ] = Field(default_factory=dict)
    fetch: Annotated[Literal["full", "raw"], operational("as in MessageChange")] = "full"
    not_before: Annotated[int, operational("when it may be begun with", Unit.TIME)] = 0
    attempts: Annotated[int, operational("how often it was tried", Unit.COUNT)] = 0
    emitted_at: Annotated[int, operational("when the change was", Unit.TIME)] = NOW


class DeadLetter(Event):
    """What failed for good (``mail.dead-letters``; key: mailbox_id, or empty where it is unknown)."""

    mailbox_id: Annotated[str | None, identifying("which mailbox, where that is known")] = None
    message_id: Annotated[str | None, identifying("which message, where that is known")] = None
    part_path: Annotated[str | None, identifying("which attachment, where it is one")] = None
    stage: Annotated[str, operational("where it failed: fast, slow, index or reindex")]
    error_class: Annotated[str, operational("the error's class, or worker_killed")]
    error: Annotated[str, operational("what the program says of it; never what it choked on")]
    attempts: Annotated[int, operational("how often it was tried", Unit.COUNT)] = 1
    topic: Annotated[str, operational("of the record that failed")]
    partition: Annotated[int, operational("of the record that failed", Unit.OFFSET)]
    offset: Annotated[int, operational("of the record that failed", Unit.OFFSET)]
    key_hash: Annotated[str | None, hashed_of("of the record's key")] = None
    event: Annotated[str | None, identifying("base64 of its value, where that is ids only")] = None
    headers: Annotated[dict[str, str], operational("which schema it is of")] = Field(default_factory=dict)
    failed_at: Annotated[int, operational("when it was given up", Unit.TIME)] = NOW


class DeadLetterResolution(Event):
    """A person has dealt with a dead letter (``mail.dead-letters``; key as the letter's)."""

    letter: Annotated[str, operational("the letter's place in the topic: <partition>:<offset>")]
    action: Annotated[Literal["replayed", "discarded"], operational("what was done about it")]
    resolved_at: Annotated[int, operational("when", Unit.TIME)] = NOW
