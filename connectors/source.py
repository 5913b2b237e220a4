"""The source connector's loop: which mailboxes are ours, how far each has been read, what is new.

It knows no Gmail: a mailbox is a ``MailSource``. The one rule that everything here serves: events first,
confirmed by the broker, then the cursor that covers them. The cursor may lag what was emitted, never lead it;
whatever is emitted twice merges into the same index.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

from connectors.errors import (
    HistoryExpiredError,
    MailstreamError,
    PageTokenExpiredError,
)
from connectors.kafka import Producer, Send, Table, consumer
from connectors.metrics import gmail_history_gap_gauge, source_events_counter
from schemas import topics
from schemas.events import (
    HIDDEN_LABELS,
    ChangeKind,
    Cursor,
    Listing,
    MailboxRecord,
    MailboxState,
    MessageChange,
    now_milliseconds,
)
from schemas.identity import hashed, partition_for

log = logging.getLogger(__name__)

GROUP = "mailstream-source"
# What a person sees last: a failing mailbox is tried again after this long at most.
MAX_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a mailbox stands: its newest historyId and how many messages it holds."""

    history_id: int
    messages: int


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of (message id, thread id); no token: the last one."""

    messages: tuple[tuple[str, str | None], ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """One page of changes; ``history_id`` is the mailbox's newest when the page was made."""

    changes: list[MessageChange]
    history_id: int
    next_page_token: str | None


class MailSource(Protocol):
    """A mailbox that can be listed and followed."""

    async def position(self) -> Position:
        """The newest historyId and the number of messages."""

    async def list_page(self, page_token: str | None, *, include_spam_trash: bool) -> ListingPage:
        """One page of message ids. Raises PageTokenExpiredError when the token is stale."""

    async def history_page(
        self, mailbox_id: str, epoch: int, start_history_id: int, page_token: str | None
    ) -> HistoryPage:
        """One page of changes. Raises HistoryExpiredError when the start is older than what is kept."""


