"""The registers of ``mail.documents`` and their merge: how any order of events ends in the same index.

A message is a set of registers; of each register the highest version wins; the document is the merge of its
registers. So ``MessageState.join`` is commutative, associative and idempotent.

    content/<part path>   a message's own content (empty path) or an attachment's
    labels                all labels of the message as of a historyId
    label/<id>            one label added or removed at a historyId
    deleted               the message was deleted at a historyId
"""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.events import Epoch, Event, HistoryId, MailboxId, MessageId
from schemas.headers import Headers
from schemas.identity import MESSAGE_PATH, message_key
from schemas.outcomes import Outcome, Scan, content_rank
from schemas.privacy import Unit, content, hashed_of, identifying, operational, personal

CONTENT_PREFIX = "content/"
LABEL_PREFIX = "label/"
LABELS = "labels"
DELETED = "deleted"

Source = Literal["gmail_api", "imap"]

# Raised when a newer engine should win over what an older one extracted from the same bytes.
ENGINE_VERSION = 1


class Segment(Event):
    """A run of extracted text with the place it stands in."""

    text: Annotated[str, content("extracted text")]
    page: Annotated[int | None, operational("page, or slide", Unit.POSITION)] = None
    label: Annotated[str | None, content("what a person calls the place: sheet Sales, slide 3")] = None


class PartReference(Event):
    """An attachment as the message lists it."""

    part_path: Annotated[str, identifying("its position in the message")]
    filename: Annotated[str | None, content("its file name")] = None
    content_type: Annotated[str, operational("as the mail declares it")]
    size_bytes: Annotated[int | None, operational("its size", Unit.BYTES)] = None


class MessageContent(Event):
    """What a message says: headers people search by, and its body text."""

    thread_id: Annotated[str | None, identifying("Gmail's id of the thread")] = None
    rfc_message_id: Annotated[str | None, personal("the Message-ID header")] = None
    subject: Annotated[str, content("the subject")] = ""
    sender: Annotated[str, personal("who wrote it, as the From header has it")] = ""
    to: Annotated[tuple[str, ...], personal("to whom")] = ()
    cc: Annotated[tuple[str, ...], personal("with copies to")] = ()
    bcc: Annotated[
        tuple[str, ...], personal("and secretly to; stands in mail that the mailbox's owner sent")
    ] = ()
    reply_to: Annotated[tuple[str, ...], personal("where answers shall go")] = ()
    sent_at: Annotated[int | None, operational("when the mailbox got it", Unit.TIME)] = None
    size_bytes: Annotated[int | None, operational("the message's size", Unit.BYTES)] = None
    text: Annotated[str, content("its body as text")] = ""
    text_sha256: Annotated[str | None, hashed_of("SHA-256 of the text as it came, white space apart")] = None
    truncated: Annotated[bool, operational("whether there was more text")] = False
    parts: Annotated[tuple[PartReference, ...], content("its attachments")] = ()


class AttachmentContent(Event):
    """What an attachment says, and how we know."""

    filename: Annotated[str | None, content("its file name, made presentable")] = None
    raw_filename: Annotated[str | None, content("as the mail has it, where that is another")] = None
    content_type: Annotated[str, operational("by what stands in it")]
    declared_content_type: Annotated[str | None, operational("as the mail declares it")] = None
    size_bytes: Annotated[int | None, operational("its size", Unit.BYTES)] = None
    sha256: Annotated[
        str | None, hashed_of("of its bytes, hexadecimal; absent where they were not fetched")
    ] = None
    outcome: Annotated[Outcome, operational("how reading it ended")]
    scan: Annotated[Scan, operational("the malware scanner's verdict")] = Scan.OFF
    signature: Annotated[str | None, operational("what the scanner found")] = None
    skipped_reason: Annotated[str | None, operational("why it was not read")] = None
    engines: Annotated[tuple[str, ...], operational("the programs that read it")] = ()
    seconds: Annotated[float | None, operational("how long that took", Unit.SECONDS)] = None
    pages: Annotated[int | None, operational("its pages", Unit.COUNT)] = None
    author: Annotated[str | None, personal("its author, by its own word")] = None
    title: Annotated[str | None, content("its title, by its own word")] = None
    created: Annotated[str | None, content("when it was made, by its own word")] = None
    inline: Annotated[bool, operational("whether it stands in the mail's text")] = False
    truncated: Annotated[bool, operational("whether there was more text")] = False
    segments: Annotated[tuple[Segment, ...], content("its text, by places")] = ()
    children: Annotated[tuple[str, ...], identifying("part paths of what a container holds")] = ()


