"""Many mailboxes over one source: nobody waits for the huge one, nor for the one that Google throttles."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from cli.pipeline import Pipeline, mailbox_id_of
from connectors.elasticsearch import Index
from connectors.errors import ConfigurationError, UnavailableError
from connectors.kafka import read_table
from connectors.lag import LagMeter
from devstack.gmail.errors import rate_limited
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from schemas.events import ChangeKind, MailboxRecord, MailboxState, MessageChange
from tests.pipelines import pipeline
from tests.records import read_all

pytestmark = pytest.mark.timeout(600)

HUGE, THROTTLED = "huge@example.com", "throttled@example.com"
OTHERS = [f"box{number}@example.com" for number in range(18)]
HUGE_MAILS, WAIT_SECONDS = 3_000, 240.0
RELABELLED = int(os.environ.get("RELABELLED", "2000"))


def _mail(number: int) -> bytes:
    return f"Subject: mail {number}\nMessage-ID: <{number}@example.com>\n\nbody {number}\n".encode()


class Requests:
    """Counts what reaches the emulator by mailbox and method, and throttles one mailbox for hours."""

    def __init__(self, emulator: GmailEmulator) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._spend = emulator.meter.spend
        emulator.meter.spend = self.spend  # type: ignore[method-assign]

    def spend(self, address: str, method: str) -> None:
        self.counts[address, method] += 1
        if address == THROTTLED:
            raise rate_limited(429, "userRateLimitExceeded", "User-rate limit exceeded.", 7_200)
        self._spend(address, method)


def test_a_huge_and_a_throttled_mailbox_hold_up_nobody(stack: Stack, tmp_path: Path) -> None:
    sizes = {HUGE: HUGE_MAILS, THROTTLED: 5, **dict.fromkeys(OTHERS, 5)}
    mail = {address: [MailBytes(_mail(n)) for n in range(size)] for address, size in sizes.items()}
    also = {"GMAIL_QUOTA_LIMITS": "new", "SOURCE_POLL_SECONDS": "2", "LOG_LEVEL": "error"}
    with GmailEmulator(mail, quota="new") as emulator:
        requests = Requests(emulator)
        with pipeline(None, tmp_path, stack=stack, gmail=emulator.describe(), also=also) as running:
            running.start("source", "extract", "index")
            asyncio.run(_nobody_waits(running, emulator, requests))


async def _nobody_waits(running: Pipeline, emulator: GmailEmulator, requests: Requests) -> None:
    live = [HUGE, *OTHERS]
    deadline = time.monotonic() + WAIT_SECONDS
    while any(requests.counts[address, "history.list"] == 0 for address in live):
        assert time.monotonic() < deadline, requests.counts
        await asyncio.sleep(0.1)
    before = Counter(requests.counts)
    added = {address: emulator.mailboxes[address].add(_mail(10**6)).id for address in live}
    polls: dict[str, int] = {}
    while len(polls) < len(live):
        assert time.monotonic() < deadline, f"only {sorted(polls)} are live"
        seen = {
            (change.mailbox_id, change.message_id)
            for _, value in await read_all(running.kafka_bootstrap, topics.CHANGES.name)
            if (change := MessageChange.decode(value or b"")).kind is ChangeKind.UPSERT
        }
        for address in live:
            if address not in polls and (mailbox_id_of(address), added[address]) in seen:
                polls[address] = requests.counts[address, "history.list"] - before[address, "history.list"]
        await asyncio.sleep(0.1)
    # The poll that was on its way when the mail came, the one that found it, and one while this test looked.
    assert max(polls.values()) <= 3, polls
    # The throttled one was asked for hardly anything, and is still to come.
    assert sum(n for (address, _), n in requests.counts.items() if address == THROTTLED) <= 2
    async with Index.open(running.elasticsearch_url) as index:
        while True:
            assert time.monotonic() < deadline, "the new mail of the huge mailbox is not indexed"
            try:
                huge = await index.count({"bool": {"filter": _of(HUGE)}})
                new = [*_of(HUGE), {"term": {"message_id": added[HUGE]}}]
                if await index.count({"bool": {"filter": new}}):
                    break
            except (UnavailableError, ConfigurationError):
                pass  # the index is being made
            await asyncio.sleep(0.1)
    assert huge < HUGE_MAILS / 2, "the backfill was over before the new mail came"


def _of(address: str) -> list[dict[str, object]]:
    return [
        {"term": {"mailbox_id": mailbox_id_of(address)}},
        {"term": {"live": True}},
        {"term": {"kind": "message"}},
    ]


def test_label_changes_of_thousands_of_messages_fetch_none(stack: Stack, tmp_path: Path) -> None:
    address = OTHERS[0]
    nothing = {"query": "subject:there-is-no-such-mail"}
    with GmailEmulator({address: [MailBytes(_mail(n)) for n in range(RELABELLED)]}) as emulator:
        requests = Requests(emulator)
        with pipeline(None, tmp_path, stack=stack, gmail=emulator.describe(), policies=nothing) as running:
            running.start("source", "extract", "index")
            asyncio.run(_relabel(running, emulator, requests, address))


async def _relabel(running: Pipeline, emulator: GmailEmulator, requests: Requests, address: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while requests.counts[address, "history.list"] == 0:
        assert time.monotonic() < deadline, "the source does not begin"
        await asyncio.sleep(0.1)
    mailbox = emulator.mailboxes[address]
    for message in mailbox.messages():
        mailbox.modify(message.id, add=["Label_storm"])
    async with LagMeter.open(running.kafka_bootstrap) as meter:
        while True:
            assert time.monotonic() < deadline, "the label changes do not come through"
            running.check()
            waiting = await meter.lag(topics.EXTRACT_GROUP, (topics.CHANGES.name,))
            emitted = await meter.records(topics.CHANGES.name)
            if emitted >= RELABELLED and not waiting:
                break
            await asyncio.sleep(0.5)
    changes = [
        MessageChange.decode(value or b"")
        for _, value in await read_all(running.kafka_bootstrap, topics.CHANGES.name)
    ]
    relabelled = {change.message_id for change in changes if change.kind is ChangeKind.LABEL_ADDED}
    assert len(relabelled) == RELABELLED
    assert requests.counts[address, "messages.get"] == 0


def test_a_mailbox_whose_owner_withdrew_is_parked_and_others_go_on(stack: Stack, tmp_path: Path) -> None:
    gone, stays = OTHERS[:2]
    with (
        GmailEmulator({address: [MailBytes(_mail(1))] for address in (gone, stays)}) as emulator,
        pipeline(
            None, tmp_path, stack=stack, gmail=emulator.describe(), also={"LOG_LEVEL": "error"}
        ) as running,
    ):
        running.start("source")
        asyncio.run(_withdraw(running, emulator, gone, stays))
        assert "is parked" in running.log_tail("source")


async def _withdraw(running: Pipeline, emulator: GmailEmulator, gone: str, stays: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    requests = Requests(emulator)
    while not all(requests.counts[address, "history.list"] for address in (gone, stays)):
        assert time.monotonic() < deadline, "the source does not begin"
        await asyncio.sleep(0.1)
    emulator.oauth.revoke(gone)
    while True:
        assert time.monotonic() < deadline, "the mailbox is not parked"
        running.check()
        table = await read_table(running.kafka_bootstrap, topics.MAILBOXES.name)
        if MailboxRecord.decode(table[mailbox_id_of(gone)]).state is MailboxState.PARKED:
            break
        await asyncio.sleep(0.2)
    assert MailboxRecord.decode(table[mailbox_id_of(stays)]).state is MailboxState.LIVE
    added = emulator.mailboxes[stays].add(_mail(2)).id
    while True:
        assert time.monotonic() < deadline, "the other mailbox does not go on"
        changes = await read_all(running.kafka_bootstrap, topics.CHANGES.name)
        if any(MessageChange.decode(value or b"").message_id == added for _, value in changes):
            return
        await asyncio.sleep(0.2)
