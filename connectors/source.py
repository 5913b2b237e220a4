"""The source connector: which mailboxes are this process's, and a ``MailboxSync`` for each. Knows no Gmail.

Whoever is assigned a mailbox's partition of ``mail.sync-requests`` owns it and follows it unasked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from pydantic import ValidationError

from connectors.broker import Broker
from connectors.chores import LabelNames, PutOffDeletions, Watch
from connectors.downstream import Downstream, IndexDownstream
from connectors.elasticsearch import Server
from connectors.errors import (
    AuthorizationError,
    ConfigurationError,
    EpochEndedError,
    MailstreamError,
    TopicMissingError,
    UnavailableError,
)
from connectors.kafka import FETCH_WAIT_MILLISECONDS, Producer, Send, Table, consumer
from connectors.lag import measure_lag
from connectors.mail_source import MailSource
from connectors.mailbox_sync import Chore, MailboxSync, SyncConfig
from connectors.metrics import forget_mailbox, source_mailboxes_gauge, source_parked_counter
from connectors.spending import Spending
from schemas import topics
from schemas.events import (
    Cursor,
    MailboxRecord,
    MailboxState,
    SyncRequest,
    credential_key,
    labels_key,
    suppressed_key,
)
from schemas.headers import ForeignSchemaError, Headers
from schemas.identity import partition_for

log = logging.getLogger(__name__)

# How long requests are waited for before the registry is looked at again.
_REGISTRY_MILLISECONDS = 500
# How long a request that cannot be recorded yet is left in the topic before it is looked at again.
_UNRECORDED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """What the connector needs to know. ``watch_topic``: the Pub/Sub topic of pushes, None for none."""

    kafka: Broker | str
    elasticsearch: Server | str
    sync: SyncConfig
    use_gmail_api: bool = True
    watch_topic: str | None = None


@dataclass(slots=True)
class _Running:
    sync: MailboxSync
    source: MailSource
    task: asyncio.Task[None]
    record: MailboxRecord
    value: bytes  # of which the record was read
    credential: bytes | None
    observing: asyncio.Task[None] | None = None  # of a dual run: the other way to the mailbox


class _Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Which partitions, and so which mailboxes, are ours."""

    def __init__(self, lost: Callable[[], Awaitable[None]], gained: Callable[[int], None]) -> None:
        self.partitions: frozenset[int] = frozenset()
        self._lost = lost
        self._gained = gained

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        self.partitions = frozenset()
        # Before anybody else may own them: two owners do no harm, but they spend twice the quota.
        await self._lost()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self.partitions = frozenset(tp.partition for tp in assigned)
        self._gained(len(self.partitions))


def _suppressed(registry: Table, mailbox_id: str) -> frozenset[str]:
    prefix = suppressed_key(mailbox_id, "")
    return frozenset(key.removeprefix(prefix) for key in registry.values if key.startswith(prefix))


