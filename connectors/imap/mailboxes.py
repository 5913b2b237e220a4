"""Opens mailboxes over IMAP: from a registry record and its sealed credentials to an ``ImapMailbox``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.auth.transport.requests import Request

from connectors.errors import ConfigurationError
from connectors.gmail.auth import IMAP_SCOPES, credentials_from
from connectors.gmail.mapped import mapped
from connectors.imap.connection import Budget, ImapAccount, ImapConnection
from connectors.imap.listener import Listener
from connectors.imap.mailbox import ImapMailbox
from connectors.tls import tls_context
from connectors.vault import Vault
from schemas.events import MailboxRecord


@dataclass(frozen=True, slots=True)
class ImapMailboxes:
    """What all IMAP mailboxes of one process share. ``url`` is the server of those that name none.

    ``bytes_per_day`` is what one mailbox may bring; ``listens`` where changes are waited for (IDLE).
    """

    vault: Vault
    url: str
    bytes_per_day: int
    ca_file: Path | None = None
    listens: bool = False
    _budgets: dict[str, Budget] = field(default_factory=dict)

    def open(self, record: MailboxRecord, credential: bytes | None) -> ImapMailbox:
        """One mailbox. Raises ConfigurationError when it has no usable credentials."""
        account = self._account(record, self.vault.read(record.mailbox_id, credential))
        # Of the mailbox, not of the connection: what a new one may bring, the one before has not.
        budget = self._budgets.setdefault(record.mailbox_id, Budget(self.bytes_per_day))
        listener = Listener(ImapConnection(account, budget)) if self.listens else None
        return ImapMailbox(ImapConnection(account, budget), listener)

    def _account(self, record: MailboxRecord, info: dict[str, Any]) -> ImapAccount:
        """``info`` is Google's JSON, or {"type": "imap", "password": ...}; an object ``imap`` in the former,
        or the latter itself, may name ``url`` and ``username``."""
        own = info if info.get("type") == "imap" else info.get("imap", {})
        if not isinstance(own, dict):
            raise ConfigurationError('"imap" in these credentials is no object')
        url = str(own.get("url") or self.url)
        username = str(own.get("username") or record.address)
        context = tls_context("IMAP", self.ca_file)
        if "password" in own:
            password = str(own["password"])
            return ImapAccount(url, username, lambda: password, context=context)
        if info.get("type") == "imap":
            raise ConfigurationError("credentials of type imap need a password")
        return ImapAccount(url, username, _token(info, record.address), is_token=True, context=context)


def _token(info: dict[str, Any], address: str) -> Callable[[], str]:
    credentials = credentials_from(info, address, IMAP_SCOPES)

    def token() -> str:
        if not credentials.valid:
            mapped(lambda: credentials.refresh(Request()))  # type: ignore[no-untyped-call]
        return str(credentials.token)

    return token
