"""``mailstream mailbox``: the registry of mailboxes."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from cli.policies import policies, policy_options
from cli.running import vault
from cli.settings import Settings, settings
from connectors.errors import ConfigurationError
from connectors.kafka import Producer, Send, read_table
from schemas import topics
from schemas.events import MailboxRecord, MailboxState, credential_key
from schemas.identity import new_mailbox_id

REMOVED = "removed"


@click.group()
def mailbox() -> None:
    """Add, change, list, remove and purge mailboxes.

    Example: mailstream mailbox add anna@example.com --credentials token.json
    """


@mailbox.command()
@click.argument("address", required=False)
@click.option(
    "--credentials",
    type=click.File("r"),
    required=True,
    help="Google's JSON, of an authorized user or of a service account with delegation, or one of type imap;"
    " - is stdin.",
)
@click.option("--domain", help="Instead of ADDRESS: every user of a Workspace domain.")
@click.option("--admin", help="With --domain: the administrator whom the service account acts for.")
@click.option("--include-ou", "include_units", multiple=True, help="Only users of this unit and those below.")
@click.option("--exclude-ou", "exclude_units", multiple=True, help="No users of this unit and those below.")
@click.option("--include-group", "include_groups", multiple=True, help="Only members of this group.")
@click.option("--exclude-group", "exclude_groups", multiple=True, help="No members of this group.")
@click.option("--dry-run", is_flag=True, help="With --domain: say who would be added.")
@click.option("--id", "mailbox_id", help="Use this id instead of a random one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@policy_options
def add(
    address: str | None,
    credentials: Any,
    domain: str | None,
    admin: str | None,
    include_units: tuple[str, ...],
    exclude_units: tuple[str, ...],
    include_groups: tuple[str, ...],
    exclude_groups: tuple[str, ...],
    dry_run: bool,
    mailbox_id: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Register a mailbox, or a domain's; the source begins with it within seconds.

    Example: mailstream mailbox add --domain example.com --credentials key.json --admin boss@example.com
    """
    if (address is None) == (domain is None):
        raise click.UsageError("give an ADDRESS or --domain")
    if (domain is None) != (admin is None):
        raise click.UsageError("--domain and --admin go together")
    chosen = (*include_units, *exclude_units, *include_groups, *exclude_groups)
    if domain is None and (chosen or dry_run):
        raise click.UsageError("units, groups and --dry-run go with --domain")
    fields, info, config = policies(**options), read_json(credentials), settings()
    if address is not None:
        record = asyncio.run(register_address(config, address, info, fields, mailbox_id))
        click.echo(json.dumps({"mailbox_id": record.mailbox_id}) if as_json else record.mailbox_id)
        return
    from connectors.gmail.directory import Choice, Directory

    assert domain is not None
    assert admin is not None
    directory = Directory(
        info, admin, config.gmail_api_endpoint, with_groups=bool(include_groups or exclude_groups)
    )
    users = directory.users(domain, Choice(include_units, exclude_units, include_groups, exclude_groups))
    known = {record.address.lower() for record in asyncio.run(registered(config)) if _is_there(record)}
    ends = {
        user.address: user.left_out or ("registered already" if user.address in known else None)
        for user in users
    }
    for found in [name for name, reason in ends.items() if reason is None and not dry_run]:
        asyncio.run(register_address(config, found, info, fields))
    if as_json:
        skipped = {name: reason for name, reason in ends.items() if reason}
        click.echo(json.dumps({"added": [name for name in ends if name not in skipped], "skipped": skipped}))
        return
    for found, reason in ends.items():
        click.echo(f"{'skipped' if reason else 'to add' if dry_run else 'added':8}{found}  {reason or ''}")


def read_json(file: Any) -> dict[str, Any]:
    """A JSON object from a file that a command was given. Raises click.UsageError."""
    try:
        info = json.load(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name} is no JSON: {error}") from error
    if not isinstance(info, dict):
        raise click.UsageError(f"{file.name} is no JSON object")
    return info


