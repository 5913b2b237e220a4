"""``mailstream status``: how far every mailbox and every stage has come."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.table import Table as Grid

from cli.settings import Settings, settings
from connectors.elasticsearch import Index
from connectors.errors import ConfigurationError
from connectors.kafka import Table
from connectors.lag import LagMeter
from schemas import topics
from schemas.events import Cursor, MailboxRecord
from streams.letter_box import LetterBox

_AUDIT_FIELDS = ("missing", "stale", "labels", "kept", "finished_at")


@dataclass(slots=True)
class MailboxProgress:
    """How far a mailbox has been listed."""

    mailbox_id: str
    address: str
    state: str
    listed: int = 0
    total: int | None = None
    complete: bool = False
    history_id: int | None = None
    updated_at: int | None = None  # milliseconds
    requests: list[str] = field(default_factory=list)  # asked for, not yet done
    audit: dict[str, int] = field(default_factory=dict)  # of the last one: differences by kind, and when
    watch_expires_at: int | None = None  # milliseconds
    listing: str = "backfill"  # or resync
    quota_units: int | None = None  # left to the source when it was updated
    dead_letters: int = 0


@dataclass(slots=True)
class Status:
    """Everything at one moment. ``lag`` counts events by the stage they wait for."""

    mailboxes: list[MailboxProgress]
    lag: dict[str, int]
    dead_letters: int
    messages: int = 0
    documents: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    engines: dict[str, int] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether everything listed or asked for so far has arrived in the index."""
        listed = all(mailbox.complete and not mailbox.requests for mailbox in self.mailboxes)
        return listed and not any(self.lag.values())


class Observer:
    """Reads the status again and again over connections that stay open."""

    def __init__(
        self, registry: Table, cursors: Table, letters: LetterBox, meter: LagMeter, index: Index
    ) -> None:
        self._registry = registry
        self._cursors = cursors
        self._letters = letters
        self._meter = meter
        self._index = index

    @classmethod
    @asynccontextmanager
    async def open(cls, config: Settings) -> AsyncIterator["Observer"]:
        """An observer of the deployment that the settings name."""
        async with (
            Table.open(config.kafka, topics.MAILBOXES.name) as registry,
            Table.open(config.kafka, topics.CURSORS.name) as cursors,
            LetterBox.open(config.kafka) as letters,
            LagMeter.open(config.kafka) as meter,
            Index.open(config.elasticsearch) as index,
        ):
            yield cls(registry, cursors, letters, meter, index)

    async def status(self) -> Status:
        """The status now.

        The stages are asked in the order of the stream: what one has passed on, the next is asked for after
        it, so that no lag anywhere means that everything has arrived.
        """
        await self._registry.catch_up()
        await self._cursors.catch_up()
        mailboxes = [
            self._progress(MailboxRecord.decode(value))
            for key, value in sorted(self._registry.values.items())
            if "/" not in key
        ]
        lag = {name: await self._meter.lag(group, names) for name, (group, names) in topics.STAGES.items()}
        await self._letters.catch_up()
        letters = Counter(letter.letter.mailbox_id for letter in self._letters.waiting())
        for mailbox in mailboxes:
            mailbox.dead_letters = letters[mailbox.mailbox_id]
        status = Status(mailboxes, lag, letters.total())
        with suppress(ConfigurationError):  # no index yet: nothing has been written
            await self._count(status)
        return status

    def _progress(self, record: MailboxRecord) -> MailboxProgress:
        progress = MailboxProgress(record.mailbox_id, record.address, record.state.value)
        value = self._cursors.values.get(record.mailbox_id)
        if value is not None:
            cursor = Cursor.decode(value)
            listing, audit = cursor.listing, cursor.audit
            progress.listed, progress.total, progress.complete = (
                listing.listed,
                listing.total,
                listing.complete,
            )
            progress.history_id, progress.updated_at = cursor.history_id, cursor.updated_at
            progress.requests = [request.kind for request in cursor.requests]
            progress.watch_expires_at = cursor.watch_expires_at
            progress.listing, progress.quota_units = listing.kind, cursor.quota_units
            if audit is not None:
                progress.audit = {name: getattr(audit, name) for name in _AUDIT_FIELDS}
        return progress

    async def _count(self, status: Status) -> None:
        answer = await self._index.search(
            {
                "size": 0,
                "track_total_hits": True,
                "query": {"term": {"live": True}},
                "aggs": {
                    name: {"terms": {"field": name, "size": 50}} for name in ("kind", "outcome", "engines")
                },
            }
        )
        counts = {
            name: {bucket["key"]: bucket["doc_count"] for bucket in aggregation["buckets"]}
            for name, aggregation in answer["aggregations"].items()
        }
        status.documents = answer["hits"]["total"]["value"]
        status.messages = counts["kind"].get("message", 0)
        status.outcomes = counts["outcome"]
        status.engines = counts["engines"]

    async def refresh(self) -> None:
        """Make what was written visible to the next status."""
        await self._index.refresh()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    """Show how far every mailbox and every stage has come.

    Example: mailstream status --json
    """
    now = asyncio.run(_once(settings()))
    if as_json:
        click.echo(json.dumps(asdict(now)))
        return
    console = Console(highlight=False)
    grid = Grid("mailbox", "address", "state", "listed", "under way", "last audit", box=None)
    for mailbox in now.mailboxes:
        total = f" of {mailbox.total}" if mailbox.total is not None else ""
        listed = f"{mailbox.listed}{total}{'' if mailbox.complete else ' …'}"
        differing = [f"{n} {name}" for name, n in mailbox.audit.items() if name != "finished_at" and n]
        grid.add_row(
            mailbox.mailbox_id,
            mailbox.address,
            mailbox.state,
            listed if mailbox.updated_at is not None else "not begun",
            ", ".join(mailbox.requests),
            (", ".join(differing) or "no difference") if mailbox.audit else "",
        )
    console.print(grid)
    waiting = ", ".join(f"{count} for {stage}" for stage, count in now.lag.items())
    console.print(f"waiting: {waiting}")
    console.print(f"indexed: {now.messages} messages, {now.documents} documents")
    console.print(f"dead letters: {now.dead_letters}")


async def _once(config: Settings) -> Any:
    async with Observer.open(config) as observer:
        return await observer.status()
