"""From what a mailbox's history says to the events that others subscribe to.

Pure: pages in, events out, and what must be remembered between them: drafts that are still being written, and
deletions that the mailbox's policy puts off.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from connectors.mail_source import HistoryEntry
from schemas.events import ChangeKind, HeldDraft, MailboxRecord, MessageChange, now_milliseconds

DRAFT = "DRAFT"


@dataclass
class Translator:
    """Translates the pages of a history pass. ``drafts`` and ``kept`` grow on the way.

    An autosave replaces the draft by a new message, every few seconds while somebody writes. So a draft is
    held, and its upsert emitted once it has been left alone for ``quiet_seconds``; those that are replaced
    before that leave no event at all, unless the mailbox is ``walked`` meanwhile: a listing names them, too.
    """

    mailbox: MailboxRecord
    quiet_seconds: float
    drafts: dict[str, HeldDraft]
    now: Callable[[], int] = now_milliseconds
    walked: bool = False
    kept: dict[str, int] = field(default_factory=dict)  # deletions to put off: message id -> historyId

    def translate(self, entries: Iterable[HistoryEntry]) -> Iterator[MessageChange]:
        """The events of some entries, in their order."""
        for entry in entries:
            if entry.kind is ChangeKind.UPSERT:
                yield from self._added(entry)
            elif entry.kind is ChangeKind.DELETE:
                yield from self._deleted(entry)
            else:
                yield from self._labelled(entry)

    def release(self) -> Iterator[MessageChange]:
        """The upserts of the drafts that have been left alone for long enough."""
        now = self.now()
        for message_id, draft in list(self.drafts.items()):
            # One of the future was seen before the clock went back: nobody knows when.
            if draft.seen_at > now or now - draft.seen_at >= self.quiet_seconds * 1000:
                del self.drafts[message_id]
                yield self._event(ChangeKind.UPSERT, message_id, draft.history_id, draft.label_ids)

    def _added(self, entry: HistoryEntry) -> Iterator[MessageChange]:
        labels = entry.labels
        if labels is not None and not self.mailbox.in_scope(labels):
            # What is not indexed need not be fetched: its labels are enough to know it by.
            yield self._of(entry, ChangeKind.LABELS, labels)
        elif labels is not None and DRAFT in labels:
            self.drafts[entry.message_id] = HeldDraft(
                message_id=entry.message_id,
                history_id=entry.history_id,
                label_ids=labels,
                seen_at=self.now(),
            )
        else:
            yield self._of(entry, ChangeKind.UPSERT, labels)

    def _deleted(self, entry: HistoryEntry) -> Iterator[MessageChange]:
        held = self.drafts.pop(entry.message_id, None)
        # One that may have been released by a process that died before it could note so is no secret.
        if held is not None and not self.walked and 0 <= self.now() - held.seen_at < self.quiet_seconds * 500:
            return
        if self.mailbox.deletions == "mirror":
            yield self._of(entry, ChangeKind.DELETE, None)
        else:
            self.kept[entry.message_id] = entry.history_id

    def _labelled(self, entry: HistoryEntry) -> Iterator[MessageChange]:
        held = self.drafts.pop(entry.message_id, None)
        if held is not None:  # sent, filed, thrown away: it is not being written any more
            yield self._event(
                ChangeKind.UPSERT, entry.message_id, held.history_id, held.label_ids, entry.thread_id
            )
        yield self._of(entry, entry.kind, entry.changed)
        if self._enters_scope(entry):
            yield self._of(entry, ChangeKind.UPSERT, entry.labels)

    def _enters_scope(self, entry: HistoryEntry) -> bool:
        """Whether a message that may never have been fetched is to be indexed from now on."""
        left = entry.kind is ChangeKind.LABEL_REMOVED
        gates = self.mailbox.exclude_labels if left else self.mailbox.include_labels
        if not set(gates) & set(entry.changed):
            return False
        return entry.labels is None or self.mailbox.in_scope(entry.labels)

    def _of(self, entry: HistoryEntry, kind: ChangeKind, label_ids: tuple[str, ...] | None) -> MessageChange:
        return self._event(kind, entry.message_id, entry.history_id, label_ids, entry.thread_id)

    def _event(
        self,
        kind: ChangeKind,
        message_id: str,
        history_id: int,
        label_ids: tuple[str, ...] | None = None,
        thread_id: str | None = None,
    ) -> MessageChange:
        return MessageChange(
            mailbox_id=self.mailbox.mailbox_id,
            epoch=self.mailbox.epoch,
            kind=kind,
            message_id=message_id,
            thread_id=thread_id,
            history_id=history_id,
            label_ids=label_ids,
        )
