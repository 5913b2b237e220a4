"""Purge: a mailbox or a message leaves the index, the topics and the caches, and does not come back.

First the registry says so: from then on every stage drops what still arrives. Then everything that stands is
taken out, and once more when the index worker has passed whatever it had in hand. Each step may be repeated:
after a crash the command is given again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from connectors.broker import Broker
from connectors.elasticsearch import Server
from connectors.elasticsearch.content_cache import ContentCache
from connectors.elasticsearch.versions import Versions
from connectors.kafka import REFRESH_SECONDS, Log, Producer, Record, Send, Table
from connectors.lag import LagMeter
from connectors.topic_growth import other_documents
from schemas import topics
from schemas.events import (
    MailboxRecord,
    MailboxState,
    Suppression,
    credential_key,
    now_milliseconds,
    suppressed_key,
)
from schemas.identity import message_key, partition_for
from schemas.registers import DELETED, DeletedRegister, Register, split_key

# By then every stage has looked at the registry, and writes nothing more of what is purged.
SETTLING_SECONDS = REFRESH_SECONDS + 1.0
POLL_SECONDS = 0.5
# The server lets go of the newest deletions after half a minute.
EXPUNGE_SECONDS, EXPUNGE_PAUSE_SECONDS = 90.0, 10.0
SENDS_AT_ONCE = 1_000
# Higher than any historyId: nothing seen in this epoch outranks the deletion.
FOR_GOOD = 2**62
# Ids only: they are not taken out, they expire.
EXPIRING = (
    topics.SYNC_REQUESTS,
    topics.CHANGES,
    topics.BACKFILL,
    topics.DEFERRED,
    topics.OBSERVATIONS,
    topics.DEAD_LETTERS,
)


@dataclass(slots=True)
class Receipt:
    """What was removed, and what goes by itself until when (milliseconds). Ids and counts only.

    ``complete`` False: the index worker had not passed what it had in hand, or there are copies of the
    documents; purge again when that is over.
    """

    mailbox_id: str
    message_id: str | None
    epoch: int
    started_at: int
    finished_at: int = 0
    complete: bool = False
    removed: dict[str, int] = field(default_factory=dict)
    expires: dict[str, int] = field(default_factory=dict)
    stays: str = ""
    copies: tuple[str, ...] = ()  # other topics of documents, which are not looked at: never complete
    in_segments: int = 0  # deleted documents, of anybody, that the server's files still hold


class Purge:
    """Purges over open connections. ``progress`` hears what is being done."""

    def __init__(
        self,
        producer: Producer,
        versions: Versions,
        meter: LagMeter,
        documents: Log,
        tables: Mapping[str, Table],
        cache: ContentCache,
        progress: Callable[[str], None],
        copies: tuple[str, ...] = (),
    ) -> None:
        self._producer = producer
        self._versions = versions
        self._meter = meter
        self._documents = documents
        self._tables = tables
        self._cache = cache
        self._progress = progress
        self._copies = copies
        self._removed: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, kafka: Broker | str, elasticsearch: Server | str, progress: Callable[[str], None]
    ) -> AsyncIterator[Purge]:
        """Connections of its own, for one purge."""
        async with (
            Producer(kafka) as producer,
            Versions.open(elasticsearch) as versions,
            LagMeter.open(kafka) as meter,
            Log.open(kafka, topics.DOCUMENTS.name) as documents,
            Table.open(kafka, topics.MAILBOXES.name) as registry,
            Table.open(kafka, topics.CURSORS.name) as cursors,
            ContentCache.open(elasticsearch, lifetime_seconds=0) as cache,
        ):
            tables = {topics.MAILBOXES.name: registry, topics.CURSORS.name: cursors}
            copies = tuple(await other_documents(kafka))
            yield cls(producer, versions, meter, documents, tables, cache, progress, copies)

    async def mailbox(self, record: MailboxRecord, timeout_seconds: float) -> Receipt:
        """Purge a mailbox; of its record stay the id and the epoch. Raises UnavailableError."""
        again = record.state is MailboxState.PURGED
        epoch = record.epoch if again else record.epoch + 1
        # Nothing is taken over but what must be: a query or an unknown field may name somebody.
        purged = MailboxRecord(
            mailbox_id=record.mailbox_id,
            address="",
            epoch=epoch,
            purged_below=epoch,
            state=MailboxState.PURGED,
            state_reason="purged",
            created_at=record.created_at,
        )
        receipt = Receipt(record.mailbox_id, None, epoch, now_milliseconds())
        receipt.stays = "the mailbox's id, epoch and state in the registry"
        written = Send.event(topics.MAILBOXES.name, record.mailbox_id, purged)

        async def sweep() -> None:
            await self._producer.send([written])  # a source that parked it just then may have overwritten it
            await self._forget_records(record.mailbox_id)
            await self._null(lambda item: _belongs(item, record.mailbox_id))
            await self._delete({"term": {"mailbox_id": record.mailbox_id}})

        return await self._purge(receipt, sweep, timeout_seconds)

    async def message(self, record: MailboxRecord, message_id: str, timeout_seconds: float) -> Receipt:
        """Purge one message; its id stays known, so that it is not read again. Raises UnavailableError."""
        mailbox_id, key = record.mailbox_id, message_key(record.mailbox_id, message_id)
        receipt = Receipt(mailbox_id, message_id, record.epoch, now_milliseconds())
        receipt.stays = "the message's id: in the suppress list, and as a deletion in topic and index"
        suppression = Suppression(mailbox_id=mailbox_id, message_id=message_id)
        deleted = DeletedRegister(
            mailbox_id=mailbox_id,
            message_id=message_id,
            epoch=record.epoch,
            history_id=FOR_GOOD,
            reason="purged",
        )
        partitions = await self._producer.partitions(topics.DOCUMENTS.name)
        await self._producer.send(
            [
                Send.event(topics.MAILBOXES.name, suppressed_key(mailbox_id, message_id), suppression),
                Send.event(topics.DOCUMENTS.name, deleted.key, deleted, partition_for(key, partitions)),
            ]
        )
        tombstone = {"bool": {"filter": [{"term": {"kind": "message"}}, {"term": {"live": False}}]}}

        async def sweep() -> None:
            await self._null(lambda item: split_key(item.key)[0] == key and item.key != f"{key}/{DELETED}")
            own = {"filter": [{"term": {"message_key": key}}], "must_not": [tombstone]}
            await self._delete({"bool": own})

        return await self._purge(receipt, sweep, timeout_seconds)

    async def _purge(self, receipt: Receipt, sweep: Callable[[], Any], timeout_seconds: float) -> Receipt:
        self._progress("removing")
        await sweep()
        await asyncio.sleep(SETTLING_SECONDS)
        self._progress("waiting for the index worker to pass what it had in hand")
        receipt.complete = await self._passed(timeout_seconds) and not self._copies
        receipt.copies = self._copies
        self._progress("looking again")
        await sweep()
        # It is kept by what was read, not by whose it is: all of it goes, and is read again where needed.
        await self._cache.forget_all()
        self._progress("clearing the index's files")
        receipt.in_segments = await self._expunged()
        receipt.finished_at = now_milliseconds()
        receipt.removed = dict(self._removed)
        day = topics.DAY_MILLISECONDS
        compacted = "overwritten records of compacted topics (after the next record in their partition)"
        receipt.expires = {
            compacted: receipt.finished_at + 2 * topics.COMPACTION_LAG_MILLISECONDS,
            **{
                f"ids in {topic.name}": receipt.finished_at + (topic.retention_milliseconds or day)
                for topic in EXPIRING
            },
        }
        return receipt

    async def _expunged(self) -> int:
        """Rewrite the index's files; returns how many deleted documents, of anybody, are still in them."""
        deadline = time.monotonic() + EXPUNGE_SECONDS
        while True:
            left = sum([await self._versions.expunge(version) for version in await self._versions.all()])
            if not left or time.monotonic() > deadline:
                return left
            await asyncio.sleep(EXPUNGE_PAUSE_SECONDS)

    async def _passed(self, timeout_seconds: float) -> bool:
        """Wait until the index worker has committed what stands in the topic now; False: not in time."""
        ends = await self._meter.ends([topics.DOCUMENTS.name])
        deadline = time.monotonic() + timeout_seconds
        while await self._meter.behind(topics.INDEX_GROUP, ends):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def _forget_records(self, mailbox_id: str) -> None:
        """Everything about the mailbox in the registry and the cursors, but its own record."""
        counted = {credential_key(mailbox_id): "credentials", mailbox_id: "cursors"}
        for topic, table in self._tables.items():
            await table.catch_up()
            keys = [key for key in table.values if key.startswith(f"{mailbox_id}/")]
            partition = None
            if topic == topics.CURSORS.name:  # whatever its key: where its mailbox is
                partition = partition_for(mailbox_id, await self._producer.partitions(topic))
                keys += [mailbox_id] if mailbox_id in table.values else []
            await self._producer.send([Send(topic, key, None, partition) for key in keys])
            for key in keys:
                self._removed[counted.get(key, "labels, suppressions and put-off deletions")] += 1

    async def _null(self, doomed: Callable[[Record], bool]) -> None:
        """Null the keys of ``mail.documents`` whose latest record is doomed; reads on from the last call."""
        found: dict[str, int] = {}
        async for record in self._documents.read():
            if record.value is None:
                found.pop(record.key, None)
            elif doomed(record):
                found[record.key] = record.partition
        keys = list(found)
        for start in range(0, len(keys), SENDS_AT_ONCE):
            some = keys[start : start + SENDS_AT_ONCE]
            await self._producer.send([Send(topics.DOCUMENTS.name, key, None, found[key]) for key in some])
        self._removed["records of mail.documents"] += len(keys)

    async def _delete(self, query: Mapping[str, Any]) -> None:
        for version in await self._versions.all():
            deleted = await self._versions.delete_documents(version, query)
            self._removed[f"documents of {version.name}"] += deleted


def _belongs(record: Record, mailbox_id: str) -> bool:
    value = record.value or b""
    # Most records are somebody else's, and some are large: they are decoded only where the id stands in them.
    if mailbox_id.encode() not in value:
        return False
    try:
        return Register.decode(value).mailbox_id == mailbox_id
    except ValidationError:
        return True  # no register, but it names the mailbox: nobody else's
