"""``mailstream mailbox``: the registry of mailboxes."""

import asyncio
import json
from typing import Any

import click

from cli.running import vault
from cli.settings import Settings, settings
from connectors.errors import ConfigurationError
from connectors.kafka import Producer, Send, read_table
from connectors.vault import new_key as make_key
from schemas import topics
from schemas.events import MailboxRecord, MailboxState, credential_key
from schemas.identity import new_mailbox_id


@click.group()
def mailbox() -> None:
    """Add, list and remove mailboxes.

    Example: mailstream mailbox add anna@example.com --credentials token.json
    """


@mailbox.command(name="new-key")
def new_key() -> None:
    """Print a random CREDENTIALS_KEY.

    Example: export CREDENTIALS_KEY=$(mailstream mailbox new-key)
    """
    click.echo(make_key())


@mailbox.command()
@click.argument("address")
@click.option(
    "--credentials",
    type=click.File("r"),
    required=True,
    help="Google's JSON, of an authorized user or of a service account with delegation; - is stdin.",
)
@click.option("--include-spam-trash", is_flag=True, help="Index spam and trash too.")
@click.option("--id", "mailbox_id", help="Use this id instead of a random one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def add(
    address: str, credentials: Any, include_spam_trash: bool, mailbox_id: str | None, as_json: bool
) -> None:
    """Register a mailbox; the source begins with it within seconds.

    Example: mailstream mailbox add anna@example.com --credentials token.json
    """
    try:
        info = json.load(credentials)
    except ValueError as error:
        raise click.UsageError(f"the credentials are no JSON: {error}") from error
    record = MailboxRecord(
        mailbox_id=mailbox_id or new_mailbox_id(),
        address=address,
        **({"exclude_labels": ()} if include_spam_trash else {}),
    )
    asyncio.run(register(settings(), record, info))
    click.echo(json.dumps({"mailbox_id": record.mailbox_id}) if as_json else record.mailbox_id)


async def register(config: Settings, record: MailboxRecord, credentials: dict[str, Any]) -> None:
    """Write a mailbox and its sealed credentials to the registry."""
    sealed = vault(config).seal(record.mailbox_id, credentials)
    async with Producer(config.kafka_bootstrap) as producer:
        await producer.send(
            [
                # The credentials first: a mailbox that is seen can be opened.
                Send(topics.MAILBOXES.name, credential_key(record.mailbox_id), sealed.encode()),
                Send(topics.MAILBOXES.name, record.mailbox_id, record.encode()),
            ]
        )


@mailbox.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_mailboxes(as_json: bool) -> None:
    """Show the registered mailboxes.

    Example: mailstream mailbox list
    """
    for record in asyncio.run(registered(settings())):
        if as_json:
            click.echo(record.encode())
        else:
            reason = f" ({record.state_reason})" if record.state_reason else ""
            source = record.source or "default source"
            click.echo(f"{record.mailbox_id}  {record.state}{reason}  {source}  {record.address}")


async def registered(config: Settings) -> list[MailboxRecord]:
    """The registry's mailboxes, ordered by address."""
    table = await read_table(config.kafka_bootstrap, topics.MAILBOXES.name)
    records = [MailboxRecord.decode(value) for key, value in table.items() if "/" not in key]
    return sorted(records, key=lambda record: record.address)


def find_mailbox(config: Settings, name: str) -> MailboxRecord:
    """The mailbox with that id or address. Raises ConfigurationError where none or several have it."""
    known = asyncio.run(registered(config))
    found = [record for record in known if name in (record.mailbox_id, record.address)]
    found = found or [record for record in known if record.address.lower() == name.lower()]
    if len(found) != 1:
        which = "no mailbox has" if not found else "several mailboxes have"
        raise ConfigurationError(f"{which} the id or address {name}: see `mailstream mailbox list`")
    return found[0]


@mailbox.command()
@click.argument("mailbox_id")
def remove(mailbox_id: str) -> None:
    """Stop reading a mailbox and forget its credentials. What is indexed stays.

    Example: mailstream mailbox remove 3f1c9a…
    """
    asyncio.run(_remove(settings(), mailbox_id))
    click.echo("removed")


async def _remove(config: Settings, mailbox_id: str) -> None:
    known = {record.mailbox_id: record for record in await registered(config)}
    record = known.get(mailbox_id)
    if record is None:
        raise click.ClickException(f"no mailbox has the id {mailbox_id}: see `mailstream mailbox list`")
    parked = record.model_copy(update={"state": MailboxState.PARKED, "state_reason": "removed"})
    async with Producer(config.kafka_bootstrap) as producer:
        await producer.send(
            [
                Send(topics.MAILBOXES.name, mailbox_id, parked.encode()),
                Send(topics.MAILBOXES.name, credential_key(mailbox_id), None),
            ]
        )
