"""One mailbox: its history is followed, and beside that it is listed, resynced and audited.

The one rule that everything here serves: events first, confirmed by the broker, then the cursor that covers
them. The cursor may lag what was emitted, never lead it; whatever is emitted twice merges into the same
index.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

from connectors.downstream import Downstream
from connectors.errors import (
    AuthorizationError,
    FailedPreconditionError,
    HistoryExpiredError,
    MailstreamError,
    PageTokenExpiredError,
    backoff_seconds,
)
from connectors.history import Translator
from connectors.kafka import Producer, Send
from connectors.logs import about
from connectors.mail_source import MailSource
from connectors.metrics import (
    gmail_history_gap_gauge,
    gmail_sync_latency_histogram,
    source_events_counter,
    stage_seconds_histogram,
)
from connectors.reconcile import Moved
from connectors.tracing import headers, span
from connectors.walk import Walk
from schemas import topics
from schemas.events import (
    Cursor,
    Listing,
    MailboxRecord,
    MessageChange,
    SyncRequest,
    now_milliseconds,
)
from schemas.headers import Headers

log = logging.getLogger(__name__)

# What a person sees last: a failing mailbox is tried again after this long at most.
MAX_BACKOFF_SECONDS = 60.0
# A mailbox without Gmail answers FAILED_PRECONDITION for ever, a healthy one now and then.
MAX_PRECONDITION_FAILURES = 10
EVENTS_A_SEND = 500
# A push may come before the history shows its change: look again soon, this often at most.
EARLY_PUSH_SECONDS, EARLY_PUSH_POLLS = 0.25, 8
# A cursor is written this often even where nothing happens: whoever reads it sees that the mailbox is read.
HEARTBEAT_MILLISECONDS = 60_000


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """How mailboxes are synced; seconds of the wall clock."""

    poll_seconds: float = 10.0
    draft_quiet_seconds: float = 60.0
    audit_hours: float = 24.0
    audit_repair: bool = True
    estimate: Callable[[int, int], tuple[int, float, float | None]] = lambda _messages, _pages: (0, 0.0, None)


@dataclass(slots=True)
class _Hints:
    """Pushes that have come. A hint says that there may be news; it never says what."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    newest: int = 0  # the highest historyId that a push named
    published_at: int | None = None  # of the oldest push that no poll has answered
    polls: int = 0  # since that one
    headers: Headers = ()  # of that one: the trace that it began


