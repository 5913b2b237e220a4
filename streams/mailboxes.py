"""The registry as a worker sees it: which mailboxes there are, and a client for each, opened once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from connectors.broker import Broker
from connectors.gmail.message import MailMessage
from connectors.kafka import Table
from connectors.spending import Spender
from schemas import topics
from schemas.events import MailboxRecord, credential_key, suppressed_key


class Mailbox(Spender, Protocol):
    """What extract asks of a mailbox. ``background`` work waits for all that is not."""

    @property
    def paused_seconds(self) -> float:
        """How long no request is welcome; 0 when there may be some."""

    async def message(self, message_id: str, *, raw: bool = False, background: bool = False) -> MailMessage:
        """The message with its MIME tree, ``raw`` with every body. Raises NotFoundError."""

    async def attachment(self, message_id: str, reference: str, *, background: bool = False) -> bytes:
        """A body behind a reference. Raises NotFoundError when the reference is stale."""

    def attachment_stream(
        self, message_id: str, reference: str, *, background: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """The same in blocks; nothing is asked for before the first is taken."""


@dataclass(frozen=True, slots=True)
class _Opened:
    record: MailboxRecord
    credential: bytes | None
    client: Mailbox


class Mailboxes:
    """Registry records and open clients by mailbox id."""

    def __init__(self, table: Table, open_mailbox: Callable[[MailboxRecord, bytes | None], Mailbox]) -> None:
        self._table = table
        self._open = open_mailbox
        self._opened: dict[str, _Opened] = {}

    @classmethod
    @asynccontextmanager
    async def follow(
        cls, kafka: Broker | str, open_mailbox: Callable[[MailboxRecord, bytes | None], Mailbox]
    ) -> AsyncIterator[Mailboxes]:
        """The registry, read to its end and kept up to date while it is asked."""
        async with Table.open(kafka, topics.MAILBOXES.name) as table:
            yield cls(table, open_mailbox)

    async def record(self, mailbox_id: str) -> MailboxRecord | None:
        """The mailbox's record, at most REFRESH_SECONDS old; None when there is no such mailbox."""
        if mailbox_id in self._table.values:
            await self._table.refresh()
        else:
            await self._table.catch_up()
        value = self._table.values.get(mailbox_id)
        return MailboxRecord.decode(value) if value is not None else None

    def suppressed(self, mailbox_id: str, message_id: str) -> bool:
        """Whether the message was purged, as of the last look at the registry."""
        return suppressed_key(mailbox_id, message_id) in self._table.values

    def opened(self) -> list[tuple[MailboxRecord, Mailbox]]:
        """The mailboxes that have been asked for, and their clients."""
        return [(opened.record, opened.client) for opened in self._opened.values()]

    def client(self, record: MailboxRecord) -> Mailbox:
        """The client of a mailbox. Raises ConfigurationError without usable credentials."""
        credential = self._table.values.get(credential_key(record.mailbox_id))
        opened = self._opened.get(record.mailbox_id)
        wanted = (record.address, record.source, credential)
        if opened is None or (opened.record.address, opened.record.source, opened.credential) != wanted:
            opened = _Opened(record, credential, self._open(record, credential))
        self._opened[record.mailbox_id] = replace(opened, record=record)
        return opened.client