async def register_address(
    config: Settings,
    address: str,
    credentials: dict[str, Any],
    fields: dict[str, Any],
    mailbox_id: str | None = None,
) -> MailboxRecord:
    """Register an address, or give the mailbox that has it new credentials and the policies named.

    One that was removed begins a new epoch: what is indexed of it is superseded, whatever its version.
    """
    records = await registered(config)
    known = [record for record in records if record.address.lower() == address.lower()]
    # A purged mailbox has no address; its id may be used again, in an epoch above what was purged.
    purged = [record for record in records if record.mailbox_id == mailbox_id]
    if not known and any(_is_there(record) for record in purged):
        raise ConfigurationError(f"another mailbox has the id {mailbox_id}")
    if not known and purged:
        fields = {"epoch": purged[0].epoch + 1, "purged_below": purged[0].purged_below, **fields}
    if not known:
        record = MailboxRecord(mailbox_id=mailbox_id or new_mailbox_id(), address=address, **fields)
    else:
        epoch = known[0].epoch + (0 if _is_there(known[0]) else 1)
        again = {"state": MailboxState.LIVE, "state_reason": None, "epoch": epoch, **fields}
        record = known[0].model_copy(update=again)
    await register(config, [(record, credentials)])
    return record


def _is_there(record: MailboxRecord) -> bool:
    return record.state is not MailboxState.PURGED and record.state_reason != REMOVED


async def register(config: Settings, mailboxes: Iterable[tuple[MailboxRecord, dict[str, Any]]]) -> None:
    """Write mailboxes and their sealed credentials to the registry."""
    safe, sends = vault(config), []
    for record, credentials in mailboxes:
        sealed = safe.seal(record.mailbox_id, credentials)
        # The credentials first: a mailbox that is seen can be opened.
        sends.append(Send.event(topics.MAILBOXES.name, credential_key(record.mailbox_id), sealed))
        sends.append(Send.event(topics.MAILBOXES.name, record.mailbox_id, record))
    await _write(config, sends)


async def _write(config: Settings, sends: Sequence[Send]) -> None:
    async with Producer(config.kafka) as producer:
        await producer.send(sends)


@mailbox.command(name="set")
@click.argument("name", metavar="MAILBOX")
@policy_options
def set_policies(name: str, **options: Any) -> None:
    """Change how a mailbox is read. MAILBOX is an id or an address.

    Example: mailstream mailbox set anna@example.com --deletions keep --keep-days 30
    """
    fields = policies(**options)
    if not fields:
        raise click.UsageError("name something to change")
    config = settings()
    record = find_mailbox(config, name)
    default = "gmail_api" if config.use_gmail_api else "imap"
    ways = {(source or default) == "imap" for source in (record.source, fields.get("source", record.source))}
    if len(ways) > 1:  # versions of the one way mean nothing to the other
        fields["epoch"] = record.epoch + 1
    _change(record, fields)
    click.echo("changed")


@mailbox.command()
@click.argument("name", metavar="MAILBOX")
def park(name: str) -> None:
    """Stop reading a mailbox for now. MAILBOX is an id or an address.

    Example: mailstream mailbox park anna@example.com
    """
    _change(find_mailbox(settings(), name), {"state": MailboxState.PARKED, "state_reason": "parked"})
    click.echo("parked")


@mailbox.command()
@click.argument("name", metavar="MAILBOX")
def unpark(name: str) -> None:
    """Go on with a mailbox where it stopped. MAILBOX is an id or an address.

    Example: mailstream mailbox unpark anna@example.com
    """
    record = find_mailbox(settings(), name)
    if not _is_there(record):
        raise ConfigurationError(f"{name} was removed: add it again, with credentials")
    _change(record, {"state": MailboxState.LIVE, "state_reason": None})
    click.echo("live")


