"""``mailstream reprocess``: what a better engine or newer signatures should see again is queued for them.

Commands do not call Gmail: the slow worker does, inside the mailboxes' quota.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from cli.mailbox import find_mailbox
from cli.running import gmail_quota
from cli.settings import Settings, settings
from connectors.elasticsearch import Index
from connectors.gmail.quota import Quota
from connectors.kafka import Producer, Send, read_table
from schemas import topics
from schemas.events import Deferred, MailboxRecord, MailboxState
from schemas.identity import MESSAGE_PATH, document_id
from schemas.outcomes import Outcome, Scan
from streams.message import RAW_BYTES

ENDS = sorted({item.value for item in (*Outcome, *Scan)})
# Above this a person is asked first: two minutes of one mailbox's quota.
LARGE_UNITS = 10_000
_BATCH_MESSAGES = 200


@dataclass(slots=True)
class Estimate:
    """What reading it again asks of Gmail. ``seconds`` None: nobody limits it."""

    documents: int = 0
    messages: int = 0
    mailboxes: int = 0
    units: int = 0
    seconds: float | None = None
    left_out: int = 0  # documents of mailboxes that are not live
    queued: int = 0  # messages


@dataclass(slots=True)
class _Found:
    """Documents of one message that are to be read again."""

    mailbox: MailboxRecord
    message_id: str
    documents: int = 0
    parts: dict[str, int] = field(default_factory=dict)  # path: the verdict that stands

    def ids(self) -> list[str]:
        paths = {MESSAGE_PATH, *self.parts}
        return [document_id(self.mailbox.mailbox_id, self.message_id, path) for path in sorted(paths)]


def _ends(_: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (value or "").split(",") if name.strip())
    unknown = [name for name in names if name not in ENDS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(ENDS)}", param=option)
    return names


@click.command()
@click.option("--outcome", "ends", callback=_ends, metavar="O,...", help="What ended so, or was scanned so.")
@click.option("--engine-before", type=click.IntRange(min=1), help="What an engine before this version read.")
@click.option("--mailbox", help="Only this mailbox's, by id or address.")
@click.option("--dry-run", is_flag=True, help="Count, say what it would cost, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask, however much it costs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reprocess(
    ends: tuple[str, ...],
    engine_before: int | None,
    mailbox: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Read attachments and messages again that a better engine, or newer signatures, should see.

    What is read replaces what stands where it is better: a text replaces a timeout, never the other way. With
    both options, what fits both is read.

    Example: mailstream reprocess --outcome timed_out,unscanned --dry-run
    """
    if not ends and engine_before is None:
        raise click.UsageError("say what: --outcome or --engine-before")
    config = settings()
    only = find_mailbox(config, mailbox) if mailbox is not None else None
    query = _query(ends, engine_before, only)
    console = Console(stderr=True, highlight=False)
    estimate = asyncio.run(_estimate(config, query, console))
    console.print(described(estimate))
    if estimate.left_out:
        console.print(f"left out: {estimate.left_out:,} documents of mailboxes that are not live")
    if estimate.units > LARGE_UNITS and sys.stdin.isatty() and not (yes or dry_run):
        click.confirm("Queue it?", abort=True, err=True)
    if not dry_run and estimate.messages:
        asyncio.run(_queue(config, query, estimate, console))
        console.print(f"queued: {estimate.queued:,} messages; `mailstream status` shows how far it is")
    if as_json:
        click.echo(json.dumps(asdict(estimate)))


def described(estimate: Estimate) -> str:
    """The estimate as a person reads it: 12 documents in 9 messages of 2 mailboxes: 180 units, 1 min."""
    if not estimate.documents:
        return "nothing is to be read again"
    what = (
        f"{estimate.documents:,} documents in {estimate.messages:,} messages of {estimate.mailboxes:,}"
        f" mailboxes: {estimate.units:,} units"
    )
    if estimate.seconds is None:
        return f"{what}, without a limit"
    minutes = max(round(estimate.seconds / 60), 1)
    return f"{what}, {f'{minutes // 60} h ' if minutes >= 60 else ''}{minutes % 60} min"


def _query(ends: Sequence[str], engine_before: int | None, only: MailboxRecord | None) -> dict[str, Any]:
    filters: list[dict[str, Any]] = [{"term": {"live": True}}]
    if ends:
        either = [{"terms": {"outcome": ends}}, {"terms": {"scan": ends}}]
        filters.append({"bool": {"should": either, "minimum_should_match": 1}})
    if engine_before is not None:
        # What was indexed before versions were is older than any.
        older = [
            {"range": {"engine_version": {"lt": engine_before}}},
            {"bool": {"must_not": {"exists": {"field": "engine_version"}}}},
        ]
        filters.append({"bool": {"should": older, "minimum_should_match": 1}})
    if only is not None:
        filters.append({"term": {"mailbox_id": only.mailbox_id}})
    return {"bool": {"filter": filters}}


