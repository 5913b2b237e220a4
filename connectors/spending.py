"""What the API takes of mailboxes in a dual run, written down for the comparison with IMAP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakKeyDictionary

from connectors.errors import UnavailableError
from connectors.kafka import Send
from schemas import topics
from schemas.events import MailboxRecord, Observation

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 30.0


class Spender(Protocol):
    """Whoever asks for a mailbox's mail."""

    @property
    def spent(self) -> tuple[int, int]:
        """Bytes received and requests sent since the start."""


class _Sender(Protocol):
    async def send(self, sends: list[Send]) -> None: ...


class Spending:
    """Writes down what came on since the last time.

    ``followed`` names the mailboxes, and who asks for their mail.
    """

    def __init__(
        self, producer: _Sender, followed: Callable[[], Iterable[tuple[MailboxRecord, Spender]]]
    ) -> None:
        self._producer = producer
        self._followed = followed
        self._written: WeakKeyDictionary[Spender, tuple[int, int]] = WeakKeyDictionary()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            try:
                await self.write()
            except UnavailableError as error:
                log.warning("what dual runs take is written down later: %s", error)

    async def write(self) -> None:
        """One observation for each dual mailbox that was asked for something. Raises UnavailableError."""
        for record, spender in list(self._followed()):
            spent, before = spender.spent, self._written.get(spender, (0, 0))
            if record.source != "dual" or spent == before:
                continue
            said = Observation(
                mailbox_id=record.mailbox_id,
                epoch=record.epoch,
                message_id="",
                kind="spent",
                way="gmail_api",
                spent_bytes=spent[0] - before[0],
                spent_requests=spent[1] - before[1],
            )
            await self._producer.send([Send.event(topics.OBSERVATIONS.name, said.mailbox_id, said)])
            self._written[spender] = spent
