"""``mailstream keys``: the keys that credentials are sealed with."""

import asyncio
import json

import click

from cli.running import vault
from cli.settings import Settings, settings
from connectors.errors import ConfigurationError
from connectors.kafka import Producer, Send, read_table
from connectors.vault import new_key
from schemas import topics
from schemas.events import CredentialRecord, credential_key


@click.group()
def keys() -> None:
    """Make keys, and seal credentials with a new one.

    Example: mailstream keys rotate
    """


@keys.command()
def new() -> None:
    """Print a random key.

    Example: export CREDENTIALS_KEY=$(mailstream keys new)
    """
    click.echo(new_key())


@keys.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rotate(dry_run: bool, as_json: bool) -> None:
    """Seal every credential with the first key, whichever of the keys it was sealed with.

    Put the new key first (CREDENTIALS_KEY, or the first line of CREDENTIALS_KEY_FILE) and keep the old one in
    the file until this has been run and every process has been restarted.

    Example: mailstream keys rotate --dry-run
    """
    counts = asyncio.run(_rotate(settings(), dry_run=dry_run))
    if as_json:
        click.echo(json.dumps(counts))
    else:
        done = "to be sealed anew" if dry_run else "sealed anew"
        click.echo(f"{counts['sealed']} {done}, {counts['current']} were, {counts['lost']} no key opens")
    raise SystemExit(1 if counts["lost"] else 0)


async def _rotate(config: Settings, *, dry_run: bool) -> dict[str, int]:
    opener = vault(config)
    counts = {"sealed": 0, "current": 0, "lost": 0}
    sends = []
    suffix = credential_key("")
    for key, value in (await read_table(config.kafka, topics.MAILBOXES.name)).items():
        if not key.endswith(suffix):
            continue
        mailbox_id, record = key.removesuffix(suffix), CredentialRecord.decode(value)
        try:
            opened = opener.open(mailbox_id, record)
        except ConfigurationError as error:
            click.echo(str(error), err=True)
            counts["lost"] += 1
            continue
        if record.key_id == opener.key_id:
            counts["current"] += 1
            continue
        counts["sealed"] += 1
        sends.append(Send.event(topics.MAILBOXES.name, key, opener.seal(mailbox_id, opened)))
    if sends and not dry_run:
        async with Producer(config.kafka) as producer:
            await producer.send(sends)
    return counts