class MailboxSync:
    """Reads one mailbox. ``chores`` are what else is to be done beside the history, now and then."""

    def __init__(
        self,
        record: MailboxRecord,
        cursor: Cursor | None,
        source: MailSource,
        producer: Producer,
        downstream: Downstream,
        partition: int,
        config: SyncConfig,
        chores: Iterable[Chore] = (),
        suppressed: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self.mailbox = record
        self._cursor = cursor if cursor is not None and cursor.epoch == record.epoch else None
        self._source = source
        self._producer = producer
        self.config = config
        self.chores = tuple(chores)
        self._hints = _Hints()
        self._history = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._moved: Moved | None = None  # in the history since a comparison began
        self.suppressed = suppressed  # the messages that were purged: no comparison brings them back
        self._walk = Walk(self, source, downstream, partition)

    @property
    def cursor(self) -> Cursor | None:
        """How far the mailbox has been read; None before the first position is known."""
        return self._cursor

    # --- what others ask -----------------------------------------------------------------------------

    def hint(self, request: SyncRequest, trace: Headers = ()) -> None:
        """Somebody has a hint that there is news. A push that names nothing new is none."""
        if request.history_id is not None:
            if request.history_id <= self._hints.newest:
                return
            self._hints.newest = request.history_id
            self._hints.polls = 0
            if self._hints.published_at is None:
                self._hints.published_at = request.requested_at
                self._hints.headers = trace
        self._hints.woken.set()

    async def record(self, request: SyncRequest) -> bool:
        """Take a request for a listing, resync or audit; returns whether it is on record now."""
        if self._cursor is None:
            return False
        if request.request_id not in {known.request_id for known in self._cursor.requests}:
            await self.save(requests=lambda cursor: (*cursor.requests, request))
        self._walk.wake()
        return True

    # --- running -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go on for ever. Raises what no retry can mend, AuthorizationError above all."""
        with about(self.mailbox.mailbox_id):
            await self._run()

    async def _run(self) -> None:
        self._source.resume(self._cursor.source_state if self._cursor is not None else None)
        await self._patiently(self.begin)
        steps = (self.follow_step, self._walk.step, self._listen)
        loops = [asyncio.create_task(self._for_ever(step)) for step in steps]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._patiently(step)

    async def _listen(self) -> None:
        """Look into the history as soon as the mailbox says that there is news."""
        await self._source.news()
        self._hints.woken.set()

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Try until it works. Raises what no retry can mend."""
        failures = preconditions = 0
        while True:
            try:
                await step()
                return
            except MailstreamError as error:
                if not error.transient:
                    raise
                preconditions = preconditions + 1 if isinstance(error, FailedPreconditionError) else 0
                if preconditions == MAX_PRECONDITION_FAILURES:
                    raise AuthorizationError(f"there is no Gmail behind this mailbox: {error}") from error
                failures += 1
                backoff = backoff_seconds(failures, MAX_BACKOFF_SECONDS, first=0.5)
                wait_seconds = max(error.retry_after_seconds or 0.0, backoff)
                log.warning(
                    "mailbox %s: %s: trying again in %.1f s", self.mailbox.mailbox_id, error, wait_seconds
                )
                await asyncio.sleep(wait_seconds)

    async def begin(self) -> None:
        """Begin with a mailbox that is new, or new in this epoch."""
        if self._cursor is None:
            await self.start(Listing(run=uuid.uuid4().hex, history_id=0, query=self.mailbox.query))

    async def start(self, listing: Listing, *, follow: bool = True, **also: Any) -> None:
        """Begin a run. The position is taken BEFORE the first page: what arrives later is in the history."""
        position = await self._source.position()
        total = position.messages if listing.query is None else None
        listing = listing.model_copy(update={"history_id": position.history_id, "total": total})
        if follow:
            also |= {
                "history_id": position.history_id,
                "source_state": position.state,
                "drafts": {},
            }
        await self.save(listing=listing, **also)
        self._walk.wake()
        units, seconds, _ = self.config.estimate(position.messages, -(-position.messages // EVENTS_A_SEND))
        log.info(
            "mailbox %s: %s of %d messages, %s: at most %d units, %s",
            *(self.mailbox.mailbox_id, listing.kind, position.messages, listing.query or "all"),
            *(units, timedelta(seconds=round(seconds))),
        )

    # --- history -------------------------------------------------------------------------------------

    async def follow_step(self) -> None:
        """Emit what is new, then wait for more: until a push, or the next poll."""
        hints = self._hints
        hints.woken.clear()
        for chore in self.chores:
            await chore.run(self)
        with stage_seconds_histogram.labels(stage="source").time():
            reached = await self.follow_history()
        early = reached < hints.newest and hints.polls < EARLY_PUSH_POLLS
        if hints.published_at is not None and not early:
            waited_seconds = (now_milliseconds() - hints.published_at) / 1000
            gmail_sync_latency_histogram.labels(lane="push").observe(max(waited_seconds, 0.0))
            hints.published_at, hints.headers = None, ()
        wait_seconds = self.config.poll_seconds
        if early:
            wait_seconds = min(wait_seconds, EARLY_PUSH_SECONDS * 2**hints.polls)
            hints.polls += 1
        else:  # what a push named and has not come by now may be invented: others count again
            hints.newest = min(hints.newest, reached)
        with suppress(TimeoutError):
            await asyncio.wait_for(hints.woken.wait(), wait_seconds)

    async def follow_history(self) -> int:
        """Emit every change since the cursor, then move the cursor; returns where it stands then.

        The new position is the one the FIRST page named: what happened while we turned the pages comes with
        the next run, be it for the second time.
        """
        async with self._history:
            assert self._cursor is not None, "a mailbox has a position before it is followed"
            start = self._cursor.history_id
            translator = Translator(
                *(self.mailbox, self.config.draft_quiet_seconds, dict(self._cursor.drafts)),
                walked=not self._cursor.listing.complete or bool(self._cursor.requests),
            )
            reached: int | None = None
            state: str | None = self._cursor.source_state
            token: str | None = None
            while True:
                try:
                    page = await self._source.history_page(start, token)
                except HistoryExpiredError:
                    await self._start_over(start)
                    return self._cursor.history_id
                except PageTokenExpiredError:
                    # From the first page again, of the same start: what comes twice does no harm.
                    token = None
                    continue
                if reached is None:
                    reached, state = page.history_id, page.state or state
                if self._moved is not None:
                    self._moved.note(page.entries)
                await self.emit(topics.CHANGES.name, translator.translate(page.entries))
                token = page.next_page_token
                if token is None:
                    break
            await self.emit(topics.CHANGES.name, translator.release())
            for chore in self.chores:
                await chore.put_off(self, translator.kept)
            gmail_history_gap_gauge.set(self.mailbox.mailbox_id, max(reached - start, 0))
            still = now_milliseconds() - self._cursor.updated_at > HEARTBEAT_MILLISECONDS
            if reached > start or translator.drafts != self._cursor.drafts or still:
                await self.save(history_id=max(reached, start), source_state=state, drafts=translator.drafts)
            return max(reached, start)

    async def _start_over(self, start: int) -> None:
        """The history does not reach back to the cursor: what we missed, only a comparison can tell."""
        log.warning("mailbox %s: history before %d is gone: resync", self.mailbox.mailbox_id, start)
        await self.start(Listing(run=uuid.uuid4().hex, kind="resync", history_id=0))

    @contextmanager
    def watching_history(self) -> Iterator[Moved]:
        """Collects the messages that the history names from now on."""
        self._moved = moved = Moved()
        try:
            yield moved
        finally:
            self._moved = None

    # --- writing -------------------------------------------------------------------------------------

    async def emit(self, topic: str, changes: Iterable[MessageChange]) -> None:
        """Send events and wait until the broker has confirmed each."""
        coming = iter(changes)
        while some := list(islice(coming, EVENTS_A_SEND)):
            await self._producer.send([self._event(topic, change) for change in some])
            source_events_counter.labels(topic=topic).inc(len(some))

    def _event(self, topic: str, change: MessageChange) -> Send:
        with span("source", self._hints.headers, change.mailbox_id, change.message_id):
            return Send.event(topic, change.mailbox_id, change, trace=headers())

    async def save(self, **update: Any) -> None:
        """Write the cursor with these fields changed. What it covers must have been confirmed before.

        A field may be a function of the cursor as it stands, for those that several tasks change.
        """
        async with self._saving:
            update["quota_units"] = self._source.quota_units
            update = {
                name: value(self._cursor) if callable(value) else value for name, value in update.items()
            }
            if self._cursor is None:
                cursor = Cursor(mailbox_id=self.mailbox.mailbox_id, epoch=self.mailbox.epoch, **update)
            else:
                cursor = self._cursor.model_copy(update={"updated_at": now_milliseconds(), **update})
            await self._producer.send([Send.event(topics.CURSORS.name, cursor.mailbox_id, cursor)])
            self._cursor = cursor


class Chore:
    """Something to be done for a mailbox now and then, beside its history. Does nothing by itself."""

    async def run(self, sync: MailboxSync) -> None:
        """Do what is due. Raises only what must stop the mailbox for now."""

    async def put_off(self, sync: MailboxSync, deletions: dict[str, int]) -> None:
        """Take note of deletions (message id to historyId) that the mailbox's policy puts off."""
