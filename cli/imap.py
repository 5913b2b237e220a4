"""``mailstream imap``: leave IMAP behind: compare it with the API, switch over, and back."""

from __future__ import annotations

import asyncio
import html
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from cli.cleanup import cleanup
from cli.mailbox import find_mailbox
from cli.policies import DAY
from cli.settings import Settings, settings
from connectors.errors import ConfigurationError
from connectors.kafka import Log, Producer, Send, read_partition, read_table
from schemas import topics
from schemas.events import (
    Cursor,
    LabelDirectory,
    MailboxRecord,
    MessageChange,
    Observation,
    Switch,
    labels_key,
    now_milliseconds,
)
from schemas.identity import partition_for
from schemas.registers import AnyRegister, decode_register

if TYPE_CHECKING:  # an extra: imported by those commands that need it
    from connectors.imap.comparison import Comparison

CUT_OVER = "gmail_api"
GRACE = click.option(
    "--grace",
    "grace_seconds",
    type=click.FloatRange(0),
    default=900.0,  # the names of new labels come every ten minutes
    show_default=True,
    help="Seconds after which both sides must know of a change.",
)


@click.group()
def imap() -> None:
    """Compare IMAP with the API, switch over and back, clean up what IMAP left.

    Example: mailstream imap compare anna@example.com
    """


imap.add_command(cleanup)


@imap.command(name="compare")
@click.argument("name", metavar="MAILBOX")
@click.option("--since", type=DAY, help="Only mail received on this day or later.")
@GRACE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--html", "as_html", is_flag=True, help="Print a page with a chart.")
def compare_command(
    name: str, since: datetime | None, grace_seconds: float, as_json: bool, as_html: bool
) -> None:
    """Say where a dual run's two sides differ, by day; go or no-go, with the reasons. Exit code 1: no-go.

    MAILBOX is an id or an address, whose source is dual (`mailstream mailbox set --source dual`).

    Example: mailstream imap compare anna@example.com --html > report.html
    """
    if as_json and as_html:
        raise click.UsageError("--json and --html exclude each other")
    config = settings()
    record = find_mailbox(config, name)
    since_at = int(since.replace(tzinfo=UTC).timestamp() * 1000) if since is not None else 0
    result = asyncio.run(compared(config, record, since_at, grace_seconds))
    found = result.as_dict(config.imap_compare_days)
    if as_json:
        click.echo(json.dumps(found))
    elif as_html:
        click.echo(page(found))
    else:
        _show(found)
    raise SystemExit(1 if found["reasons"] else 0)


@imap.command()
@click.argument("name", metavar="MAILBOX")
@GRACE
def recheck(name: str, grace_seconds: float) -> None:
    """Have IMAP look again at the messages that differ: what it saw may be what broke.

    Example: mailstream imap recheck anna@example.com
    """
    config = settings()
    record = find_mailbox(config, name)
    if record.source != "dual":
        raise ConfigurationError(f"{name} is in no dual run: set its source to dual")
    click.echo(f"{asyncio.run(_recheck(config, record, grace_seconds))} messages are observed again")


async def _recheck(config: Settings, record: MailboxRecord, grace_seconds: float) -> int:
    """Write down that they are gone; a change of the record has the observer read what is written."""
    result = await compared(config, record, 0, grace_seconds)
    ids = sorted({message_id for found in result.differences.values() for message_id in found})
    gone = [
        Observation(mailbox_id=record.mailbox_id, epoch=record.epoch, message_id=message_id, kind="gone")
        for message_id in ids
    ]
    again = record.model_copy(update={"rechecked_at": now_milliseconds()})
    async with Producer(config.kafka) as producer:
        await producer.send([Send.event(topics.OBSERVATIONS.name, said.mailbox_id, said) for said in gone])
        await producer.send([Send.event(topics.MAILBOXES.name, again.mailbox_id, again)])
    return len(ids)


