"""What becomes of a mailbox whose loop has ended: only what is its own fault is held against it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.errors import AuthorizationError, MailstreamError, TopicMissingError, UnavailableError
from connectors.kafka import Producer, Send
from connectors.source import SourceConfig, SourceConnector, _Running
from schemas.events import MailboxRecord, MailboxState

RECORD = MailboxRecord(mailbox_id="anna", address="anna@example.com")


async def _end_with(error: MailstreamError) -> list[Send]:
    """What is written of a mailbox whose loop raised ``error``."""
    sent: list[Send] = []

    async def send(sends: list[Send]) -> None:
        sent.extend(sends)

    async def fail() -> None:
        raise error

    config = cast(SourceConfig, SimpleNamespace(use_gmail_api=True))
    nothing: Any = lambda *_: None  # noqa: E731
    connector = SourceConnector(config, nothing, nothing, nothing, nothing)
    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    source = cast(Any, SimpleNamespace(close=lambda: None))
    running = _Running(cast(Any, None), source, task, RECORD, RECORD.encode(), None)
    connector._running[RECORD.mailbox_id] = running
    await connector._ended(cast(Producer, SimpleNamespace(send=send)), running)
    return sent


async def test_who_is_refused_is_parked() -> None:
    [send] = await _end_with(AuthorizationError("invalid_grant"))
    parked = MailboxRecord.decode(send.value or b"")
    assert (parked.state, parked.state_reason) == (MailboxState.PARKED, "AuthorizationError")


@pytest.mark.parametrize("error", [TopicMissingError("no topic"), UnavailableError("Kafka does not answer")])
async def test_kafkas_trouble_ends_the_process_and_parks_nobody(error: MailstreamError) -> None:
    with pytest.raises(type(error)):
        await _end_with(error)
