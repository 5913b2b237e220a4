"""What is done for a mailbox beside its history: its watch, its labels' names, deletions that fall due."""

import logging
from collections.abc import Mapping

from connectors.errors import MailstreamError
from connectors.kafka import Producer, Send
from connectors.mail_source import MailSource
from connectors.mailbox_sync import Chore, MailboxSync
from connectors.metrics import gmail_watch_expiry_gauge
from schemas import topics
from schemas.events import (
    ChangeKind,
    KeptDeletions,
    LabelDirectory,
    MailboxRecord,
    MessageChange,
    day_of,
    kept_key,
    labels_key,
    now_milliseconds,
)
from schemas.identity import partition_for
from schemas.topics import DAY_MILLISECONDS

log = logging.getLogger(__name__)

# Google asks for a renewal at least every seven days, and advises one a day.
WATCH_MILLISECONDS = DAY_MILLISECONDS
LABELS_MILLISECONDS = 600_000
FIRST_RETRY_MILLISECONDS, LAST_RETRY_MILLISECONDS = 5_000, 3_600_000


class _Periodic(Chore):
    """A chore with a date, which fails without harm to the mailbox: it is tried again, ever less often."""

    def __init__(self) -> None:
        self._due_at = 0
        self._failures = 0

    async def run(self, sync: MailboxSync) -> None:
        """Do it if it is due."""
        if now_milliseconds() < self._due_at:
            return
        try:
            self._due_at = await self.do(sync)
            self._failures = 0
        except MailstreamError as error:
            wait = min(FIRST_RETRY_MILLISECONDS * 2**self._failures, LAST_RETRY_MILLISECONDS)
            self._failures += 1
            self._due_at = now_milliseconds() + wait
            log.warning("%s failed, again in %d s: %s", type(self).__name__, wait // 1000, error)

    async def do(self, sync: MailboxSync) -> int:
        """The work; returns when it is due again."""
        raise NotImplementedError


class Watch(_Periodic):
    """Keeps Gmail announcing the mailbox's changes: renewed every day, and before it ends."""

    def __init__(self, source: MailSource, mailbox: MailboxRecord, topic: str) -> None:
        super().__init__()
        self._source = source
        self._mailbox = mailbox
        self._topic = topic

    async def do(self, sync: MailboxSync) -> int:
        """Renew the watch, unless somebody did less than a day ago."""
        cursor, now = sync.cursor, now_milliseconds()
        renewed_at = cursor.watch_renewed_at if cursor is not None else None
        expires_at = cursor.watch_expires_at if cursor is not None else None
        if renewed_at is None or expires_at is None or _renewal(renewed_at, expires_at) <= now:
            mailbox = self._mailbox
            expires_at = await self._source.watch(self._topic, mailbox.include_labels, mailbox.exclude_labels)
            renewed_at = now
            await sync.save(watch_expires_at=expires_at, watch_renewed_at=renewed_at)
        gmail_watch_expiry_gauge.set(self._mailbox.mailbox_id, expires_at / 1000)
        return _renewal(renewed_at, expires_at)


def _renewal(renewed_at: int, expires_at: int) -> int:
    """A day after the last one, or halfway to the end where that comes sooner."""
    return min(renewed_at + WATCH_MILLISECONDS, (renewed_at + expires_at) // 2)


class LabelNames(_Periodic):
    """Keeps the label directory in the registry: documents bear ids, people know names."""

    def __init__(self, source: MailSource, mailbox: MailboxRecord, producer: Producer, known: bytes | None):
        super().__init__()
        self._source = source
        self._mailbox_id = mailbox.mailbox_id
        self._producer = producer
        self._known = LabelDirectory.decode(known).names if known is not None else None

    async def do(self, sync: MailboxSync) -> int:
        """Write the names if they have changed."""
        names = await self._source.labels()
        if names != self._known:
            directory = LabelDirectory(mailbox_id=self._mailbox_id, names=names)
            await self._producer.send(
                [Send.event(topics.MAILBOXES.name, labels_key(self._mailbox_id), directory)]
            )
            self._known = names
        return now_milliseconds() + LABELS_MILLISECONDS


class PutOffDeletions(Chore):
    """Deletions of a mailbox that keeps what Gmail deletes for some days: one record for each day they fall
    due, written before the cursor that covers them."""

    def __init__(
        self, mailbox: MailboxRecord, producer: Producer, partitions: int, cursors: Mapping[str, bytes]
    ) -> None:
        self._mailbox = mailbox
        self._producer = producer
        self._partition = partition_for(mailbox.mailbox_id, partitions)
        prefix = kept_key(mailbox.mailbox_id, "")
        kept = (KeptDeletions.decode(value) for key, value in cursors.items() if key.startswith(prefix))
        self._kept = {day_of(record.due_at): record for record in kept if record.epoch == mailbox.epoch}

    async def put_off(self, sync: MailboxSync, deletions: dict[str, int]) -> None:
        """Note deletions, unless they have been noted, or are never to happen."""
        if self._mailbox.keep_days is None:
            return
        noted = {message_id for record in self._kept.values() for message_id in record.history_ids}
        new = {message_id: at for message_id, at in deletions.items() if message_id not in noted}
        if not new:
            return
        due_at = now_milliseconds() + self._mailbox.keep_days * DAY_MILLISECONDS
        known = self._kept.get(day_of(due_at))
        record = KeptDeletions(
            mailbox_id=self._mailbox.mailbox_id,
            epoch=self._mailbox.epoch,
            due_at=known.due_at if known is not None else due_at,
            history_ids={**(known.history_ids if known is not None else {}), **new},
        )
        await self._write(day_of(due_at), record)
        self._kept[day_of(due_at)] = record

    async def run(self, sync: MailboxSync) -> None:
        """Emit the deletions that are due: all, where the mailbox mirrors Gmail by now."""
        now, mirrors = now_milliseconds(), self._mailbox.deletions == "mirror"
        for day, record in list(self._kept.items()):
            if record.due_at > now and not mirrors:
                continue
            await sync.emit(
                topics.CHANGES.name,
                (
                    MessageChange(
                        mailbox_id=record.mailbox_id,
                        epoch=record.epoch,
                        kind=ChangeKind.DELETE,
                        message_id=message_id,
                        history_id=history_id,
                    )
                    for message_id, history_id in record.history_ids.items()
                ),
            )
            await self._write(day, None)
            del self._kept[day]

    async def _write(self, day: str, kept: KeptDeletions | None) -> None:
        place = (topics.CURSORS.name, kept_key(self._mailbox.mailbox_id, day))
        tombstone = Send(*place, None, self._partition)
        await self._producer.send([tombstone if kept is None else Send.event(*place, kept, self._partition)])
