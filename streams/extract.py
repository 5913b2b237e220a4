"""From a change to registers: what an event asks for, and what becomes of it.

``Extract`` settles one event: labels and deletions at once, everything else through ``message``, which
fetches and extracts. Nothing here knows Faust or Elasticsearch.
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from connectors.errors import (
    AuthorizationError,
    ConfigurationError,
    MailstreamError,
    NotFoundError,
    ScannerUnavailableError,
    UnavailableError,
)
from connectors.kafka import Record
from connectors.logs import about
from connectors.metrics import gmail_sync_latency_histogram, stage_events_counter
from connectors.tracing import span
from schemas.events import (
    ChangeKind,
    Deferred,
    MailboxRecord,
    MailboxState,
    MessageChange,
    now_milliseconds,
)
from schemas.registers import AnyRegister, DeletedRegister, LabelRegister, LabelsRegister
from streams.attempts import MAX_DEATHS, Attempts, WorkerKilledError, event_of
from streams.dead_letters import DeadLetters, undecodable
from streams.documents import Documents
from streams.mailboxes import Mailboxes
from streams.message import PATIENCE_SECONDS, FetchedMessage, MessageExtractor, patiently

log = logging.getLogger(__name__)

Asked = TypeVar("Asked", MessageChange, Deferred)

# Messages of one mailbox fetched side by side, live ones and others. The parser pool and the quota are the
# real limits; this hides latency.
LIVE_IN_FLIGHT, BACKGROUND_IN_FLIGHT = 4, 8
# How long Google's "not now" is taken to mean when it names no time.
THROTTLED_MILLISECONDS = 15_000
# What waits for the malware scanner asks Gmail for nothing before the scanner answers.
SCANNER_MILLISECONDS = 30_000
# A mailbox whose credentials fail is looked at by a person; its events wait meanwhile.
PARKED_MILLISECONDS = 600_000
# What metrics and traces call the stage of a lane.
_STAGES = {"fast": "extract", "slow": "slow"}


class Extract:
    """Settles the events of the change topics and of ``mail.deferred``. ``lane`` names it in metrics."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        extractor: MessageExtractor,
        documents: Documents,
        dead_letters: DeadLetters,
        attempts: Attempts,
        lane: str,
    ) -> None:
        self._mailboxes = mailboxes
        self._extractor = extractor
        self._documents = documents
        self._dead_letters = dead_letters
        self._attempts = attempts
        self._lane = lane
        # By mailbox and lane: a throttled mailbox holds up no other, its backfill no new mail.
        self._fetches: dict[tuple[str, bool], asyncio.Semaphore] = {}

    async def handle_change(self, record: Record) -> None:
        """Settle one event of ``mail.changes`` or ``mail.backfill``. Raises only to stop the worker."""
        await self._handle(record, MessageChange, self._change)

    async def handle_deferred(self, record: Record) -> None:
        """Settle one event of ``mail.deferred``. Raises only to stop the worker."""
        await self._handle(record, Deferred, self._deferred)

    async def _handle(
        self, record: Record, kind: type[Asked], settle: Callable[[Record, Asked], Awaitable[None]]
    ) -> None:
        try:
            event = kind.decode(record.value or b"", record.headers)
        except ValueError as error:
            self._count("dead_letter")
            await self._dead_letters.write(record, undecodable(error))
            return
        with (
            about(event.mailbox_id, event.message_id),
            span(_STAGES[self._lane], record.headers, event.mailbox_id, event.message_id),
        ):
            await settle(record, event)

    async def _change(self, record: Record, change: MessageChange) -> None:
        if change.kind is ChangeKind.UPSERT:
            work = Deferred(
                mailbox_id=change.mailbox_id,
                message_id=change.message_id,
                epoch=change.epoch,
                reason="throttled",
                fetch=change.fetch,
                emitted_at=change.emitted_at,
            )
            await self._settle(record, work, background=change.origin != "history")
        elif await self._wanted(change) is not None:
            # Labels and deletions never wait for the fetches of others.
            await self._documents.send(_registers_of(change), live=change.origin == "history")
            self._done()

    async def _deferred(self, record: Record, work: Deferred) -> None:
        wait_milliseconds = _wait_milliseconds(record, work)
        here_milliseconds = min(wait_milliseconds, int(PATIENCE_SECONDS * 1000))
        if here_milliseconds > 0:
            await asyncio.sleep(here_milliseconds / 1000)
        if wait_milliseconds > here_milliseconds:
            # To the end of the queue, so that what may start now is not held up.
            await self._defer(work, wait_milliseconds - here_milliseconds)
            return
        await self._settle(record, work, background=True)

    async def _settle(self, record: Record, work: Deferred, *, background: bool) -> None:
        mailbox = await self._wanted(work)
        if mailbox is None:
            return
        if mailbox.state is MailboxState.PARKED:
            await self._defer(work, PARKED_MILLISECONDS)
            return
        fetches = self._fetches.setdefault(
            (work.mailbox_id, background),
            asyncio.Semaphore(BACKGROUND_IN_FLIGHT if background else LIVE_IN_FLIGHT),
        )
        async with fetches, self._attempts.track(event_of(record)) as deaths:
            try:
                if deaths >= MAX_DEATHS:
                    raise WorkerKilledError(deaths)
                await self._work(mailbox, work, background)
            except ScannerUnavailableError as error:
                log.warning("message %s of mailbox %s waits: %s", work.message_id, work.mailbox_id, error)
                waiting = work.model_copy(update={"reason": "unavailable"})
                await self._defer(waiting, SCANNER_MILLISECONDS)
            except UnavailableError:
                raise  # a server of ours is down: stop here, un-acked
            except NotFoundError:
                # Gone between the event and the fetch. Its deletion is in the history, and comes.
                log.info("message %s of mailbox %s is gone", work.message_id, work.mailbox_id)
                self._count("gone")
            except (AuthorizationError, ConfigurationError) as error:
                log.error("mailbox %s cannot be read: %s", work.mailbox_id, error)
                await self._defer(work, PARKED_MILLISECONDS)
            except MailstreamError as error:
                if not error.transient:
                    await self._fail(record, work, error, deaths + 1)
                else:
                    wait_seconds = error.retry_after_seconds
                    await self._defer(
                        work, int(wait_seconds * 1000) if wait_seconds else THROTTLED_MILLISECONDS
                    )
            except Exception as error:  # noqa: BLE001
                # One message's surprise must not stop the topic. Its text may stand in the error: only the
                # place in our code is written down.
                place = traceback.extract_tb(error.__traceback__)[-1]
                log.error(
                    "message %s of mailbox %s: %s in %s:%s",
                    *(work.message_id, work.mailbox_id, type(error).__name__, place.name, place.lineno),
                )
                await self._fail(record, work, error, deaths + 1)

    async def _work(self, mailbox: MailboxRecord, work: Deferred, background: bool) -> None:
        client = self._mailboxes.client(mailbox)
        if client.paused_seconds > PATIENCE_SECONDS:
            # Waiting here would only keep what is behind it from its turn.
            await self._defer(work, int(client.paused_seconds * 1000))
            return
        if work.reason == "unavailable":
            await self._extractor.require_scanner()
        message = await patiently(
            lambda: client.message(work.message_id, raw=work.fetch == "raw", background=background)
        )
        fetched = FetchedMessage(mailbox, client, message, background)
        if parts := work.parts or ({work.part_path: 0} if work.part_path else {}):
            await self._extractor.read_parts(fetched, parts)
        else:
            await self._extractor.upsert(fetched)
        latency_seconds = (now_milliseconds() - work.emitted_at) / 1000
        gmail_sync_latency_histogram.labels(lane=self._lane).observe(latency_seconds)
        self._done()

    def _done(self) -> None:
        self._dead_letters.succeeded()
        self._count("done")

    async def _defer(self, work: Deferred, wait_milliseconds: int) -> None:
        await self._documents.defer(work, wait_milliseconds)
        self._count("deferred")

    def _count(self, outcome: str) -> None:
        stage_events_counter.labels(stage=_STAGES[self._lane], outcome=outcome).inc()

    async def _fail(self, record: Record, work: Deferred, error: Exception, attempts: int) -> None:
        self._count("dead_letter")
        await self._dead_letters.write(
            record,
            error,
            mailbox_id=work.mailbox_id,
            message_id=work.message_id,
            part_path=work.part_path or None,
            attempts=attempts,
            error_class="worker_killed" if isinstance(error, WorkerKilledError) else None,
        )

    async def _wanted(self, event: MessageChange | Deferred) -> MailboxRecord | None:
        """The mailbox; None where it is unknown, purged, or in a newer epoch, or the message was purged."""
        mailbox = await self._mailboxes.record(event.mailbox_id)
        gone = mailbox is None or mailbox.state is MailboxState.PURGED or event.epoch < mailbox.epoch
        if gone or self._mailboxes.suppressed(event.mailbox_id, event.message_id):
            self._count("ignored")
            return None
        return mailbox


def _wait_milliseconds(record: Record, work: Deferred) -> int:
    """How long the work must still wait: no longer than it was to wait when it was put off, though the clock
    may have gone back since (one that was an hour ahead would hold it for an hour)."""
    written_at = record.written_at or 0
    return work.not_before - max(now_milliseconds(), written_at)


def _registers_of(change: MessageChange) -> list[AnyRegister]:
    as_of: dict[str, Any] = {
        name: getattr(change, name) for name in ("mailbox_id", "message_id", "epoch", "history_id")
    }
    label_ids = change.label_ids or ()
    if change.kind is ChangeKind.DELETE:
        return [DeletedRegister(**as_of, reason="absent" if change.origin == "audit" else "deleted")]
    if change.kind is ChangeKind.LABELS:
        return [LabelsRegister(**as_of, label_ids=label_ids)]
    present = change.kind is ChangeKind.LABEL_ADDED
    return [LabelRegister(**as_of, label_id=label_id, present=present) for label_id in label_ids]
