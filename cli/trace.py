"""``mailstream trace``: why is this mail not found."""

import asyncio
import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table as Grid

from cli.mailbox import find_mailbox
from cli.settings import Settings, settings
from connectors.elasticsearch import Index
from connectors.lag import LagMeter
from schemas.events import MailboxRecord, second_of
from streams.trace import Trace, find_message
from streams.trace import trace as traced


@click.command()
@click.argument("mailbox")
@click.argument("message_id", metavar="MESSAGE_ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def trace(mailbox: str, message_id: str, as_json: bool) -> None:
    """Say why a message is not found: where it is on its way, each step with its time.

    MAILBOX is an id or an address; MESSAGE_ID is Gmail's id, or a Message-ID header that the index knows. The
    last line is the diagnosis.

    Example: mailstream trace anna@example.com 18c2a9f03d5b7e61
    """
    config = settings()
    record = find_mailbox(config, mailbox, with_purged=True)
    found = asyncio.run(_trace(config, record, message_id))
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    grid = Grid("time", "stage", "what", "", box=None)
    for step in found.steps:
        at = second_of(step.at) if step.at else ""
        grid.add_row(at, step.stage, step.what, "waits" if step.waiting else "")
    console = Console(highlight=False)
    if found.steps:
        console.print(grid)
    console.print(found.diagnosis, soft_wrap=True)


async def _trace(config: Settings, record: MailboxRecord, name: str) -> Trace:
    async with Index.open(config.elasticsearch) as index, LagMeter.open(config.kafka) as meter:
        message_id = await find_message(index, record.mailbox_id, name)
        return await traced(config.kafka, meter, index, record, message_id)
