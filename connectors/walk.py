"""One walk through a mailbox after the other: backfills, resyncs, audits, and what else is asked for."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from connectors.downstream import Downstream
from connectors.errors import PageTokenExpiredError
from connectors.mail_source import MailSource
from connectors.metrics import source_audit_gauge
from connectors.reconcile import Differences, Snapshot, list_ids
from schemas import topics
from schemas.events import (
    AuditReport,
    ChangeKind,
    Cursor,
    Estimate,
    Listing,
    MessageChange,
    SyncRequest,
    now_milliseconds,
)
from schemas.identity import hashed

if TYPE_CHECKING:
    from connectors.mailbox_sync import MailboxSync

log = logging.getLogger(__name__)

# Messages that a page of a listing names at most.
PAGE_MESSAGES = 500
_IDLE_SECONDS = 60.0


class Walk:
    """Does what is in the cursor, a step at a time, so that a crash repeats a step and skips none."""

    def __init__(self, sync: MailboxSync, source: MailSource, downstream: Downstream, partition: int) -> None:
        self._sync = sync
        self._mailbox = sync.mailbox
        self._config = sync.config
        self._source = source
        self._downstream = downstream
        self._partition = partition
        self._work = asyncio.Event()
        # Of which run: the ids to be fetched raw, and those that need no further event.
        self._raw: tuple[str, set[str]] | None = None
        self._emitted: tuple[str, set[str]] | None = None

    def wake(self) -> None:
        """There may be something to do."""
        self._work.set()

    @property
    def _cursor(self) -> Cursor:
        assert self._sync.cursor is not None, "a mailbox has a position before it is walked"
        return self._sync.cursor

    async def step(self) -> None:
        """One page of a listing, one resync, or one request; waits where there is nothing to do."""
        cursor = self._cursor
        self._work.clear()
        if not cursor.listing.complete:
            await (
                self._list_one_page() if cursor.listing.kind == "backfill" else self._resync(cursor.listing)
            )
        elif cursor.requests:
            await self._answer(cursor.requests[0])
        elif self._audit_is_due(cursor.audit):
            await self._sync.save(requests=(self._own_audit("scheduled"),))
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), _IDLE_SECONDS)

    async def _list_one_page(self) -> None:
        """Emit one page of the listing as upserts, then move the cursor."""
        listing = self._cursor.listing
        try:
            raw = await self._raw_ids(listing)
            emitted = await self._emitted_ids(listing)
            page = await self._source.list_page(
                listing.page_token,
                query=listing.query,
                include_spam_trash=not {"SPAM", "TRASH"} <= set(self._mailbox.exclude_labels),
            )
        except PageTokenExpiredError:
            # From the start again, from the same H0; what was emitted before is not fetched twice.
            log.warning("mailbox %s: the page token is stale, listing again", self._mailbox.mailbox_id)
            restart = Listing(
                run=uuid.uuid4().hex,
                history_id=listing.history_id,
                query=listing.query,
                total=listing.total,
                relisted=True,
            )
            await self._advance(listing, restart.model_dump())
            return
        await self._sync.emit(
            topics.BACKFILL.name,
            (
                MessageChange(
                    mailbox_id=self._mailbox.mailbox_id,
                    epoch=self._mailbox.epoch,
                    kind=ChangeKind.UPSERT,
                    message_id=message_id,
                    thread_id=thread_id,
                    history_id=listing.history_id,
                    fetch="raw" if message_id in raw else "full",
                    origin="listing",
                )
                for message_id, thread_id in page.messages
                if message_id not in emitted
            ),
        )
        done = page.next_page_token is None
        await self._advance(
            listing,
            {
                "page_token": page.next_page_token,
                "pages": listing.pages + 1,
                "listed": listing.listed + len(page.messages),
                "complete": done,
            },
        )
        if done:
            log.info("mailbox %s: listing complete", self._mailbox.mailbox_id)

    async def _advance(self, listing: Listing, update: dict[str, Any]) -> None:
        """Move a listing on, unless another has taken its place. A complete one ends in an audit."""
        moved = listing.model_copy(update=update)
        # A listing names ids only. Who follows these topics alone learns the labels here.
        audit = self._own_audit(f"after-{listing.run}", labels=listing.kind == "backfill")

        def listing_now(cursor: Cursor) -> Listing:
            return moved if cursor.listing.run == listing.run else cursor.listing

        def requests_now(cursor: Cursor) -> tuple[SyncRequest, ...]:
            ended = moved.complete and cursor.listing.run == listing.run
            return (*cursor.requests, audit) if ended else cursor.requests

        await self._sync.save(listing=listing_now, requests=requests_now)

    async def _raw_ids(self, listing: Listing) -> set[str]:
        """The ids that a raw fetch is cheaper for: it brings small attachments without a further request."""
        if self._source.raw_query is None:
            return set()
        if self._raw is None or self._raw[0] != listing.run:
            query = " ".join(filter(None, (listing.query, self._source.raw_query)))
            self._raw = (listing.run, await list_ids(self._source, query=query))
        return self._raw[1]

    async def _emitted_ids(self, listing: Listing) -> set[str]:
        """The ids that a listing which was begun again need not emit again."""
        if not listing.relisted:
            return set()
        if self._emitted is None or self._emitted[0] != listing.run:
            emitted = await self._downstream.announced(
                self._mailbox.mailbox_id, self._partition, listing.history_id
            )
            self._emitted = (listing.run, emitted)
        return self._emitted[1]

    async def _resync(self, listing: Listing) -> None:
        """Make the index equal to the mailbox. Deletes only after a complete listing, and as of its start."""
        differences = await self._compare(every_label=True, with_announced=True)
        await self._sync.emit(topics.BACKFILL.name, differences.changes(self._mailbox, "listing"))
        await self._put_off(differences)
        listed = len(differences.snapshot.labels)
        await self._advance(listing, {"listed": listed, "total": listed, "pages": 1, "complete": True})
        log.info(
            "mailbox %s: resynced: %d missing, %d stale",
            *(self._mailbox.mailbox_id, len(differences.missing), len(differences.stale)),
        )

    # --- comparing -----------------------------------------------------------------------------------

    async def _compare(self, *, every_label: bool, with_announced: bool = False) -> Differences:
        """The mailbox and the index, once everything emitted until now has arrived there.

        With ``every_label`` the labels of every message are said before. What the topics announced counts
        after a gap in the history: who follows them must hear of its end too, even where no index had it.
        """
        with self._sync.watching_history() as moved:
            snapshot = await Snapshot.take(self._source, self._mailbox)
            if every_label:
                labels = snapshot.label_changes(self._mailbox, "listing", snapshot.labels)
                await self._sync.emit(topics.BACKFILL.name, labels)
            # What arrived while we listed is in the history by now, and so has moved.
            await self._sync.follow_history()
            await self._downstream.consumed(self._partition)
            indexed = await self._downstream.messages(self._mailbox.mailbox_id)
            announced: set[str] = set()
            if with_announced:
                announced = await self._downstream.announced(self._mailbox.mailbox_id, self._partition)
            apart = self._cursor.drafts.keys() | self._sync.suppressed()
        return Differences.between(snapshot, indexed, self._mailbox, moved, apart, announced)

    async def _put_off(self, differences: Differences) -> None:
        gone = dict.fromkeys(differences.kept, differences.snapshot.history_id)
        for chore in self._sync.chores:
            await chore.put_off(self._sync, gone)

    async def _answer(self, request: SyncRequest) -> None:
        """Do what was asked, and leave the answer in the cursor."""
        listing = Listing(run=uuid.uuid4().hex, kind="backfill", history_id=0, query=request.query)
        if request.kind == "audit":
            await self._sync.save(audit=await self._audit(request), requests=_without(request))
        elif request.kind == "backfill" and request.dry_run:
            await self._sync.save(estimate=await self._estimate(request), requests=_without(request))
        elif request.kind == "backfill":
            await self._sync.start(listing, follow=False, requests=_without(request))
        else:
            again = listing.model_copy(update={"kind": "resync", "query": None})
            await self._sync.start(again, follow=False, requests=_without(request))

    async def _audit(self, request: SyncRequest) -> AuditReport:
        differences = await self._compare(every_label=request.labels)
        report = differences.report(request)
        for name in ("missing", "stale", "labels"):
            source_audit_gauge.set(self._mailbox.mailbox_id, getattr(report, name), difference=name)
        if request.repair:
            await self._sync.emit(topics.BACKFILL.name, differences.changes(self._mailbox, "audit"))
            await self._put_off(differences)
        log.info(
            "mailbox %s: audit: %d missing, %d stale, %d with other labels",
            *(self._mailbox.mailbox_id, report.missing, report.stale, report.labels),
        )
        return report

    async def _estimate(self, request: SyncRequest) -> Estimate:
        messages = len(await list_ids(self._source, query=request.query))
        pages = max(-(-messages // PAGE_MESSAGES), 1)
        units, seconds, per_minute = self._config.estimate(messages, pages)
        return Estimate(
            request_id=request.request_id,
            messages=messages,
            units=units,
            seconds=seconds,
            messages_per_minute=per_minute,
        )

    def _own_audit(self, request_id: str, *, labels: bool = False) -> SyncRequest:
        return SyncRequest(
            mailbox_id=self._mailbox.mailbox_id,
            kind="audit",
            request_id=request_id,
            repair=self._config.audit_repair,
            labels=labels,
        )

    def _audit_is_due(self, last: AuditReport | None) -> bool:
        if self._config.audit_hours == 0:
            return False
        if last is None:
            return True
        # Not all mailboxes at the same moment, and each always at its own.
        jitter = int(hashed(self._mailbox.mailbox_id)[:4], 16) / 0xFFFF * 0.2
        return now_milliseconds() - last.finished_at > self._config.audit_hours * 3_600_000 * (1 + jitter)


def _without(done: SyncRequest) -> Callable[[Cursor], tuple[SyncRequest, ...]]:
    return lambda cursor: tuple(request for request in cursor.requests if request != done)