def _change(record: MailboxRecord, fields: dict[str, Any]) -> None:
    changed = record.model_copy(update=fields)
    asyncio.run(_write(settings(), [Send.event(topics.MAILBOXES.name, record.mailbox_id, changed)]))


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
            click.echo(f"{record.mailbox_id}  {record.state}{reason}  {_policy(record)}  {record.address}")


def _policy(record: MailboxRecord) -> str:
    deletions = record.deletions + (f" {record.keep_days} days" if record.keep_days else "")
    parts = [record.source or "default source", f"deletions: {deletions}"]
    if record.include_labels:
        parts.append(f"only {','.join(record.include_labels)}")
    if record.exclude_labels:
        parts.append(f"without {','.join(record.exclude_labels)}")
    if record.query:
        parts.append(f"query: {record.query}")
    return "; ".join(parts)


async def registered(config: Settings) -> list[MailboxRecord]:
    """The registry's mailboxes, ordered by address."""
    table = await read_table(config.kafka, topics.MAILBOXES.name)
    records = [MailboxRecord.decode(value) for key, value in table.items() if "/" not in key]
    return sorted(records, key=lambda record: record.address)


def find_mailbox(config: Settings, name: str, *, with_purged: bool = False) -> MailboxRecord:
    """The mailbox with that id or address. Raises ConfigurationError where none or several have it."""
    known = [record for record in asyncio.run(registered(config)) if name]
    purged = [record for record in known if record.state is MailboxState.PURGED and record.mailbox_id == name]
    if purged and not with_purged:
        raise ConfigurationError(f"mailbox {name} was purged")
    found = [record for record in known if name in (record.mailbox_id, record.address)]
    found = found or [record for record in known if record.address.lower() == name.lower()]
    if len(found) != 1:
        which = "no mailbox has" if not found else "several mailboxes have"
        raise ConfigurationError(f"{which} the id or address {name}: see `mailstream mailbox list`")
    return found[0]


@mailbox.command()
@click.argument("name", metavar="MAILBOX")
@click.option("--message", "message_id", help="Only this message, by Gmail's id; the mailbox goes on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=float,
    default=120.0,
    show_default=True,
    help="Seconds that the index worker has.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as one JSON object.")
def purge(name: str, message_id: str | None, yes: bool, timeout_seconds: float, as_json: bool) -> None:
    """Remove a mailbox, or one message, from index, topics and caches for good; prints a receipt.

    Safe to repeat, and to be repeated where it was interrupted. Exit code 1: not finished, give it again.
    MAILBOX is an id or an address (a purged mailbox has its id only).

    Example: mailstream mailbox purge anna@example.com --message 18c2a9f03d5b7e61
    """
    from cli.purge import purged, show

    config = settings()
    record = find_mailbox(config, name, with_purged=message_id is None)
    what = f"message {message_id} of it" if message_id else "everything of it"
    if not yes:
        click.confirm(f"mailbox {record.mailbox_id}: remove {what}, for good?", abort=True, err=True)
    receipt = asyncio.run(purged(config, record, message_id, timeout_seconds))
    show(receipt, as_json=as_json)
    raise SystemExit(0 if receipt.complete else 1)


@mailbox.command()
@click.argument("name", metavar="MAILBOX")
def remove(name: str) -> None:
    """Stop reading a mailbox and forget its credentials. What is indexed stays.

    MAILBOX is an id or an address.

    Example: mailstream mailbox remove anna@example.com
    """
    record = find_mailbox(settings(), name)
    parked = record.model_copy(update={"state": MailboxState.PARKED, "state_reason": REMOVED})
    asyncio.run(
        _write(
            settings(),
            [
                Send.event(topics.MAILBOXES.name, record.mailbox_id, parked),
                Send(topics.MAILBOXES.name, credential_key(record.mailbox_id), None),
            ],
        )
    )
    click.echo("removed")
