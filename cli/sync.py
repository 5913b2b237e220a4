"""``mailstream sync`` and ``mailstream audit``: ask the source for work on a mailbox, and show its answer.

Commands do not call Gmail: the source that owns the mailbox does, inside the mailbox's quota.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.mailbox import find_mailbox
from cli.policies import DAY, gmail_query
from cli.settings import Settings, settings
from connectors.errors import MailstreamError
from connectors.kafka import Producer, Send, Table, read_table
from connectors.lag import LagMeter
from schemas import topics
from schemas.events import AuditReport, Cursor, Estimate, MailboxRecord, SyncRequest
from schemas.identity import partition_for

POLL_SECONDS = 0.5
Answer = TypeVar("Answer")


class UnansweredError(MailstreamError):
    """No source took a request in time."""


@click.command()
@click.argument("mailbox")
@click.option("--backfill", is_flag=True, help="List the mailbox, or what the options below select, again.")
@click.option("--resync", is_flag=True, help="Compare the mailbox with the index, and mend what differs.")
@click.option("--query", help="Only what Gmail's query finds: 'from:anna has:attachment'.")
@click.option("--label", "labels", multiple=True, help="Only what bears this label; may be repeated.")
@click.option("--after", type=DAY, help="Only mail from this day on.")
@click.option("--before", type=DAY, help="Only mail before this day.")
@click.option("--dry-run", is_flag=True, help="With --backfill: count, say what it would cost, and stop.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
@click.option(
    "--timeout", "timeout_seconds", type=float, default=300.0, show_default=True, help="Seconds to wait."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sync(
    mailbox: str,
    backfill: bool,
    resync: bool,
    query: str | None,
    labels: tuple[str, ...],
    after: datetime | None,
    before: datetime | None,
    dry_run: bool,
    wait: bool,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Look for news in a mailbox now, list it again, or make the index equal to it.

    MAILBOX is an id or an address.

    Example: mailstream sync anna@example.com --backfill --after 2024-01-01
    """
    named = " ".join(filter(None, (query, *(f"label:{label}" for label in labels))))
    scope = gmail_query(named, after, before)
    if backfill and resync:
        raise click.UsageError("--backfill and --resync exclude each other")
    if (scope or dry_run) and not backfill:
        raise click.UsageError("--query, --label, --after, --before and --dry-run go with --backfill")
    console = Console(stderr=as_json, highlight=False)
    config = settings()
    record = find_mailbox(config, mailbox)
    if backfill:
        answer = asyncio.run(
            _backfill(config, record, scope or None, console, timeout_seconds, dry_run=dry_run, wait=wait)
        )
    else:
        kind = "resync" if resync else "hint"
        answer = asyncio.run(
            _ask(config, record, SyncRequest(mailbox_id=record.mailbox_id, kind=kind, request_id=_id()))
        )
        console.print("asked for; `mailstream status` shows how far it is")
    if as_json:
        click.echo(json.dumps(answer))


