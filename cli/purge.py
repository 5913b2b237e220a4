"""The receipt of a purge: what was removed, what expires when, what stays. Ids and counts only."""

import json
import sys
from dataclasses import asdict

import click
from rich.console import Console

from cli.settings import Settings
from schemas.events import MailboxRecord, second_of
from streams.purge import Purge, Receipt


async def purged(
    config: Settings, record: MailboxRecord, message_id: str | None, timeout_seconds: float
) -> Receipt:
    """Purge the mailbox, or only that message."""
    with Console(stderr=True).status("beginning") as shown:
        terminal = sys.stderr.isatty()
        progress = (lambda doing: shown.update(doing)) if terminal else (lambda _doing: None)
        async with Purge.open(config.kafka, config.elasticsearch, progress) as work:
            if message_id is None:
                return await work.mailbox(record, timeout_seconds)
            return await work.message(record, message_id, timeout_seconds)


def show(receipt: Receipt, *, as_json: bool) -> None:
    """Print a receipt."""
    if as_json:
        click.echo(json.dumps(asdict(receipt)))
        return
    what = f"message {receipt.message_id} of mailbox" if receipt.message_id else "mailbox"
    click.echo(f"Purged: {what} {receipt.mailbox_id}, epoch {receipt.epoch}")
    click.echo(f"from {second_of(receipt.started_at)} to {second_of(receipt.finished_at)}")
    click.echo("Removed:")
    for name, count in receipt.removed.items():
        click.echo(f"{count:>10,} {name}")
    click.echo("Gone by itself, at the latest:")
    for name, until in receipt.expires.items():
        click.echo(f"  {second_of(until)}  {name}")
    click.echo(f"Stays: {receipt.stays}")
    if receipt.in_segments:
        click.echo(f"{receipt.in_segments:,} deleted documents are in the index's files until it merges them")
    if receipt.copies:
        click.echo(
            f"NOT FINISHED: {', '.join(receipt.copies)} was not looked at; when it is dropped (`mailstream"
            " topics drop`), or has become the topic in use, purge again",
            err=True,
        )
    elif not receipt.complete:
        click.echo(
            "NOT FINISHED: the index worker has not passed what it had in hand; purge again when it has",
            err=True,
        )
