"""Faults on purpose, as Google's own client and the project's meet them."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from connectors.errors import AuthorizationError, GmailUnavailableError, RateLimitedError
from connectors.gmail.message import decode_base64url
from devstack.gmail.clock import Clock
from devstack.gmail.faults import parse_faults
from devstack.gmail.server import GmailEmulator
from schemas import mime
from tests.gmail_api import ANNA, BOB, as_user, refreshed, users
from tests.part_paths import gmail_client

MAIL = b"Subject: one\nContent-Type: text/plain; charset=koi8-r\n\n\xd0\xd2\xc9\xd7\xc5\xd4\n"


@pytest.fixture
def emulator() -> Iterator[GmailEmulator]:
    server = GmailEmulator({ANNA: [], BOB: []}, clock=Clock(1_800_000_000.0)).start()
    for address in (ANNA, BOB):
        server.mailboxes[address].add(MAIL)
    yield server
    server.stop()


def _plan(emulator: GmailEmulator, **fault: Any) -> None:
    emulator.faults.faults = parse_faults([fault])


def _id(emulator: GmailEmulator, address: str = ANNA) -> str:
    return emulator.mailboxes[address].messages()[0].id


async def test_a_text_body_behind_a_reference_is_the_same_text(emulator: GmailEmulator) -> None:
    _plan(emulator, kind="body_behind_attachment_id")
    with gmail_client(emulator) as client:
        message = await client.message(_id(emulator))
        [leaf] = mime.body_leaves(message.root)
        assert leaf.part.body is None
        body = await client.attachment(message.message_id, leaf.part.reference or "")
    assert body.decode(leaf.part.charset or "") == "привет\n"


@pytest.mark.parametrize("raw", [True, False])
async def test_bodies_without_padding_are_read(emulator: GmailEmulator, raw: bool) -> None:
    _plan(emulator, kind="unpadded_base64url")
    form = "raw" if raw else "full"
    answer = users(emulator).messages().get(userId="me", id=_id(emulator), format=form).execute()
    assert not json.dumps(answer).count('="')
    if raw:
        assert decode_base64url(answer["raw"]) == MAIL
    with gmail_client(emulator) as client:
        message = await client.message(_id(emulator), raw=raw)
    [leaf] = mime.body_leaves(message.root)
    assert (leaf.part.body or b"").decode(leaf.part.charset or "") == "привет\n"


async def test_a_history_id_may_be_a_number(emulator: GmailEmulator) -> None:
    _plan(emulator, kind="history_id_number")
    assert isinstance(users(emulator).getProfile(userId="me").execute()["historyId"], int)
    with gmail_client(emulator) as client:
        position = await client.position()
        emulator.mailboxes[ANNA].add(MAIL)
        page = await client.history_page(position.history_id, None)
        assert page.history_id == emulator.mailboxes[ANNA].history_id
        assert (await client.message(_id(emulator))).history_id > 0


async def test_a_body_that_breaks_off_is_passing_trouble(emulator: GmailEmulator) -> None:
    _plan(emulator, kind="reset_mid_body", method="messages.get", count=1)
    with gmail_client(emulator) as client:
        with pytest.raises(GmailUnavailableError):
            await client.message(_id(emulator))
        assert await client.message(_id(emulator))


async def test_spent_bandwidth_lasts_for_its_mailbox_and_its_bodies_only(emulator: GmailEmulator) -> None:
    _plan(emulator, kind="bandwidth", count=1, seconds=7_200, mailbox=ANNA)
    with gmail_client(emulator) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.message(_id(emulator))
        assert caught.value.retry_after_seconds == 7_200
        assert client.paused_seconds > 7_000
    others = users(emulator, as_user(emulator, BOB)).messages()
    others.get(userId="me", id=_id(emulator, BOB)).execute()
    users(emulator).getProfile(userId="me").execute()
    emulator.clock.advance(3_000)
    with pytest.raises(HttpError):
        users(emulator).messages().get(userId="me", id=_id(emulator)).execute()
    emulator.clock.advance(4_300)
    users(emulator, refreshed(as_user(emulator))).messages().get(userId="me", id=_id(emulator)).execute()


@pytest.mark.parametrize(
    ("fault", "scope"),
    [
        ({"status": 403, "reason": "userRateLimitExceeded"}, "mailbox"),
        ({"status": 429, "reason": "rateLimitExceeded"}, "project"),
        ({"status": 429, "reason": "concurrent"}, "concurrency"),
    ],
)
async def test_a_burst_of_refusals_names_whose_limit_it_was(
    emulator: GmailEmulator, fault: dict[str, Any], scope: str
) -> None:
    _plan(emulator, kind="rate_limit", burst=3, count=3, **fault)
    for _ in range(3):
        with gmail_client(emulator) as client, pytest.raises(RateLimitedError) as caught:
            await client.position()
        assert caught.value.scope == scope
    with gmail_client(emulator) as client:
        await client.position()


async def test_refused_credentials_may_be_a_fault(emulator: GmailEmulator) -> None:
    _plan(emulator, kind="invalid_grant")
    with gmail_client(emulator) as client, pytest.raises(AuthorizationError):
        await client.position()


async def _pushes(emulator: GmailEmulator, *faults: dict[str, Any]) -> list[dict[str, Any]]:
    """What a pull subscription has after one change of a watched mailbox."""
    topic, name = "projects/p/topics/t", "projects/p/subscriptions/s"
    emulator.pubsub.subscribe(name, {"topic": topic})
    users(emulator).watch(userId="me", body={"topicName": topic}).execute()
    emulator.pubsub.pull(name, 10)
    emulator.clock.advance(5)
    emulator.faults.faults = parse_faults(list(faults))
    emulator.mailboxes[ANNA].add(MAIL)
    await asyncio.sleep(0.2)  # the emulator's own thread announces it
    received = emulator.pubsub.pull(name, 10).get("receivedMessages", [])
    return [json.loads(base64.urlsafe_b64decode(entry["message"]["data"])) for entry in received]


async def test_pushes_are_lost_doubled_and_written_otherwise(emulator: GmailEmulator) -> None:
    assert await _pushes(emulator, {"kind": "push_dropped"}) == []
    assert len(await _pushes(emulator, {"kind": "push_duplicated", "copies": 3})) == 3
    [notice] = await _pushes(emulator, {"kind": "history_id_number"})
    assert notice["historyId"] == str(emulator.mailboxes[ANNA].history_id)


async def test_an_early_push_names_what_the_history_does_not_show_yet(emulator: GmailEmulator) -> None:
    start = emulator.mailboxes[ANNA].history_id
    [notice] = await _pushes(emulator, {"kind": "push_early", "seconds": 2})
    assert notice["historyId"] > start
    with gmail_client(emulator) as client:
        page = await client.history_page(start, None)
        assert (page.entries, page.history_id) == ([], start)
        emulator.clock.advance(3)
        page = await client.history_page(start, None)
        assert (len(page.entries), page.history_id) == (1, notice["historyId"])