class ContentVersion(Event):
    """Which content stands: epoch first, then the scanner's verdict, then engine, then how much was read,
    then a tie-break. ``verdict`` is odd where the scanner found something, and even where it did not or took
    that back: what was found outlives a newer engine, and gives way to who knew of it and found it clean.
    """

    epoch: Epoch
    verdict: Annotated[int, operational("odd where the scanner found something", Unit.ORDINAL)] = 0
    engine: Annotated[int, operational("the extraction engine's version", Unit.ORDINAL)] = 1
    rank: Annotated[int, operational("how much was read", Unit.ORDINAL)]
    digest: Annotated[str, hashed_of("of the content: the tie-break")]
    source: Annotated[Source, operational("how the mailbox was read")] = "gmail_api"

    def order(self) -> tuple[int, int, int, int, str, str]:
        """What versions compare by."""
        return (self.epoch, self.verdict, self.engine, self.rank, self.digest, self.source)


class Register(Event):
    """Base of the four registers: which message they belong to."""

    mailbox_id: MailboxId
    message_id: MessageId

    @property
    def name(self) -> str:
        """The register's name, the part of the record key behind the message key."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """The record key in ``mail.documents``."""
        return f"{message_key(self.mailbox_id, self.message_id)}/{self.name}"


class ContentRegister(Register):
    """``content/<part path>``: exactly one of ``message`` and ``attachment`` is set."""

    part_path: Annotated[str, identifying("the message's own content where empty, else an attachment's")] = (
        MESSAGE_PATH
    )
    version: Annotated[ContentVersion, operational("what decides which content stands")]
    message: Annotated[MessageContent | None, content("the message's content")] = None
    attachment: Annotated[AttachmentContent | None, content("an attachment's content")] = None

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        is_message = self.part_path == MESSAGE_PATH
        if (self.message is not None, self.attachment is not None) != (is_message, not is_message):
            raise ValueError(
                "a message's content stands under the empty part path, an attachment's under its own"
            )
        return self

    @property
    def name(self) -> str:
        """See ``Register``."""
        return CONTENT_PREFIX + self.part_path

    def order(self) -> tuple[int, int, int, int, str, str]:
        """What two contents of one part compare by."""
        return self.version.order()


class LabelsRegister(Register):
    """``labels``: the complete set as of ``history_id``; a label that is not in it is absent as of then."""

    epoch: Epoch
    history_id: HistoryId
    label_ids: Annotated[tuple[str, ...], identifying("the complete set as of history_id")]
    source: Annotated[Source, operational("how the mailbox was read")] = "gmail_api"

    @property
    def name(self) -> str:
        """See ``Register``."""
        return LABELS

    def order(self) -> tuple[int, int, tuple[str, ...], str]:
        """What two snapshots compare by; the labels break a tie the same way everywhere."""
        return (self.epoch, self.history_id, tuple(sorted(self.label_ids)), self.source)


class LabelRegister(Register):
    """``label/<id>``: one label added (``present``) or removed at ``history_id``."""

    epoch: Epoch
    history_id: HistoryId
    label_id: Annotated[str, identifying("which label")]
    present: Annotated[bool, operational("added, or removed")]

    @property
    def name(self) -> str:
        """See ``Register``."""
        return LABEL_PREFIX + self.label_id

    def order(self) -> tuple[int, int, bool]:
        """What two changes of one label compare by."""
        return (self.epoch, self.history_id, self.present)


class DeletedRegister(Register):
    """``deleted``: the message was gone as of ``history_id``."""

    epoch: Epoch
    history_id: HistoryId
    reason: Annotated[Literal["deleted", "absent", "purged"], operational("how it came to be gone")] = (
        "deleted"
    )

    @property
    def name(self) -> str:
        """See ``Register``."""
        return DELETED

    def order(self) -> tuple[int, int, str]:
        """What two deletions compare by."""
        return (self.epoch, self.history_id, self.reason)


AnyRegister = ContentRegister | LabelsRegister | LabelRegister | DeletedRegister


def split_key(key: str) -> tuple[str, str]:
    """A record key of ``mail.documents`` as (message key, register name)."""
    owner, _, name = key.partition("/")
    return owner, name


def decode_register(key: str, value: bytes, headers: Headers = ()) -> AnyRegister:
    """Read a record of ``mail.documents``.

    Raises ``ValueError`` (pydantic's is one) when the key names no register or the value does not fit it.
    """
    _, name = split_key(key)
    if name.startswith(CONTENT_PREFIX):
        register: AnyRegister = ContentRegister.decode(value, headers)
    elif name == LABELS:
        register = LabelsRegister.decode(value, headers)
    elif name.startswith(LABEL_PREFIX):
        register = LabelRegister.decode(value, headers)
    elif name == DELETED:
        register = DeletedRegister.decode(value, headers)
    else:
        raise ValueError(f"no register is called {name!r}")
    if register.key != key:
        raise ValueError("the value belongs to another key")
    return register


class MessageState(Event):
    """All registers of one message, each at its highest version seen.

    Label changes that the snapshot covers are left out, so equal states are equal objects.
    """

    contents: dict[str, ContentRegister] = Field(default_factory=dict)
    labels: LabelsRegister | None = None
    label_changes: dict[str, LabelRegister] = Field(default_factory=dict)
    deleted: DeletedRegister | None = None

    def join(self, registers: Iterable[AnyRegister]) -> Self:
        """The state after also seeing ``registers``, in any order."""
        contents, changes = dict(self.contents), dict(self.label_changes)
        labels, deleted = self.labels, self.deleted
        for register in registers:
            if isinstance(register, ContentRegister):
                known = contents.get(register.part_path)
                if known is None or register.order() > known.order():
                    contents[register.part_path] = register
            elif isinstance(register, LabelsRegister):
                if labels is None or register.order() > labels.order():
                    labels = register
            elif isinstance(register, LabelRegister):
                change = changes.get(register.label_id)
                if change is None or register.order() > change.order():
                    changes[register.label_id] = register
            elif deleted is None or register.order() > deleted.order():
                deleted = register
        if labels is not None:
            # What the snapshot already says needs no change beside it.
            at = (labels.epoch, labels.history_id)
            changes = {key: item for key, item in changes.items() if (item.epoch, item.history_id) > at}
        return self.model_copy(
            update={"contents": contents, "labels": labels, "label_changes": changes, "deleted": deleted}
        )

    def register(self, name: str) -> "LabelsRegister | LabelRegister | DeletedRegister | None":
        """The register of that name as it stands, where it is not content."""
        if name == LABELS:
            return self.labels
        if name == DELETED:
            return self.deleted
        return self.label_changes.get(name.removeprefix(LABEL_PREFIX))

    @property
    def observed(self) -> tuple[int, int] | None:
        """The newest (epoch, historyId) at which somebody saw the message alive."""
        seen = [(change.epoch, change.history_id) for change in self.label_changes.values()]
        if self.labels is not None:
            seen.append((self.labels.epoch, self.labels.history_id))
        return max(seen, default=None)

    @property
    def live(self) -> bool:
        """Whether the message exists: it was never deleted, or has been seen after the deletion."""
        if self.deleted is None:
            return True
        observed = self.observed
        return observed is not None and observed > (self.deleted.epoch, self.deleted.history_id)

    @property
    def label_ids(self) -> frozenset[str]:
        """The labels: the snapshot, and the single changes above it."""
        present = set(self.labels.label_ids) if self.labels else set()
        for change in self.label_changes.values():
            (present.add if change.present else present.discard)(change.label_id)
        return frozenset(present)


def content_version(
    epoch: int,
    outcome: Outcome,
    digest: str,
    scan: Scan = Scan.OFF,
    standing: int = 0,
    source: Source = "gmail_api",
) -> ContentVersion:
    """The version of content that today's engine extracted; ``standing`` is the verdict that it knew of."""
    return ContentVersion(
        epoch=epoch,
        verdict=_verdict(standing, scan),
        engine=ENGINE_VERSION,
        rank=content_rank(outcome, scan),
        digest=digest,
        source=source,
    )


def _verdict(standing: int, scan: Scan) -> int:
    found = standing % 2 == 1
    if scan is Scan.INFECTED:
        return standing if found else standing + 1
    if scan is Scan.CLEAN:
        return standing + 1 if found else standing
    # Who did not scan has nothing to say against what was found.
    return standing - 1 if found else standing
