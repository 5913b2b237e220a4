"""Change events a second from the source, and how much of Gmail's quota it uses.

    python -m benchmarks.source [--changes 20000] [--mailboxes 4] [--seconds 180] [--rate 1] [--json]

Without a quota: mailboxes are listed, the source is stopped, labels change in each, and the source is started
again. The rate is that of the records in ``mail.changes``, from the first to the last, by the times at which
they were written. Under each of Google's tables: a client flat out for some minutes of a clock that goes
``--rate`` times as fast, killed and replaced halfway (``tests.quota_run``).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.costs import Meter
from benchmarks.pages import Picture, machine, table, write_page
from cli.pipeline import Pipeline
from connectors.kafka import Log
from connectors.lag import LagMeter
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack, start_stack
from schemas import topics
from tests.quota_run import run as run_quota

NAME = "source"
TIMEOUT_SECONDS = 300.0
MESSAGES = 500  # a mailbox
# What must hold.
LEAST_RATE, LEAST_USED = 5_000.0, 0.95


def events(stack: Stack, mailboxes: int, changes: int) -> dict[str, Any]:
    """Events a second of listings and of changes, and what the source spends on them."""
    addresses = [f"box{number}@example.com" for number in range(mailboxes)]
    mail = [MailBytes(f"Subject: mail {n}\n\nbody {n}\n".encode()) for n in range(MESSAGES)]
    also = {"AUDIT_HOURS": "0", "SOURCE_POLL_SECONDS": "3600", "DRAFT_QUIET_SECONDS": "0"}
    with (
        GmailEmulator(dict.fromkeys(addresses, mail)) as emulator,
        tempfile.TemporaryDirectory() as directory,
        Pipeline(
            *(stack.kafka_bootstrap, stack.elasticsearch_url, [], Path(directory), "hash"),
            gmail=emulator.describe(),
            also=also,
        ) as running,
    ):
        # The index must be there for the source to look at.
        running.start("source", "index")
        asyncio.run(_written(running, topics.BACKFILL, mailboxes * MESSAGES))
        running.kill("source")
        _relabel(emulator, addresses, changes)
        begun = time.monotonic()
        running.start("source")
        with Meter({"source": running.processes["source"].pid}) as meter:
            times = asyncio.run(_written(running, topics.CHANGES, changes))
            seconds = time.monotonic() - begun
    return {
        "changes": changes,
        "mailboxes": mailboxes,
        "events_per_second": round((len(times) - 1) / max((max(times) - min(times)) / 1000, 1e-3)),
        "from_start_seconds": round(seconds, 2),
        "processor_microseconds_an_event": round(meter.costs.processor["source"] / changes * 1e6, 1),
        "memory_mib": round(meter.costs.memory_mib["source"]),
    }


def _relabel(emulator: GmailEmulator, addresses: list[str], changes: int) -> None:
    """Single label changes, evenly over mailboxes and messages."""
    boxes = [(emulator.mailboxes[address], emulator.mailboxes[address].messages()) for address in addresses]
    for number in range(changes):
        box, messages = boxes[number % len(boxes)]
        turn, place = divmod(number // len(boxes), len(messages))
        star = ["STARRED"]
        box.modify(messages[place].id, *((star, ()) if turn % 2 == 0 else ((), star)))


async def _written(running: Pipeline, topic: topics.Topic, count: int) -> list[int]:
    """When (milliseconds) each record of a topic was written, once there are so many."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    async with LagMeter.open(running.settings.kafka) as meter:
        while await meter.records(topic.name) < count:
            running.check()
            assert time.monotonic() < deadline, f"{topic.name} has {await meter.records(topic.name)} records"
            await asyncio.sleep(0.1)
    async with Log.open(running.settings.kafka, topic.name) as log:
        return [record.written_at or 0 async for record in log.read()]


def quota(seconds: float, rate: float) -> list[dict[str, Any]]:
    """What is used of each table."""
    found = []
    for era in ("new", "legacy"):
        spent = run_quota(era, seconds, rate)
        found.append(
            {
                "era": era,
                "limit": spent.limit,
                "used": round(spent.used, 4),
                "most_in_a_minute": spent.most_in_a_minute,
                "refused": spent.refused,
            }
        )
    return found


def is_good(found: dict[str, Any]) -> bool:
    """Whether what must hold does."""
    used = all(
        spent["used"] >= LEAST_USED and not spent["refused"] and spent["most_in_a_minute"] <= spent["limit"]
        for spent in found["quota"]
    )
    return used and found["events"]["events_per_second"] >= LEAST_RATE


def _write(found: dict[str, Any], options: argparse.Namespace, before: str) -> None:
    picture = Picture(2)
    rates = {"source, no quota": found["events"]["events_per_second"], "asked for": LEAST_RATE}
    picture.bars(0, "change events a second", rates, "events/s", LEAST_RATE)
    used = {f"{spent['era']} table": 100 * spent["used"] for spent in found["quota"]}
    picture.bars(1, "quota used, none refused", used, "%", 100 * LEAST_USED)
    picture.save(NAME)
    measured = found["events"]
    parts = [
        f"`python -m benchmarks.source --changes {options.changes} --mailboxes {options.mailboxes}"
        f" --seconds {options.seconds:g} --rate {options.rate:g}`, {before}.",
        table(
            ("change events without a quota", "figure", "asked for"),
            [
                (
                    f"events a second, {measured['changes']:,} changes in {measured['mailboxes']} mailboxes",
                    f"{measured['events_per_second']:,}",
                    f"≥ {LEAST_RATE:,.0f}",
                ),
                (
                    "from the start of the source to the last of them",
                    f"{measured['from_start_seconds']} s",
                    "",
                ),
                ("the source's processor", f"{measured['processor_microseconds_an_event']} µs an event", ""),
                ("the source's memory", f"{measured['memory_mib']} MiB", ""),
            ],
        ),
        table(
            ("Google's table", "units a minute", "used", "most in any minute", "refused"),
            [
                (
                    spent["era"],
                    f"{spent['limit']:,}",
                    f"{spent['used']:.1%} (≥ {LEAST_USED:.0%})",
                    f"{spent['most_in_a_minute']:,}",
                    spent["refused"],
                )
                for spent in found["quota"]
            ],
        ),
        f"The quota runs last {options.seconds:g} seconds of a clock that goes {options.rate:g} times as"
        " fast, with a kill in the middle; what the second process could not know of the first is in the"
        " figures.",
    ]
    write_page(NAME, "The source", parts)


def main() -> None:
    """Measure and print; fails where a figure is not good."""
    parser = command.parser(__doc__, NAME)
    parser.add_argument("--changes", type=int, default=20_000)
    parser.add_argument("--mailboxes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=180.0, help="of Gmail's clock, under each table")
    parser.add_argument("--rate", type=float, default=1.0, help="how much faster than the wall's that goes")
    options = parser.parse_args()
    before = machine()
    with start_stack() as stack:
        found: dict[str, Any] = {"events": events(stack, options.mailboxes, options.changes)}
    print(found["events"], flush=True)
    found["quota"] = quota(options.seconds, options.rate)
    found["good"] = is_good(found)
    if options.write:
        _write(found, options, before)
    for spent in found["quota"]:
        print(spent)
    if options.json:
        command.print_json(found)
    sys.exit(not found["good"])


if __name__ == "__main__":
    main()
