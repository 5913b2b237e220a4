"""What stands in each topic, and by which rules: the contract that ``docs/TOPICS.md`` is made from."""

from dataclasses import dataclass

from schemas import topics
from schemas.events import (
    CredentialRecord,
    Cursor,
    DeadLetter,
    DeadLetterResolution,
    Deferred,
    Event,
    KeptDeletions,
    LabelDirectory,
    MailboxRecord,
    MessageChange,
    Observation,
    Suppression,
    SyncRequest,
)
from schemas.registers import ContentRegister, DeletedRegister, LabelRegister, LabelsRegister
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Contract:
    """A topic as its consumers may rely on it. The texts are Markdown."""

    topic: Topic
    summary: str
    keys: dict[type[Event], str]  # what each event's record key is
    written_by: str
    order: str
    tombstones: str = "None."
    public: bool = False  # made for other teams; the others are ours, and documented all the same

    @property
    def events(self) -> tuple[type[Event], ...]:
        """What its records are."""
        return tuple(self.keys)


_OF_A_MAILBOX = "`mailbox_id`"
_BY_MAILBOX = (
    "All records of a mailbox share a partition, in the order in which they were written. An event may come"
    " twice, and, where a source was replaced, again after later ones: compare (`epoch`, `history_id`)."
)

CONTRACTS = (
    Contract(
        topics.CHANGES,
        "What happens to messages from now on: one event a change, ids only. What a message says stands in"
        " `mail.documents`.",
        {MessageChange: _OF_A_MAILBOX},
        "source",
        _BY_MAILBOX,
        public=True,
    ),
    Contract(
        topics.BACKFILL,
        "The same events for what was there already: listings, resyncs, and what an audit mends.",
        {MessageChange: _OF_A_MAILBOX},
        "source",
        _BY_MAILBOX + " It is not ordered against `mail.changes`: history ids decide.",
        public=True,
    ),
    Contract(
        topics.DOCUMENTS,
        "Everything derived from messages and attachments, as registers that merge in any order: the document"
        " is the merge of its registers, of each the highest version (`docs/merge-vectors.json`).",
        {
            ContentRegister: "`<message_key>/content/<part path>`; the message's own part path is empty",
            LabelsRegister: "`<message_key>/labels`",
            LabelRegister: "`<message_key>/label/<label id>`",
            DeletedRegister: "`<message_key>/deleted`",
        },
        "extract, slow, index (which writes a newer register again behind an older one), purge",
        "All registers of a message share a partition: that of the *message key* (its murmur2), not of the"
        " record key. Order within it means nothing: versions decide. So never let a client partition"
        " by the record's key, and never add partitions in place.",
        "The register is gone for good: forgotten after its message was deleted, or purged. What a reader has"
        " derived from it must go too. A deletion itself is a `deleted` register, not a tombstone.",
        public=True,
    ),
    Contract(
        topics.MAILBOXES,
        "The registry: which mailboxes there are, their encrypted credentials, their labels' names, and which"
        " messages were purged. Personal: few may read it.",
        {
            MailboxRecord: _OF_A_MAILBOX,
            CredentialRecord: "`<mailbox_id>/credential`",
            LabelDirectory: "`<mailbox_id>/labels`",
            Suppression: "`<mailbox_id>/suppressed/<message_id>`",
        },
        "the `mailstream` command, source",
        "One partition, one order. The latest record of a key stands. Read to the end before acting.",
        "The credentials were withdrawn; or, of a purged mailbox, what else was known of it.",
    ),
    Contract(
        topics.CURSORS,
        "How far each mailbox has been read, what was asked of it, and deletions that are put off.",
        {Cursor: _OF_A_MAILBOX, KeptDeletions: "`<mailbox_id>/kept/<day due, UTC>`"},
        "source",
        "The latest record of a key stands. A cursor is written after the events that it covers are confirmed"
        ": it may lag them, and never leads. Both kinds lie in the partition of the mailbox id.",
        "Nothing is put off for that day any more; or the mailbox was purged.",
    ),
    Contract(
        topics.SYNC_REQUESTS,
        "What people and pushes ask of a mailbox: a hint, a backfill, a resync, an audit.",
        {SyncRequest: _OF_A_MAILBOX},
        "push, the `mailstream` command, and whoever else may write here",
        "Handled in order within a mailbox; hints may be merged.",
    ),
    Contract(
        topics.DEFERRED,
        "Work that takes long (OCR) or must wait (throttled, no scanner): read by workers of its own.",
        {Deferred: "the document id"},
        "extract, slow, reprocess",
        "None that means anything: what may not start yet goes to the end.",
    ),
    Contract(
        topics.OBSERVATIONS,
        "What IMAP sees of a mailbox that is read both ways, for comparison only.",
        {Observation: _OF_A_MAILBOX},
        "source",
        _BY_MAILBOX,
    ),
    Contract(
        topics.DEAD_LETTERS,
        "What failed for good, where and why; and what a person did about it.",
        {DeadLetter: "`mailbox_id`, empty where unknown", DeadLetterResolution: "that of its letter"},
        "every stage, `mailstream dead-letters`",
        "One partition, one order: a resolution stands behind its letter.",
    ),
)

# Every event, once, in the order of the topics.
EVENTS: tuple[type[Event], ...] = tuple(
    dict.fromkeys(kind for contract in CONTRACTS for kind in contract.events)
)


def topics_of(kind: type[Event]) -> tuple[Topic, ...]:
    """The topics in which an event stands."""
    return tuple(contract.topic for contract in CONTRACTS if kind in contract.keys)
