"""From Gmail's push to mail.changes: over the endpoint, by pulling, and thousands of times the same."""

import asyncio
import base64
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from cli.pipeline import Pipeline, mailbox_id_of
from connectors.kafka import Producer, Send, read_table
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.pubsub import PUSH_ACCOUNT
from devstack.gmail.server import GmailEmulator
from devstack.local import free_ports
from devstack.stack import Stack
from schemas import topics
from schemas.events import Cursor, MessageChange, SyncRequest
from tests.pipelines import pipeline
from tests.pushes import AUDIENCE, SUBSCRIPTION, by_endpoint, by_pulling
from tests.records import read_all

pytestmark = pytest.mark.timeout(400)

ADDRESS = "anna@example.com"
WAIT_SECONDS = 90.0
DUPLICATES = int(os.environ.get("DUPLICATES", "2000"))


class Gmail:
    """The emulator, and how often its history has been asked for."""

    def __init__(self, emulator: GmailEmulator) -> None:
        self.emulator = emulator

    @property
    def polls(self) -> int:
        return int(self.emulator.stats()["requests"].get("history.list", 0))

    def add(self) -> str:
        return self.emulator.mailboxes[ADDRESS].add(b"Subject: new\n\nbody\n").id


@contextmanager
def _pushed(
    stack: Stack, directory: Path, settings: Callable[[GmailEmulator], dict[str, str]]
) -> Iterator[tuple[Pipeline, Gmail]]:
    with GmailEmulator({ADDRESS: [MailBytes(b"Subject: old\n\nbody\n")]}) as emulator:
        also = {"SOURCE_POLL_SECONDS": "3600", "AUDIT_HOURS": "0", **settings(emulator)}
        with pipeline(None, directory, stack=stack, gmail=emulator.describe(), also=also) as running:
            yield running, Gmail(emulator)


async def _quiet(gmail: Gmail, seconds: float = 3.0) -> int:
    """Wait until nobody has asked for the history for some time; returns how often that was."""
    polls, since = gmail.polls, time.monotonic()
    while time.monotonic() - since < seconds:
        await asyncio.sleep(0.1)
        if gmail.polls != polls:
            polls, since = gmail.polls, time.monotonic()
    return polls


async def _watched(running: Pipeline) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        running.check()
        value = (await read_table(running.kafka_bootstrap, topics.CURSORS.name)).get(mailbox_id_of(ADDRESS))
        if value is not None:
            cursor = Cursor.decode(value)
            if cursor.watch_expires_at and cursor.listing.complete:
                # Seven days, as Gmail gives.
                assert cursor.watch_expires_at - time.time() * 1000 > 6 * 86_400_000
                return
        assert time.monotonic() < deadline, "no watch was set"
        await asyncio.sleep(0.5)


async def _arrives(running: Pipeline, message_id: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        for _, value in await read_all(running.kafka_bootstrap, topics.CHANGES.name):
            if MessageChange.decode(value or b"").message_id == message_id:
                return
        assert time.monotonic() < deadline, "the message is not in mail.changes"
        running.check()
        await asyncio.sleep(0.5)


def test_a_push_arrives_in_one_poll_and_its_duplicates_cost_none(stack: Stack, tmp_path: Path) -> None:
    [port] = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}/push"

    async def check(running: Pipeline, gmail: Gmail) -> None:
        running.start("push", "source")
        await _watched(running)
        polls = await _quiet(gmail)
        await _arrives(running, gmail.add())
        assert gmail.polls - polls == 1
        assert await _quiet(gmail) - polls == 1
        polls = gmail.polls
        statuses = await _duplicates(endpoint, gmail.emulator)
        assert statuses == Counter({204: DUPLICATES})
        # Past the endpoint too: whatever comes twice costs nothing.
        history_id = gmail.emulator.mailboxes[ADDRESS].history_id
        hint = SyncRequest(mailbox_id=mailbox_id_of(ADDRESS), history_id=history_id)
        async with Producer(running.kafka_bootstrap) as producer:
            send = Send(topics.SYNC_REQUESTS.name, hint.mailbox_id, hint.encode())
            await producer.send([send] * DUPLICATES)
        assert await _quiet(gmail) - polls == 0

    with _pushed(stack, tmp_path, lambda emulator: by_endpoint(emulator, port)) as (running, gmail):
        asyncio.run(check(running, gmail))


async def _duplicates(endpoint: str, emulator: GmailEmulator) -> "Counter[int]":
    now = int(emulator.clock())
    token = emulator.oauth.signing_key.sign(
        {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "email": PUSH_ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
    )
    notice = {"emailAddress": ADDRESS, "historyId": emulator.mailboxes[ADDRESS].history_id}
    data = base64.urlsafe_b64encode(json.dumps(notice).encode()).decode()
    body = {"message": {"data": data, "messageId": "1"}, "subscription": SUBSCRIPTION}
    statuses: Counter[int] = Counter()
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def post(times: int) -> None:
            for _ in range(times):
                async with session.post(endpoint, json=body) as response:
                    statuses[response.status] += 1

        await asyncio.gather(*(post(DUPLICATES // 20) for _ in range(20)))
    return statuses


def test_without_an_endpoint_pushes_are_pulled(stack: Stack, tmp_path: Path) -> None:
    async def check(running: Pipeline, gmail: Gmail) -> None:
        running.start("push", "source")
        await _watched(running)
        polls = await _quiet(gmail)
        await _arrives(running, gmail.add())
        assert gmail.polls - polls == 1

    with _pushed(stack, tmp_path, lambda emulator: by_pulling(emulator, tmp_path)) as (running, gmail):
        asyncio.run(check(running, gmail))