async def _estimate(config: Settings, query: Mapping[str, Any], console: Console) -> Estimate:
    quota = gmail_quota(config, config.gmail_slow_share)
    estimate = Estimate()
    units: dict[str, int] = {}
    async for work, documents in _work(config, query, console):
        estimate.documents += documents
        estimate.messages += 1
        units[work.mailbox_id] = units.get(work.mailbox_id, 0) + units_of(work, quota)
    estimate.mailboxes, estimate.units = len(units), sum(units.values())
    async with Index.open(config.elasticsearch) as index:
        estimate.left_out = max(await index.count(query) - estimate.documents, 0)
    # Mailboxes are read side by side: the one with the most to read ends last.
    per_minute = quota.limits.mailbox_units_per_minute * quota.share
    if per_minute != float("inf"):
        estimate.seconds = max(units.values(), default=0) / per_minute * 60
    return estimate


def units_of(work: Deferred, quota: Quota) -> int:
    """What Gmail charges for a message whose parts are read again: one fetch brings them all, where it is
    small; else each attachment is fetched too."""
    attachments = len(work.parts.keys() - {MESSAGE_PATH}) if work.fetch == "full" else 0
    return quota.costs["messages.get"] + attachments * quota.costs["attachments.get"]


async def _queue(config: Settings, query: Mapping[str, Any], estimate: Estimate, console: Console) -> None:
    batch: list[Send] = []
    async with Producer(config.kafka) as producer:
        async for work, _ in _work(config, query, console, estimate.messages):
            key = document_id(work.mailbox_id, work.message_id)
            batch.append(Send.event(topics.DEFERRED.name, key, work))
            estimate.queued += 1
            if len(batch) >= _BATCH_MESSAGES:
                await producer.send(batch)
                batch = []
        await producer.send(batch)


async def _work(
    config: Settings, query: Mapping[str, Any], console: Console, total: int | None = None
) -> AsyncIterator[tuple[Deferred, int]]:
    """What to do for each message, and for how many of its documents."""
    records = {
        key: MailboxRecord.decode(value)
        for key, value in (await read_table(config.kafka, topics.MAILBOXES.name)).items()
        if "/" not in key
    }
    wanted = {key: record for key, record in records.items() if record.state is MailboxState.LIVE}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("counting" if total is None else "queueing", total=total)
        async with Index.open(config.elasticsearch) as index:
            batch: list[_Found] = []
            async for found in _found(index, query, wanted):
                batch.append(found)
                if len(batch) == _BATCH_MESSAGES:
                    for item in await _deferred(index, batch):
                        yield item
                    progress.advance(task, len(batch))
                    batch = []
            for item in await _deferred(index, batch):
                yield item


async def _found(
    index: Index, query: Mapping[str, Any], wanted: Mapping[str, MailboxRecord]
) -> AsyncIterator[_Found]:
    """The documents that match, by message. What an attachment holds is read with the attachment."""
    found: _Found | None = None
    async for document in index.scan(query, ["mailbox_id", "message_id", "part_path"]):
        mailbox = wanted.get(document["mailbox_id"])
        if mailbox is None:
            continue
        owner = (document["mailbox_id"], document["message_id"])
        if found is None or owner != (found.mailbox.mailbox_id, found.message_id):
            if found is not None:
                yield found
            found = _Found(mailbox, document["message_id"])
        found.documents += 1
        found.parts[document["part_path"].partition("/")[0]] = 0
    if found is not None:
        yield found


async def _deferred(index: Index, batch: Sequence[_Found]) -> list[tuple[Deferred, int]]:
    ids = [document for found in batch for document in found.ids()]
    stored = await index.read(ids, ["size_bytes", "registers.content"])
    result = []
    for found in batch:
        mailbox, message_id = found.mailbox, found.message_id
        message = stored.get(document_id(mailbox.mailbox_id, message_id))
        size_bytes = message.source.get("size_bytes") if message is not None else None
        for path in found.parts:
            part = stored.get(document_id(mailbox.mailbox_id, message_id, path))
            version = (part.source.get("registers") or {}).get("content") or {} if part is not None else {}
            if path != MESSAGE_PATH and version.get("epoch") == mailbox.epoch:
                found.parts[path] = version.get("verdict", 0)
        work = Deferred(
            mailbox_id=mailbox.mailbox_id,
            message_id=message_id,
            epoch=mailbox.epoch,
            reason="reprocess",
            parts=found.parts,
            fetch="raw" if (size_bytes or RAW_BYTES) < RAW_BYTES else "full",
        )
        result.append((work, found.documents))
    return result
