"""``mailstream auth``: a person grants access to a mailbox."""

import asyncio
import json
from typing import Any

import click

from cli.mailbox import read_json, register_address
from cli.policies import policies, policy_options
from cli.settings import settings
from connectors.errors import AuthorizationError


@click.group()
def auth() -> None:
    """Grant access to mailboxes.

    Example: mailstream auth login anna@example.com --client-secrets client.json
    """


@auth.command()
@click.argument("address")
@click.option(
    "--client-secrets",
    type=click.File("r"),
    required=True,
    help="Google's JSON of a desktop client: from the console, under Credentials.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address to open.")
@click.option(
    "--timeout", "timeout_seconds", type=int, default=300, show_default=True, help="Seconds to wait."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@policy_options
def login(
    address: str,
    client_secrets: Any,
    no_browser: bool,
    timeout_seconds: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask the mailbox's owner for leave to read it, and register it, or give it new credentials.

    A mailbox that was parked because its credentials were refused goes on where it stopped.

    Example: mailstream auth login anna@example.com --client-secrets client.json
    """
    from connectors.gmail.auth import IMAP_SCOPES, SCOPES, ask_consent, granted_address

    fields = policies(**options)
    config = settings()
    info = ask_consent(
        read_json(client_secrets),
        address,
        open_browser=not no_browser,
        timeout_seconds=timeout_seconds,
        scopes=(*SCOPES, *(IMAP_SCOPES if fields.get("source") in ("imap", "dual") else ())),
    )
    granted = granted_address(info, address, config.gmail_api_endpoint)
    if granted.lower() != address.lower():
        raise AuthorizationError(f"access was granted to another mailbox than {address}: nothing was stored")
    record = asyncio.run(register_address(config, granted, info, fields))
    click.echo(json.dumps({"mailbox_id": record.mailbox_id}) if as_json else record.mailbox_id)