class SourceConnector:
    """Runs a ``MailboxSync`` for every live mailbox whose partition this process was assigned.

    ``open_source`` builds the MailSource of a mailbox from its registry record and credential record;
    ``observe`` reads one that is ``dual`` the other way too, for ever; what becomes of that stops nothing;
    ``on_part`` hears which part (0-1] of all mailboxes this process owns from now on; ``on_round`` hears that
    its loop goes on.
    """

    def __init__(
        self,
        config: SourceConfig,
        open_source: Callable[[MailboxRecord, bytes | None], MailSource],
        on_part: Callable[[float], None],
        on_round: Callable[[], None],
        observe: Callable[[MailboxRecord, bytes | None, Producer], Coroutine[Any, Any, None]],
    ) -> None:
        self._config = config
        self._observe = observe
        self._open_source = open_source
        self._on_part = on_part
        self._on_round = on_round
        self._default = "gmail_api" if config.use_gmail_api else "imap"
        self._partitions = 1
        self._cursor_partitions = 1
        self._ownership = _Ownership(self._stop_all, self._gained)
        self._running: dict[str, _Running] = {}
        for usual in (AuthorizationError, ConfigurationError):
            source_parked_counter.labels(reason=usual.__name__)  # there as 0: the first one is an increase

    async def run(self) -> None:
        """Go on until cancelled. Raises UnavailableError when Kafka stays away."""
        kafka = self._config.kafka
        async with (
            Producer(kafka) as producer,
            Table.open(kafka, topics.MAILBOXES.name) as registry,
            Table.open(kafka, topics.CURSORS.name) as cursors,
            IndexDownstream.open(kafka, self._config.elasticsearch) as downstream,
            consumer(
                kafka,
                group_id=topics.SOURCE_GROUP,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                # What a source that was killed owned is followed again after this long.
                session_timeout_ms=8_000,
                heartbeat_interval_ms=2_000,
                fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            ) as requests,
        ):
            self._partitions = await producer.partitions(topics.SYNC_REQUESTS.name)
            self._cursor_partitions = await producer.partitions(topics.CURSORS.name)
            requests.subscribe([topics.SYNC_REQUESTS.name], listener=self._ownership)
            spending = Spending(
                producer, lambda: [(running.record, running.source) for running in self._running.values()]
            )
            aside = [asyncio.create_task(measure_lag(kafka)), asyncio.create_task(spending.run())]
            try:
                while True:
                    await self._take_requests(requests, registry)
                    await registry.catch_up()
                    await self._balance(registry, cursors, producer, downstream)
                    self._on_round()
            finally:
                for task in aside:
                    task.cancel()
                await asyncio.gather(*aside, return_exceptions=True)
                await self._stop_all()

    def _gained(self, partitions: int) -> None:
        if partitions:
            self._on_part(partitions / self._partitions)

    # --- requests ------------------------------------------------------------------------------------

    async def _take_requests(self, requests: AIOKafkaConsumer, registry: Table) -> None:
        """Hints wake, everything else is recorded; what is recorded is committed, and nothing else is."""
        # The poll also carries the group's rebalances and paces this loop.
        batches = await requests.getmany(timeout_ms=_REGISTRY_MILLISECONDS)
        offsets: dict[TopicPartition, int] = {}
        for partition, records in batches.items():
            for record in records:
                if not await self._take(record.value or b"", tuple(record.headers), registry):
                    with suppress(KafkaError):  # not ours any more: the next owner takes it
                        requests.seek(partition, record.offset)
                    await asyncio.sleep(_UNRECORDED_SECONDS)
                    break
                offsets[partition] = record.offset + 1
        if offsets:
            try:
                await requests.commit(offsets)
            except KafkaError as error:
                # The group has moved on: the next owner takes them again, which does no harm.
                log.warning("requests were not committed: %s", error)

    async def _take(self, value: bytes, headers: Headers, registry: Table) -> bool:
        try:
            request = SyncRequest.decode(value, headers)
        except ForeignSchemaError as error:
            log.warning("a request is left out: %s", error)
            return True
        except ValidationError:
            log.warning("a request cannot be read: left out")
            return True
        running = self._running.get(request.mailbox_id)
        if running is None:
            # Ours, but not begun with yet; or nobody's: unknown or parked.
            record = registry.values.get(request.mailbox_id)
            if request.kind == "hint" or record is None:
                return True
            return MailboxRecord.decode(record).state is not MailboxState.LIVE
        if request.kind == "hint":
            running.sync.hint(request, headers)
            return True
        return await running.sync.record(request)

    # --- mailboxes -----------------------------------------------------------------------------------

    async def _balance(
        self, registry: Table, cursors: Table, producer: Producer, downstream: Downstream
    ) -> None:
        """Start what is ours and not running, stop what is not ours any more or has changed."""
        wanted = self._wanted(registry)
        await self._stop(
            [
                mailbox_id
                for mailbox_id, running in self._running.items()
                if wanted.get(mailbox_id) is not running.record
                or registry.values.get(credential_key(mailbox_id)) != running.credential
            ]
        )
        starting = [mailbox_id for mailbox_id in wanted if mailbox_id not in self._running]
        if starting:
            await cursors.catch_up()
        for mailbox_id in starting:
            record, credential = wanted[mailbox_id], registry.values.get(credential_key(mailbox_id))
            try:
                source = self._open_source(record, credential)
            except MailstreamError as error:
                await self._park(producer, record, error)
                continue
            cursor = cursors.values.get(mailbox_id)
            sync = MailboxSync(
                record,
                Cursor.decode(cursor) if cursor else None,
                source,
                producer,
                downstream,
                partition_for(mailbox_id, self._partitions),
                self._config.sync,
                self._chores(record, source, producer, registry, cursors),
                partial(_suppressed, registry, mailbox_id),
            )
            task = asyncio.create_task(sync.run())
            value = registry.values[mailbox_id]
            running = self._running[mailbox_id] = _Running(sync, source, task, record, value, credential)
            if record.source == "dual":
                running.observing = asyncio.create_task(self._observe(record, credential, producer))
        for running in list(self._running.values()):
            if running.task.done():
                await self._ended(producer, running)
        source_mailboxes_gauge.set(len(self._running))

    def _chores(
        self, record: MailboxRecord, source: MailSource, producer: Producer, registry: Table, cursors: Table
    ) -> list[Chore]:
        chores: list[Chore] = [
            PutOffDeletions(record, producer, self._cursor_partitions, cursors.values),
            LabelNames(source, record, producer, registry.values.get(labels_key(record.mailbox_id))),
        ]
        if self._config.watch_topic and (record.source or self._default) != "imap":
            chores.append(Watch(source, record, self._config.watch_topic))
        return chores

    def _wanted(self, registry: Table) -> dict[str, MailboxRecord]:
        """The live mailboxes of our partitions; a record that has not changed is the one that runs."""
        wanted = {}
        for mailbox_id, value in registry.values.items():
            if (
                "/" in mailbox_id
                or partition_for(mailbox_id, self._partitions) not in self._ownership.partitions
            ):
                continue
            running = self._running.get(mailbox_id)
            unchanged = running is not None and running.value == value
            record = running.record if running and unchanged else MailboxRecord.decode(value)
            if record.state is MailboxState.LIVE:
                wanted[mailbox_id] = record
        return wanted

    async def _ended(self, producer: Producer, running: _Running) -> None:
        """A mailbox's loop has stopped: for a refusal it is parked, for a fault of ours the process stops."""
        error = running.task.exception()
        await self._stop([running.record.mailbox_id])
        if not isinstance(error, MailstreamError) or isinstance(error, TopicMissingError | UnavailableError):
            raise error or RuntimeError("a mailbox's loop ended by itself")
        if isinstance(error, EpochEndedError):
            log.warning("mailbox %s begins again in a new epoch: %s", running.record.mailbox_id, error)
            again = running.record.model_copy(update={"epoch": running.record.epoch + 1})
            await producer.send([Send.event(topics.MAILBOXES.name, again.mailbox_id, again)])
            return
        await self._park(producer, running.record, error)

    async def _park(self, producer: Producer, record: MailboxRecord, error: BaseException) -> None:
        log.error("mailbox %s is parked: %s", record.mailbox_id, error)
        source_parked_counter.labels(reason=type(error).__name__).inc()
        parked = record.model_copy(
            update={"state": MailboxState.PARKED, "state_reason": type(error).__name__}
        )
        await producer.send([Send.event(topics.MAILBOXES.name, record.mailbox_id, parked)])

    async def _stop_all(self) -> None:
        await self._stop(list(self._running))

    async def _stop(self, mailbox_ids: list[str]) -> None:
        stopped = [self._running.pop(mailbox_id) for mailbox_id in mailbox_ids]
        tasks = [
            task for running in stopped for task in (running.task, running.observing) if task is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for running in stopped:
            running.source.close()
            forget_mailbox(running.record.mailbox_id)
