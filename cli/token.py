"""``mailstream token``: who may search which mailboxes."""

import asyncio
import json

import click
from rich.console import Console
from rich.table import Table as Grid

from cli.mailbox import find_mailbox
from cli.settings import Settings, settings
from connectors.elasticsearch.callers import Callers
from connectors.errors import ConfigurationError
from schemas.callers import CallerRecord
from schemas.events import day_of, now_milliseconds
from schemas.topics import DAY_MILLISECONDS
from search.authentication import email_caller, new_token


@click.group()
def token() -> None:
    """Create, list and revoke access to the search API.

    Example: mailstream token create "Anna's laptop" --mailbox anna@example.com
    """


@token.command()
@click.argument("name")
@click.option("--mailbox", "mailboxes", multiple=True, help="A mailbox's id or address; may be repeated.")
@click.option("--all-mailboxes", is_flag=True, help="Every mailbox, those that come later too.")
@click.option("--email", help="Who signs in with the trusted issuer under this address; no token is made.")
@click.option("--days", type=click.IntRange(1, 3650), help="Ends after that many days.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(
    name: str,
    mailboxes: tuple[str, ...],
    all_mailboxes: bool,
    email: str | None,
    days: int | None,
    as_json: bool,
) -> None:
    """Let somebody search. The token is shown once and kept nowhere.

    Example: mailstream token create auditors --all-mailboxes --days 30
    """
    if bool(mailboxes) == all_mailboxes:
        raise click.UsageError("give --mailbox, or --all-mailboxes")
    config = settings()
    ids = None if all_mailboxes else sorted({find_mailbox(config, box).mailbox_id for box in mailboxes})
    expires_at = now_milliseconds() + days * DAY_MILLISECONDS if days is not None else None
    secret: str | None = None
    if email is not None:
        record = email_caller(name, email, ids, expires_at)
    else:
        record, secret = new_token(name, ids, expires_at)
    asyncio.run(_put(config, record))
    if as_json:
        click.echo(json.dumps({"caller_id": record.caller_id, "token": secret}))
    else:
        click.echo(secret or f"{email} may sign in")


@token.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_callers(as_json: bool) -> None:
    """Show who may search what.

    Example: mailstream token list
    """
    records = asyncio.run(_all(settings()))
    if as_json:
        for record in records:
            click.echo(record.model_dump_json(exclude={"secret_hash"}))
        return
    grid = Grid("caller", "name", "signs in by", "mailboxes", "state", box=None)
    for record in records:
        boxes = "all" if record.mailbox_ids is None else ", ".join(record.mailbox_ids)
        grid.add_row(record.caller_id, record.name, record.email or "token", boxes, _state(record))
    Console(highlight=False).print(grid)


def _state(record: CallerRecord) -> str:
    if record.revoked_at is not None:
        return f"revoked {day_of(record.revoked_at)}"
    if record.expires_at is None:
        return "valid"
    ended = record.expires_at <= now_milliseconds()
    return f"{'expired' if ended else 'until'} {day_of(record.expires_at)}"


@token.command()
@click.argument("caller_id", metavar="CALLER")
def revoke(caller_id: str) -> None:
    """Let somebody search no more, within seconds. CALLER is an id of `token list`.

    Example: mailstream token revoke 3f9a1c0d22e84b71
    """
    asyncio.run(_revoke(settings(), caller_id))
    click.echo("revoked")


async def _put(config: Settings, record: CallerRecord) -> None:
    async with Callers.open(config.elasticsearch) as callers:
        await callers.put(record)


async def _all(config: Settings) -> list[CallerRecord]:
    async with Callers.open(config.elasticsearch) as callers:
        return await callers.all()


async def _revoke(config: Settings, caller_id: str) -> None:
    async with Callers.open(config.elasticsearch) as callers:
        record = await callers.get(caller_id)
        if record is None:
            raise ConfigurationError(f"there is no caller {caller_id}: see `mailstream token list`")
        await callers.put(record.model_copy(update={"revoked_at": now_milliseconds()}))
