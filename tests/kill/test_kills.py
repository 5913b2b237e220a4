"""SIGKILL of each process in mid-run: the same documents as a run that nobody disturbed."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cli.pipeline import Pipeline
from cli.status import Observer, Status
from connectors.errors import UnavailableError
from devstack.sample.mailbox import write_sample_mailbox
from devstack.stack import Stack
from tests.pipelines import documents, pipeline, settle

pytestmark = pytest.mark.timeout(900)

PLAIN_MAILS = 420  # with the sample more than a page of a listing
WAIT_SECONDS = 120.0
# Gmail takes its time, so that a process on any machine can be caught in the middle of something: every page
# of the listing, and a few hundred messages halfway.
SLOW = [
    {"kind": "slow_body", "method": "messages.list", "seconds": 2.0},
    {"kind": "slow_body", "method": "messages.get", "seconds": 1.0, "after": 250, "count": 150},
]


def _mail(path: Path) -> Path:
    """The sample mailbox, and enough plain mail that each process is busy for a while."""
    write_sample_mailbox(path)
    with path.open("ab") as file:
        for number in range(PLAIN_MAILS):
            file.write(
                f"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\nFrom: robot-{number % 7}@example.com\n"
                f"Subject: report {number}\nMessage-ID: <report-{number}@example.com>\n"
                f"Date: Mon, 1 Jan 2024 {number // 60 % 24:02}:{number % 60:02}:00 +0000\n\n"
                f"Reading {number} of the tide gauge: {number * 37 % 991} millimetres.\n\n".encode()
            )
    return path


async def _until(observer: Observer, condition: Callable[[Status], bool], what: str) -> Status:
    deadline = time.monotonic() + WAIT_SECONDS
    status = None
    while True:
        with suppress(UnavailableError):  # an index that was made just now has no shard yet
            status = await observer.status()
            if condition(status):
                return status
        if time.monotonic() > deadline:
            pytest.fail(f"never came to {what}: {status}")
        await asyncio.sleep(0.05)


async def _disturb(running: Pipeline) -> int:
    """Kill each process once while it is in the middle of something; returns how many were."""
    kills = 0
    running.start("source")
    async with Observer.open(running.settings) as observer:
        await _until(
            observer,
            lambda now: now.mailboxes[0].listed > 0 and not now.mailboxes[0].complete,
            "the middle of the listing",
        )
        running.kill("source", signal.SIGKILL)
        stopped = await observer.status()
        assert 0 < stopped.mailboxes[0].listed < (stopped.mailboxes[0].total or 0)
        kills += 1
        running.start("source")
        await _until(observer, lambda now: now.mailboxes[0].complete, "the listing's end")
        # Each stage begins when the one before it has ended: only then does what waits for it get less.
        waiting = (await observer.status()).lag["extract"]
        running.start("extract")
        await _until(observer, lambda now: 0 < now.lag["extract"] < waiting, "the middle of extraction")
        running.kill("extract", signal.SIGKILL)
        assert (await observer.status()).lag["extract"] > 0
        kills += 1
        running.start("extract")
        await _until(observer, lambda now: now.lag["extract"] == 0, "the end of extraction")
        running.start("index")
        await _until(
            observer, lambda now: now.messages > 0 and now.lag["index"] > 0, "the middle of indexing"
        )
        running.kill("index", signal.SIGKILL)
        assert (await observer.status()).lag["index"] > 0
        kills += 1
        running.start("index", "slow")
        await _until(observer, lambda now: now.lag["slow"] > 0, "a scan that waits")
        running.kill("slow", signal.SIGKILL)
        kills += 1
    running.start()
    return kills


def test_kills_change_nothing(stack: Stack, tmp_path: Path) -> None:
    mail = _mail(tmp_path / "mail.mbox")
    with pipeline(mail, tmp_path / "calm", stack=stack) as running:
        running.start()
        calm = settle(running)
        expected = documents(running)
    slow = tmp_path / "faults.json"
    slow.write_text(json.dumps(SLOW))
    with pipeline(mail, tmp_path / "disturbed", faults=slow, stack=stack) as running:
        assert asyncio.run(_disturb(running)) == 4
        disturbed = settle(running)
        got = documents(running)
    assert calm.messages == disturbed.messages == PLAIN_MAILS + 101
    assert calm.dead_letters == disturbed.dead_letters == 0
    assert got.keys() == expected.keys()
    assert [line for key in got for line in _differences(expected[key], got[key])] == []


def _differences(calm: dict[str, Any], disturbed: dict[str, Any]) -> list[str]:
    names = sorted(name for name in calm.keys() | disturbed.keys() if calm.get(name) != disturbed.get(name))
    return [f"{name}: {calm.get(name)!r:.300} | {disturbed.get(name)!r:.300}" for name in names]