class MailboxSync:
    """Reads one mailbox: follows its history, and beside that walks its listing page by page."""

    def __init__(
        self,
        record: MailboxRecord,
        cursor: Cursor | None,
        source: MailSource,
        producer: Producer,
        poll_seconds: float,
    ) -> None:
        self._mailbox = record
        self._cursor = cursor if cursor is not None and cursor.epoch == record.epoch else None
        self._source = source
        self._producer = producer
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()

    @property
    def cursor(self) -> Cursor | None:
        """How far the mailbox has been read; None before the first position is known."""
        return self._cursor

    def wake(self) -> None:
        """Somebody has a hint that there is news: look now, not at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Go on for ever. Raises what no retry can mend, AuthorizationError above all."""
        failures = 0
        while True:
            try:
                await self.step()
                failures = 0
            except MailstreamError as error:
                if not error.transient:
                    raise
                failures += 1
                backoff = min(0.5 * 2**failures, MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1.0)
                wait_seconds = max(error.retry_after_seconds or 0.0, backoff)
                log.warning(
                    "mailbox %s: %s: trying again in %.1f s", self._mailbox.mailbox_id, error, wait_seconds
                )
                await asyncio.sleep(wait_seconds)

    async def step(self) -> None:
        """History to its end, then one page of the listing; waits for news when there is none to walk."""
        if self._cursor is None:
            await self._start_listing()
        await self.follow_history()
        assert self._cursor is not None
        if not self._cursor.listing.complete:
            await self.list_one_page()
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self._poll_seconds)
        self._woken.clear()

    async def _start_listing(self) -> None:
        """Begin a run. The position is taken BEFORE the first page: what arrives later is in the history."""
        position = await self._source.position()
        listing = Listing(run=uuid.uuid4().hex, history_id=position.history_id, total=position.messages)
        await self._save(position.history_id, listing)
        log.info("mailbox %s: listing %d messages", self._mailbox.mailbox_id, position.messages)

    async def follow_history(self) -> None:
        """Emit every change since the cursor, then move the cursor.

        The new position is the one the FIRST page named: what happened while we turned the pages comes with
        the next run, be it for the second time.
        """
        assert self._cursor is not None
        start = self._cursor.history_id
        reached: int | None = None
        token: str | None = None
        while True:
            try:
                page = await self._source.history_page(
                    self._mailbox.mailbox_id, self._mailbox.epoch, start, token
                )
            except HistoryExpiredError:
                log.warning(
                    "mailbox %s: history before %d is gone, listing again", self._mailbox.mailbox_id, start
                )
                await self._start_listing()
                return
            reached = page.history_id if reached is None else reached
            await self._emit(topics.CHANGES.name, self._in_scope(page.changes))
            token = page.next_page_token
            if token is None:
                break
        gmail_history_gap_gauge.labels(mailbox=hashed(self._mailbox.mailbox_id)).set(max(reached - start, 0))
        if reached > start:
            await self._save(reached, self._cursor.listing)

    async def list_one_page(self) -> None:
        """Emit one page of the listing as upserts, then move the cursor."""
        assert self._cursor is not None
        listing = self._cursor.listing
        try:
            page = await self._source.list_page(
                listing.page_token, include_spam_trash=self._mailbox.include_spam_trash
            )
        except PageTokenExpiredError:
            # From the start again, from the same H0: what was listed before merges with what comes.
            log.warning("mailbox %s: the page token is stale, listing again", self._mailbox.mailbox_id)
            restart = {"run": uuid.uuid4().hex, "page_token": None, "pages": 0, "listed": 0}
            await self._save(self._cursor.history_id, listing.model_copy(update=restart))
            return
        await self._emit(
            topics.BACKFILL.name,
            [
                MessageChange(
                    mailbox_id=self._mailbox.mailbox_id,
                    epoch=self._mailbox.epoch,
                    kind=ChangeKind.UPSERT,
                    message_id=message_id,
                    thread_id=thread_id,
                    history_id=listing.history_id,
                    origin="listing",
                )
                for message_id, thread_id in page.messages
            ],
        )
        await self._save(
            self._cursor.history_id,
            listing.model_copy(
                update={
                    "page_token": page.next_page_token,
                    "pages": listing.pages + 1,
                    "listed": listing.listed + len(page.messages),
                    "complete": page.next_page_token is None,
                }
            ),
        )
        if page.next_page_token is None:
            log.info("mailbox %s: listing complete", self._mailbox.mailbox_id)

    def _in_scope(self, changes: Iterable[MessageChange]) -> Iterable[MessageChange]:
        for change in changes:
            yield change
            # Out of spam or trash: a message we may never have fetched comes into scope.
            if change.kind is ChangeKind.LABEL_REMOVED and HIDDEN_LABELS & set(change.label_ids):
                yield change.model_copy(update={"kind": ChangeKind.UPSERT, "label_ids": ()})

    async def _emit(self, topic: str, changes: Iterable[MessageChange]) -> None:
        records = [Send(topic, change.mailbox_id, change.encode()) for change in changes]
        if records:
            await self._producer.send(records)
            source_events_counter.labels(topic=topic).inc(len(records))

    async def _save(self, history_id: int, listing: Listing) -> None:
        cursor = Cursor(
            mailbox_id=self._mailbox.mailbox_id,
            epoch=self._mailbox.epoch,
            history_id=history_id,
            listing=listing,
            updated_at=now_milliseconds(),
        )
        await self._producer.send([Send(topics.CURSORS.name, cursor.mailbox_id, cursor.encode())])
        self._cursor = cursor


