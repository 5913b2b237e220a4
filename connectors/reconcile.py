"""A mailbox as a whole, and how it differs from the index: what resync and audit are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from sys import intern
from typing import Literal

from connectors.errors import PageTokenExpiredError
from connectors.mail_source import HistoryEntry, MailSource
from schemas.events import AuditReport, ChangeKind, MailboxRecord, MessageChange, SyncRequest

Origin = Literal["listing", "audit"]
SAMPLE_IDS = 20
# A listing whose token has gone stale is begun again; one that never ends so is not.
_LISTING_ATTEMPTS = 5


@dataclass(slots=True)
class Snapshot:
    """Every message of a mailbox with its labels. What happened after ``history_id`` may be in it or not."""

    history_id: int
    labels: dict[str, frozenset[str]]  # by message id; spam and trash included
    wanted: Set[str]  # the ids that the mailbox's query and labels ask for

    @classmethod
    async def take(cls, source: MailSource, mailbox: MailboxRecord) -> Snapshot:
        """List the mailbox, then each label. 5 units for 500 messages, and for 500 of each label."""
        position = await source.position()
        found: dict[str, set[str]] = {message_id: set() for message_id in await list_ids(source)}
        for label_id in await source.labels():
            for message_id in await list_ids(source, label_id=label_id):
                # One that the first listing lacks came later: the history tells of it.
                if message_id in found:
                    found[message_id].add(intern(label_id))
        # Few sets of labels are worn by many messages.
        sets: dict[frozenset[str], frozenset[str]] = {}
        labels = {key: sets.setdefault(frozenset(value), frozenset(value)) for key, value in found.items()}
        wanted = {message_id for message_id, worn in labels.items() if mailbox.in_scope(worn)}
        if mailbox.query:
            wanted &= await list_ids(source, query=mailbox.query)
        return cls(position.history_id, labels, wanted)

    def label_changes(
        self, mailbox: MailboxRecord, origin: Origin, message_ids: Iterable[str]
    ) -> Iterator[MessageChange]:
        """Events that say all labels of some messages."""
        for message_id in message_ids:
            label_ids = tuple(sorted(self.labels[message_id]))
            yield self.event(ChangeKind.LABELS, mailbox, message_id, origin, label_ids)

    def event(
        self,
        kind: ChangeKind,
        mailbox: MailboxRecord,
        message_id: str,
        origin: Origin,
        label_ids: tuple[str, ...] | None = None,
    ) -> MessageChange:
        """An event as of this snapshot."""
        return MessageChange(
            mailbox_id=mailbox.mailbox_id,
            epoch=mailbox.epoch,
            kind=kind,
            message_id=message_id,
            history_id=self.history_id,
            label_ids=label_ids,
            origin=origin,
        )


async def list_ids(source: MailSource, *, query: str | None = None, label_id: str | None = None) -> set[str]:
    """The ids of a whole listing, spam and trash included. Raises PageTokenExpiredError when none ends."""
    for attempt in range(_LISTING_ATTEMPTS):
        found: set[str] = set()
        token: str | None = None
        try:
            while True:
                page = await source.list_page(token, query=query, label_id=label_id)
                found.update(message_id for message_id, _ in page.messages)
                token = page.next_page_token
                if token is None:
                    return found
        except PageTokenExpiredError:
            if attempt == _LISTING_ATTEMPTS - 1:
                raise
    raise AssertionError("the loop returns or raises")


@dataclass(slots=True)
class Moved:
    """The messages that a mailbox's history has named since a comparison began.

    What it says of them is newer than the snapshot. But only who came or went needs nothing more: a change of
    labels does not bring the text of a message whose arrival was lost in a gap of the history.
    """

    message_ids: set[str] = field(default_factory=set)
    came_or_went: set[str] = field(default_factory=set)

    def note(self, entries: Iterable[HistoryEntry]) -> None:
        """Take in a page of the history."""
        for entry in entries:
            self.message_ids.add(entry.message_id)
            if entry.kind in (ChangeKind.UPSERT, ChangeKind.DELETE):
                self.came_or_went.add(entry.message_id)


@dataclass(slots=True)
class Differences:
    """What is not in the index as it is in the mailbox. ``kept``: deleted in Gmail, and meant to stay."""

    snapshot: Snapshot
    indexed: int
    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @classmethod
    def between(
        cls,
        snapshot: Snapshot,
        indexed: Mapping[str, frozenset[str]],
        mailbox: MailboxRecord,
        moved: Moved,
        apart: Set[str] = frozenset(),
        announced: Set[str] = frozenset(),
    ) -> Differences:
        """Compare. What has ``moved`` since is on its way: it is left out, as are those ``apart`` (drafts
        that are held, messages that were purged). Those ``announced`` are stale where the mailbox has them no
        more, although the index never had them.
        """
        in_motion = moved.message_ids | apart
        found = cls(snapshot, len(indexed))
        found.missing = sorted(snapshot.wanted - indexed.keys() - moved.came_or_went - apart)
        gone = sorted((indexed.keys() | announced) - snapshot.labels.keys() - in_motion)
        if mailbox.deletions == "mirror":
            found.stale = gone
        else:
            found.kept = gone
        found.labels = sorted(
            message_id
            for message_id, worn in indexed.items()
            if message_id not in in_motion and snapshot.labels.get(message_id, worn) != worn
        )
        return found

    def report(self, request: SyncRequest) -> AuditReport:
        """What an audit says."""
        lists = {"missing": self.missing, "stale": self.stale, "labels": self.labels, "kept": self.kept}
        return AuditReport(
            request_id=request.request_id,
            history_id=self.snapshot.history_id,
            mailbox_messages=len(self.snapshot.labels),
            index_messages=self.indexed,
            **{name: len(ids) for name, ids in lists.items()},
            repaired=request.repair,
            sample={name: tuple(ids[:SAMPLE_IDS]) for name, ids in lists.items() if ids},
        )

    def changes(self, mailbox: MailboxRecord, origin: Origin) -> Iterator[MessageChange]:
        """The events that make the index equal to the mailbox."""
        snapshot = self.snapshot
        yield from snapshot.label_changes(mailbox, origin, self.labels)
        for message_id in self.missing:
            yield snapshot.event(ChangeKind.UPSERT, mailbox, message_id, origin)
        for message_id in self.stale:
            yield snapshot.event(ChangeKind.DELETE, mailbox, message_id, origin)