@click.command()
@click.argument("mailbox")
@click.option("--repair", is_flag=True, help="Emit the changes that make the index equal to the mailbox.")
@click.option(
    "--timeout", "timeout_seconds", type=float, default=3600.0, show_default=True, help="Seconds to wait."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit(mailbox: str, repair: bool, timeout_seconds: float, as_json: bool) -> None:
    """Compare what Gmail holds with what the index shows: ids, and labels.

    It waits until everything that was emitted before has been indexed. Exit code 1 where something differs
    and is not repaired. MAILBOX is an id or an address.

    Example: mailstream audit anna@example.com --repair
    """
    config = settings()
    record = find_mailbox(config, mailbox)
    request = SyncRequest(mailbox_id=record.mailbox_id, kind="audit", request_id=_id(), repair=repair)
    report = asyncio.run(
        _answer(config, record, request, lambda cursor: cursor.audit, timeout_seconds=timeout_seconds)
    )
    if as_json:
        click.echo(report.encode())
    else:
        _show(report)
    raise SystemExit(0 if report.repaired or not report.differences else 1)


def _show(report: AuditReport) -> None:
    console = Console(highlight=False)
    console.print(
        f"Gmail has {report.mailbox_messages:,} messages, the index shows {report.index_messages:,}"
    )
    for name, count in (
        ("missing in the index", report.missing),
        ("gone from Gmail, still in the index", report.stale),
        ("with other labels", report.labels),
        ("gone from Gmail, kept by the mailbox's policy", report.kept),
    ):
        console.print(f"{count:>10,} {name}")
    for name, ids in report.sample.items():
        console.print(f"{name}: {', '.join(ids)}")
    if report.repaired and report.differences:
        console.print("the changes that mend this have been emitted")


async def _backfill(
    config: Settings,
    record: MailboxRecord,
    query: str | None,
    console: Console,
    timeout_seconds: float,
    *,
    dry_run: bool,
    wait: bool,
) -> dict[str, object]:
    counting = SyncRequest(
        mailbox_id=record.mailbox_id, kind="backfill", request_id=_id(), query=query, dry_run=True
    )
    estimate = await _answer(
        config, record, counting, lambda cursor: cursor.estimate, timeout_seconds=timeout_seconds
    )
    console.print(described(estimate))
    result = estimate.model_dump(exclude={"request_id"})
    if not dry_run:
        request = counting.model_copy(update={"dry_run": False, "request_id": _id()})
        run_before = await _run_of(config, record)
        await _ask(config, record, request)
        if wait:
            await _watch(config, record, estimate, run_before, console)
    return result


def described(estimate: Estimate) -> str:
    """What a backfill costs, as a person reads it: 100,000 messages: 2.0 M units, 6 h 56 min at 240/min."""
    units = f"{estimate.units / 1e6:.1f} M" if estimate.units >= 100_000 else f"{estimate.units:,}"
    minutes = int(estimate.seconds // 60)
    spent = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"
    if estimate.messages_per_minute is None:
        return f"{estimate.messages:,} messages: {units} units, without a limit"
    rate = f"{estimate.messages_per_minute:,.0f}/min"
    return f"{estimate.messages:,} messages: {units} units, {spent} at {rate}"


async def _watch(
    config: Settings, record: MailboxRecord, estimate: Estimate, run_before: str | None, console: Console
) -> None:
    """Show how far a backfill has come: what is listed, and what extract has read of it."""
    columns = (TextColumn("{task.description:<6}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with (
        Table.open(config.kafka, topics.CURSORS.name) as cursors,
        LagMeter.open(config.kafka) as meter,
    ):
        with Progress(*columns, console=console, speed_estimate_period=600) as progress:
            listed, read = (progress.add_task(name, total=estimate.messages) for name in ("listed", "read"))
            while True:
                await cursors.catch_up()
                cursor = Cursor.decode(cursors.values[record.mailbox_id])
                listing = cursor.listing
                if listing.run != run_before:
                    ends = await meter.ends([topics.BACKFILL.name])
                    partition = partition_for(record.mailbox_id, len(ends))
                    own = {tp: end for tp, end in ends.items() if tp.partition == partition}
                    behind = await meter.behind(topics.EXTRACT_GROUP, own)
                    progress.update(listed, completed=listing.listed)
                    progress.update(read, completed=max(listing.listed - behind, 0))
                    if listing.complete and not behind:
                        return
                await asyncio.sleep(POLL_SECONDS)


async def _run_of(config: Settings, record: MailboxRecord) -> str | None:
    value = (await read_table(config.kafka, topics.CURSORS.name)).get(record.mailbox_id)
    return Cursor.decode(value).listing.run if value is not None else None


async def _ask(config: Settings, record: MailboxRecord, request: SyncRequest) -> dict[str, object]:
    async with Producer(config.kafka) as producer:
        await producer.send([Send.event(topics.SYNC_REQUESTS.name, record.mailbox_id, request)])
    return {"mailbox_id": record.mailbox_id, "request_id": request.request_id}


async def _answer(
    config: Settings,
    record: MailboxRecord,
    request: SyncRequest,
    answer: Callable[[Cursor], Answer | None],
    *,
    timeout_seconds: float,
) -> Answer:
    """Ask, and wait until the mailbox's cursor has the answer. Raises UnansweredError."""
    async with Table.open(config.kafka, topics.CURSORS.name) as cursors:
        await _ask(config, record, request)
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            await cursors.catch_up()
            value = cursors.values.get(record.mailbox_id)
            found = answer(Cursor.decode(value)) if value is not None else None
            if found is not None and getattr(found, "request_id", None) == request.request_id:
                return found
            await asyncio.sleep(POLL_SECONDS)
    raise UnansweredError(
        f"no answer within {timeout_seconds:.0f} s: is `mailstream source` running, and the mailbox live?"
        " The request stands, and is answered once it is"
    )


def _id() -> str:
    return uuid.uuid4().hex