@imap.command()
@click.argument("name", metavar="MAILBOX")
@click.option("--force", "reason", help="Switch whatever the comparison says; the reason is recorded.")
@GRACE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cutover(name: str, reason: str | None, grace_seconds: float, as_json: bool) -> None:
    """Read a mailbox by the API alone, where a dual run of IMAP_COMPARE_DAYS has found no difference.

    Safe to repeat. The mailbox begins a new epoch: it is listed from its position at that moment on, and its
    history followed from there, so nothing falls between the two.

    Example: mailstream imap cutover anna@example.com
    """
    config = settings()
    record = find_mailbox(config, name)
    if record.source == CUT_OVER and record.switches:
        _said(record, as_json, "is cut over already")
        return
    if reason is not None and not reason.strip():
        raise click.UsageError("--force takes a reason")
    against = asyncio.run(_against(config, record, grace_seconds))
    if against and reason is None:
        raise ConfigurationError(f"not switched: {'; '.join(against)}. See `mailstream imap compare`")
    _said(asyncio.run(_switch(config, record, CUT_OVER, reason, against)), as_json, "is cut over")


@imap.command()
@click.argument("name", metavar="MAILBOX")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rollback(name: str, as_json: bool) -> None:
    """Undo a cutover: read the mailbox as before. Safe to repeat; what is indexed stays.

    Example: mailstream imap rollback anna@example.com
    """
    config = settings()
    record = find_mailbox(config, name)
    if not record.switches:
        raise ConfigurationError(f"{name} was never cut over")
    last = record.switches[-1]
    if last.after != CUT_OVER or record.source != CUT_OVER:
        _said(record, as_json, "is rolled back already")
        return
    _said(asyncio.run(_switch(config, record, last.before, None, ())), as_json, "is rolled back")


async def _against(config: Settings, record: MailboxRecord, grace_seconds: float) -> tuple[str, ...]:
    if record.source != "dual":
        return ("there is no dual run: set the mailbox's source to dual",)
    result = await compared(config, record, 0, grace_seconds)
    return tuple(result.reasons(config.imap_compare_days))


async def _switch(
    config: Settings, record: MailboxRecord, after: str, reason: str | None, against: tuple[str, ...]
) -> MailboxRecord:
    """One record in the registry: it is switched, or it is not."""
    value = (await read_table(config.kafka, topics.CURSORS.name)).get(record.mailbox_id)
    before = record.source or ("gmail_api" if config.use_gmail_api else "imap")
    switch = Switch(
        before=before,
        after=after,
        epoch=record.epoch + 1,
        history_id=Cursor.decode(value).history_id if value is not None else None,
        forced=reason,
        against=against,
    )
    switched = record.model_copy(
        update={"source": after, "epoch": switch.epoch, "switches": (*record.switches, switch)}
    )
    async with Producer(config.kafka) as producer:
        await producer.send([Send.event(topics.MAILBOXES.name, switched.mailbox_id, switched)])
    return switched


def _said(record: MailboxRecord, as_json: bool, words: str) -> None:
    last = record.switches[-1]
    if as_json:
        click.echo(json.dumps({"mailbox_id": record.mailbox_id, **last.model_dump(mode="json")}))
    else:
        click.echo(f"{record.mailbox_id} {words}: {last.before} to {last.after}, epoch {last.epoch}")


# --- comparing -------------------------------------------------------------------------------------------


async def compared(
    config: Settings, record: MailboxRecord, since: int = 0, grace_seconds: float = 0.0
) -> Comparison:
    """Read what both ways have said of a mailbox, and compare. ``since`` in milliseconds."""
    try:
        from connectors.imap.comparison import compare
    except ImportError as error:
        raise ConfigurationError("this needs an extra: install mailstream[imap]") from error

    registry = await read_table(config.kafka, topics.MAILBOXES.name)
    names = registry.get(labels_key(record.mailbox_id))
    observed = await _events(config, record, topics.OBSERVATIONS, Observation)
    changes = [
        *await _events(config, record, topics.CHANGES, MessageChange),
        *await _events(config, record, topics.BACKFILL, MessageChange),
    ]
    return compare(
        record,
        observed,
        await _registers(config, record),
        changes,
        LabelDirectory.decode(names).names if names is not None else {},
        now=now_milliseconds(),
        since=since,
        grace_milliseconds=int(grace_seconds * 1000),
    )


async def _events(config: Settings, record: MailboxRecord, topic: topics.Topic, kind: Any) -> list[Any]:
    """A mailbox's events of a topic; those that cannot be read are left out."""
    async with Producer(config.kafka) as producer:
        partition = partition_for(record.mailbox_id, await producer.partitions(topic.name))
    found = []
    async for entry in read_partition(config.kafka, topic.name, partition):
        if entry.key == record.mailbox_id:
            try:
                found.append(kind.decode(entry.value or b""))
            except ValidationError:
                continue
    return found