class _Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Which partitions, and so which mailboxes, are ours."""

    def __init__(self) -> None:
        self.partitions: frozenset[int] = frozenset()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        self.partitions = frozenset()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self.partitions = frozenset(tp.partition for tp in assigned)


class SourceConnector:
    """Runs a ``MailboxSync`` for every live mailbox whose partition this process was assigned.

    ``open_source`` builds the MailSource of a mailbox from its registry record and credential record.
    """

    def __init__(
        self,
        bootstrap: str,
        open_source: Callable[[MailboxRecord, bytes | None], MailSource],
        poll_seconds: float,
        *,
        use_gmail_api: bool = True,
        registry_seconds: float = 1.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._open_source = open_source
        self._poll_seconds = poll_seconds
        self._default = "gmail_api" if use_gmail_api else "imap"
        self._registry_seconds = registry_seconds
        self._ownership = _Ownership()
        self._running: dict[str, tuple[MailboxSync, asyncio.Task[None], MailboxRecord]] = {}

    async def run(self) -> None:
        """Go on until cancelled. Raises UnavailableError when Kafka stays away."""
        async with (
            Producer(self._bootstrap) as producer,
            Table.open(self._bootstrap, topics.MAILBOXES.name) as registry,
            Table.open(self._bootstrap, topics.CURSORS.name) as cursors,
            consumer(
                self._bootstrap,
                group_id=GROUP,
                enable_auto_commit=False,
                auto_offset_reset="latest",
                session_timeout_ms=12_000,
                heartbeat_interval_ms=3_000,
            ) as requests,
        ):
            requests.subscribe([topics.SYNC_REQUESTS.name], listener=self._ownership)
            partitions = await producer.partitions(topics.SYNC_REQUESTS.name)
            try:
                while True:
                    await self._take_requests(requests)
                    await registry.catch_up()
                    await self._balance(registry, cursors, producer, partitions)
            finally:
                await self._stop(list(self._running))

    async def _take_requests(self, requests: AIOKafkaConsumer) -> None:
        # The poll also carries the group's rebalances and paces this loop.
        batches = await requests.getmany(timeout_ms=int(self._registry_seconds * 1000))
        for records in batches.values():
            for record in records:
                running = self._running.get((record.key or b"").decode())
                if running is not None:
                    running[0].wake()
        if batches:
            # A request is only a hint here: the mailbox's owner polls unasked as well.
            await requests.commit()

    async def _balance(self, registry: Table, cursors: Table, producer: Producer, partitions: int) -> None:
        """Start what is ours and not running, stop what is not ours any more or has changed."""
        wanted = self._wanted(registry, partitions)
        await self._stop(
            [
                mailbox_id
                for mailbox_id, (_, _, record) in self._running.items()
                if wanted.get(mailbox_id) != record
            ]
        )
        starting = [mailbox_id for mailbox_id in wanted if mailbox_id not in self._running]
        if starting:
            await cursors.catch_up()
        for mailbox_id in starting:
            record = wanted[mailbox_id]
            value = cursors.values.get(mailbox_id)
            credential = registry.values.get(f"{mailbox_id}/credential")
            try:
                source = self._open_source(record, credential)
            except MailstreamError as error:
                await self._park(producer, record, error)
                continue
            sync = MailboxSync(
                record, Cursor.decode(value) if value else None, source, producer, self._poll_seconds
            )
            self._running[mailbox_id] = (sync, asyncio.create_task(sync.run()), record)
        for _, task, record in list(self._running.values()):
            if task.done():
                await self._ended(producer, record, task)

    def _wanted(self, registry: Table, partitions: int) -> dict[str, MailboxRecord]:
        records = {
            key: MailboxRecord.decode(value) for key, value in registry.values.items() if "/" not in key
        }
        return {
            mailbox_id: record
            for mailbox_id, record in records.items()
            if record.state is MailboxState.LIVE
            and (record.source or self._default) != "imap"
            and partition_for(mailbox_id, partitions) in self._ownership.partitions
        }

    async def _ended(self, producer: Producer, record: MailboxRecord, task: asyncio.Task[None]) -> None:
        """A mailbox's loop has stopped: for a refusal it is parked, for a fault of ours the process stops."""
        self._running.pop(record.mailbox_id)
        error = task.exception()
        if not isinstance(error, MailstreamError):
            raise error or RuntimeError("a mailbox's loop ended by itself")
        await self._park(producer, record, error)

    async def _park(self, producer: Producer, record: MailboxRecord, error: BaseException) -> None:
        log.error("mailbox %s is parked: %s", record.mailbox_id, error)
        parked = record.model_copy(
            update={"state": MailboxState.PARKED, "state_reason": type(error).__name__}
        )
        await producer.send([Send(topics.MAILBOXES.name, record.mailbox_id, parked.encode())])

    async def _stop(self, mailbox_ids: list[str]) -> None:
        tasks = [self._running.pop(mailbox_id)[1] for mailbox_id in mailbox_ids]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