async def _registers(config: Settings, record: MailboxRecord) -> list[AnyRegister]:
    """A mailbox's registers: they lie in all partitions, so all of the topic is read."""
    wanted = record.mailbox_id.encode()
    found = []
    async with Log.open(config.kafka, topics.DOCUMENTS.name) as log:
        async for entry in log.read():
            if entry.value is None or wanted not in entry.value:
                continue
            try:
                register = decode_register(entry.key, entry.value)
            except ValueError:
                continue  # the index worker has written a dead letter of it
            if register.mailbox_id == record.mailbox_id:
                found.append(register)
    return found


# --- showing ---------------------------------------------------------------------------------------------

_COLUMNS = (
    "observed",
    "differences",
    "api_events",
    "api_seconds",
    "imap_seconds",
    "api_requests",
    "imap_requests",
    "api_bytes",
    "imap_bytes",
)


def _show(found: dict[str, Any]) -> None:
    click.echo(f"{found['verdict']}: {found['messages']} messages compared over {found['days']:.2f} days")
    for reason in found["reasons"]:
        click.echo(f"  {reason}")
    for kind, ids in found["sample"].items():
        click.echo(f"{kind}: {', '.join(ids)}")
    click.echo(f"{'day':12}" + "".join(f"{name:>15}" for name in _COLUMNS))
    for day, counts in found["by_day"].items():
        click.echo(f"{day:12}" + "".join(f"{_cell(counts[name]):>15}" for name in _COLUMNS))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def page(found: dict[str, Any]) -> str:
    """The report as one page that needs nothing else: verdict, chart, days, ids."""
    rows = "".join(
        f"<tr><th>{day}</th>" + "".join(f"<td>{_cell(counts[name])}</td>" for name in _COLUMNS) + "</tr>"
        for day, counts in found["by_day"].items()
    )
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in found["reasons"])
    samples = "".join(
        f"<h3>{kind}</h3><p>{html.escape(', '.join(ids))}</p>" for kind, ids in found["sample"].items()
    )
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in _COLUMNS)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>IMAP and API compared</title>'
        "<style>body{font:16px sans-serif;margin:2em auto;max-width:60em}td,th{padding:.2em .7em;"
        "text-align:right}.go{color:#176b2c}.no-go{color:#a11}</style>"
        f"<h1>Mailbox {html.escape(found['mailbox_id'])}: "
        f'<span class="{found["verdict"]}">{found["verdict"]}</span></h1>'
        f"<p>{found['messages']} messages compared over {found['days']:.2f} days.</p><ul>{reasons}</ul>"
        f"{_chart(found['by_day'])}<table><tr><th>day</th>{head}</tr>{rows}</table>{samples}</html>"
    )


def _chart(by_day: dict[str, dict[str, Any]]) -> str:
    """Bars by day: how late the API was and how late IMAP was (medians), and the number of differences."""
    width, height = 90, 160
    late = [counts[name] or 0.0 for counts in by_day.values() for name in ("api_seconds", "imap_seconds")]
    top = max(late, default=0.0) or 1.0
    bars = ""
    for number, (day, counts) in enumerate(by_day.items()):
        for place, (name, colour) in enumerate((("api_seconds", "#2a6fb0"), ("imap_seconds", "#c98a1b"))):
            tall = (counts[name] or 0.0) / top * height
            bars += (
                f'<rect x="{number * width + 10 + place * 30}" y="{20 + height - tall:.1f}" width="26"'
                f' height="{tall:.1f}" fill="{colour}"><title>{name}: {_cell(counts[name])}</title></rect>'
            )
        bars += f'<text x="{number * width + 10}" y="{height + 36}" font-size="11">{day[5:]}</text>'
        if counts["differences"]:
            bars += f'<text x="{number * width + 40}" y="14" fill="#a11">{counts["differences"]}</text>'
    span = max(len(by_day), 1) * width
    return (
        f'<figure><svg role="img" aria-label="latency by day" width="{span}" height="{height + 44}">'
        f"{bars}</svg>"
        "<figcaption>Seconds until a new mail was known (blue: API, yellow: IMAP; the highest bar is"
        f" {top:.1f} s), and in red how many messages differ.</figcaption></figure>"
    )
