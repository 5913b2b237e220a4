"""A seeded storm over several mailboxes, while Gmail fails and sources die: do the topics tell the truth?

python -m tests.random_sync --operations 2000 --kills 10 --seed 1
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.pipeline import Pipeline, mailbox_id_of
from cli.status import Observer
from connectors.errors import UnavailableError
from devstack.gmail.faults import FaultPlan, parse_faults
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.gmail.store import Mailbox
from devstack.stack import Stack
from schemas import topics
from schemas.events import ChangeKind, Cursor, MessageChange
from schemas.registers import DeletedRegister, LabelRegister, LabelsRegister, MessageState
from tests.mailbox_changes import LABELS, change_message
from tests.pipelines import documents, pipeline
from tests.pushes import by_pulling
from tests.records import read_all

ADDRESSES = ("anna@example.com", "bob@example.com", "carla@example.com")
FIRST_MAILS = 700  # more than a page of a listing
SETTLE_SECONDS = 400.0
FAULTS: list[dict[str, Any]] = [
    {"kind": "expired_history", "probability": 0.003},
    {"kind": "empty_history_page", "probability": 0.15},
    {"kind": "stale_page_token", "probability": 0.1},
    {"kind": "rate_limit", "status": 429, "reason": "userRateLimitExceeded", "probability": 0.01},
    {"kind": "rate_limit", "status": 403, "method": "history.list", "probability": 0.05},
    {"kind": "rate_limit", "status": 429, "retry_after_seconds": 1, "probability": 0.002},
    {"kind": "server_error", "probability": 0.02},
    {"kind": "connection_reset", "probability": 0.02},
    {"kind": "slow_body", "seconds": 0.5, "probability": 0.02},
    {"kind": "failed_precondition", "probability": 0.01},
    {"kind": "gone_between_list_and_get", "probability": 0.005},
    {"kind": "reset_mid_body", "probability": 0.01},
    {"kind": "body_behind_attachment_id", "probability": 0.05},
    {"kind": "unpadded_base64url", "probability": 0.2},
    {"kind": "history_id_number", "probability": 0.2},
    {"kind": "rate_limit", "status": 429, "reason": "concurrent", "burst": 3, "probability": 0.003},
    {"kind": "rate_limit", "status": 429, "reason": "rateLimitExceeded", "burst": 3, "probability": 0.003},
    {"kind": "bandwidth", "seconds": 3.0, "probability": 0.001},
    {"kind": "push_dropped", "probability": 0.2},
    {"kind": "push_duplicated", "copies": 5, "probability": 0.2},
    {"kind": "push_early", "seconds": 1.5, "probability": 0.2},
]


@dataclass
class Report:
    """What happened, and what differs in the end."""

    operations: Counter[str] = field(default_factory=Counter)
    faults: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    scalings: int = 0
    resyncs: int = 0
    events: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    differing: list[str] = field(default_factory=list)  # topics against the mailboxes
    unindexed: list[str] = field(default_factory=list)  # the index against the mailboxes
    seconds: float = 0.0


def _mail(number: int, subject: str = "report") -> bytes:
    return (
        f"From: robot-{number % 7}@example.com\nSubject: {subject} {number}\n"
        f"Message-ID: <{subject}-{number}@example.com>\n"
        f"Date: Mon, 1 Jan 2024 {number // 60 % 24:02}:{number % 60:02}:00 +0000\n\n"
        f"Reading {number} of the tide gauge: {number * 37 % 991} millimetres.\n"
    ).encode()


class Storm:
    """Random operations on the mailboxes of an emulator."""

    def __init__(self, emulator: GmailEmulator, seed: int) -> None:
        self._draws = random.Random(seed)
        self._mailboxes = list(emulator.mailboxes.values())
        self._number = 100_000
        self._drafts: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def operate(self) -> None:
        """One operation, counted when it had an effect."""
        draws = self._draws
        mailbox = draws.choice(self._mailboxes)
        kind = draws.choices(
            ("add", "delete", "trash", "untrash", "label", "unlabel", "draft", "spam"),
            (18, 12, 8, 8, 22, 18, 12, 2),
        )[0]
        before = mailbox.history_id
        try:
            self._do(kind, mailbox)
        except KeyError:
            return  # deleted meanwhile by a fault
        if mailbox.history_id != before:
            self.counts[kind] += 1

    def _do(self, kind: str, mailbox: Mailbox) -> None:
        draws = self._draws
        self._number += 1
        if kind == "add":
            mailbox.add(_mail(self._number), draws.sample(LABELS[:6], draws.randint(0, 3)))
        elif kind == "spam":
            mailbox.add(_mail(self._number, "offer"), ["SPAM", "UNREAD"])
        elif kind == "draft":
            # An autosave: the old message goes, a new one comes.
            old = self._drafts.pop(mailbox.address, None)
            if old is not None and draws.random() < 0.9:
                mailbox.delete(old)
            new = mailbox.add(_mail(self._number, "draft"), ["DRAFT"])
            self._drafts[mailbox.address] = new.id
        else:
            change_message(kind, mailbox, draws)


def run(operations: int, kills: int, seed: int, directory: Path, stack: Stack | None = None) -> Report:
    """The storm from its beginning to a settled end."""
    started = time.monotonic()
    report = Report()
    mail = {address: [MailBytes(_mail(n)) for n in range(FIRST_MAILS)] for address in ADDRESSES}
    with GmailEmulator(mail, notification_interval_seconds=0.05) as emulator:
        also = {
            **by_pulling(emulator, directory),
            "DRAFT_QUIET_SECONDS": "2",
            "AUDIT_HOURS": "0",
            "AUDIT_REPAIR": "false",  # the topics must be right without anybody's repair
            "SOURCE_POLL_SECONDS": "2",
            "GMAIL_QUOTA_LIMITS": "off",
        }
        with pipeline(None, directory, stack=stack, gmail=emulator.describe(), also=also) as running:
            asyncio.run(_run(running, emulator, operations, kills, seed, report))
    report.seconds = round(time.monotonic() - started, 1)
    return report


async def _run(
    running: Pipeline, emulator: GmailEmulator, operations: int, kills: int, seed: int, report: Report
) -> None:
    plan = FaultPlan(parse_faults([{**fault, "seed": seed + n} for n, fault in enumerate(FAULTS)]))
    emulator.faults = plan
    storm = Storm(emulator, seed)
    await _storm(running, emulator, storm, operations, kills, report)
    report.faults = plan.struck()
    emulator.faults = FaultPlan()
    running.start()
    await _settled(running, emulator)
    report.operations = storm.counts
    await _compare(running, emulator, report)


async def _storm(
    running: Pipeline, emulator: GmailEmulator, storm: Storm, operations: int, kills: int, report: Report
) -> None:
    """Operations without a pause, while sources die in the midst of their work: once in a while they are
    three, and twice history is lost while nobody looks."""
    running.start()
    running.start("push")
    draws = random.Random(operations)
    async with Observer.open(running.settings) as observer:
        for number in range(kills):
            if number == kills // 3:
                running.start("source-2", "source-3")
                report.scalings += 1
            if number == 2 * kills // 3:
                for name, sent in (("source-2", signal.SIGTERM), ("source-3", signal.SIGKILL)):
                    running.kill(name, sent)
                    del running.processes[name]
                report.scalings += 1
            await _until_at_work(observer, storm, operations * (number + 1) // kills)
            await asyncio.sleep(draws.uniform(0.0, 1.0))
            victim = draws.choice([name for name in running.processes if name.startswith("source")])
            running.kill(victim)
            report.kills += 1
            if number in (1, kills - 2):
                for mailbox in emulator.mailboxes.values():
                    storm.operate()
                    mailbox.drop_history_before(mailbox.history_id)
            running.start(victim)


async def _until_at_work(observer: Observer, storm: Storm, operations: int) -> None:
    """Go on with operations until that many have been done and every mailbox has been read meanwhile."""
    begun = time.time() * 1000
    while True:
        for _ in range(5):
            storm.operate()
            await asyncio.sleep(0.02)
        try:
            boxes = (await observer.status()).mailboxes
        except UnavailableError:
            continue  # an index that was made just now has no shard yet
        at_work = len(boxes) == len(ADDRESSES) and all((box.updated_at or 0) > begun for box in boxes)
        if at_work and sum(storm.counts.values()) >= operations:
            return
        if time.time() * 1000 - begun > SETTLE_SECONDS * 1000:
            raise TimeoutError(f"the sources do nothing: {boxes}")


async def _settled(running: Pipeline, emulator: GmailEmulator) -> None:
    """Wait until every mailbox has been read to its end, and everything has come through."""
    deadline = time.monotonic() + SETTLE_SECONDS
    ends = {mailbox_id_of(box.address): box.history_id for box in emulator.mailboxes.values()}
    async with Observer.open(running.settings) as observer:
        while True:
            running.check()
            try:
                status = await observer.status()
            except UnavailableError:
                continue
            # Drafts that were held are out by then too: they move the cursor's record again.
            reached = all(
                (box.history_id or 0) >= ends[box.mailbox_id] and box.complete and not box.requests
                for box in status.mailboxes
            )
            if reached and status.settled and not await _held(running):
                await observer.refresh()
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not settled: {status}\n{running.log_tail('source')}")
            await asyncio.sleep(0.5)


async def _held(running: Pipeline) -> bool:
    latest = {cursor.mailbox_id: cursor for cursor in await _cursors(running)}
    return any(cursor.drafts for cursor in latest.values())


async def _cursors(running: Pipeline) -> list[Cursor]:
    """Every cursor that was written, those of a mailbox in their order."""
    records = await read_all(running.kafka_bootstrap, topics.CURSORS.name)
    return [Cursor.decode(value) for key, value in records if value and "/" not in key]


def merged(changes: list[MessageChange]) -> dict[str, dict[str, frozenset[str]]]:
    """Rule 3 over the two topics: live messages and their labels, by mailbox id."""
    states: dict[tuple[str, str], MessageState] = {}
    seen: dict[tuple[str, str], tuple[int, int]] = {}
    for change in changes:
        key = (change.mailbox_id, change.message_id)
        state = states.setdefault(key, MessageState())
        states[key] = state.join(_registers(change))
        if change.kind is ChangeKind.UPSERT:
            seen[key] = max(seen.get(key, (0, 0)), (change.epoch, change.history_id))
    live: dict[str, dict[str, frozenset[str]]] = {}
    for (mailbox_id, message_id), state in states.items():
        deleted = (state.deleted.epoch, state.deleted.history_id) if state.deleted else (-1, -1)
        observed = max(state.observed or (0, 0), seen.get((mailbox_id, message_id), (0, 0)))
        if observed > deleted:
            live.setdefault(mailbox_id, {})[message_id] = state.label_ids
    return live


def _registers(change: MessageChange) -> Iterator[Any]:
    common: dict[str, Any] = {
        "mailbox_id": change.mailbox_id,
        "message_id": change.message_id,
        "epoch": change.epoch,
        "history_id": change.history_id,
    }
    if change.kind in (ChangeKind.LABELS, ChangeKind.UPSERT):
        if change.label_ids is not None:
            yield LabelsRegister(**common, label_ids=change.label_ids)
    elif change.kind is ChangeKind.DELETE:
        yield DeletedRegister(**common)
    else:
        for label_id in change.label_ids or ():
            yield LabelRegister(**common, label_id=label_id, present=change.kind is ChangeKind.LABEL_ADDED)


async def _compare(running: Pipeline, emulator: GmailEmulator, report: Report) -> None:
    changes = []
    for topic in (topics.CHANGES.name, topics.BACKFILL.name):
        for _, value in await read_all(running.kafka_bootstrap, topic):
            change = MessageChange.decode(value or b"")
            changes.append(change)
            report.events[f"{topic.split('.')[1]} {change.kind}"] += 1
    cursors = await _cursors(running)
    report.resyncs = len({cursor.listing.run for cursor in cursors if cursor.listing.kind == "resync"})
    live = merged(changes)
    indexed: dict[str, dict[str, frozenset[str]]] = {}
    for document in (await asyncio.to_thread(documents, running)).values():
        if document["kind"] == "message":
            box = indexed.setdefault(document["mailbox_id"], {})
            box[document["message_id"]] = frozenset(document.get("label_ids", ()))
    for mailbox in emulator.mailboxes.values():
        mailbox_id = mailbox_id_of(mailbox.address)
        truth = {key: frozenset(value["labels"]) for key, value in mailbox.truth().items()}
        report.messages += len(truth)
        report.differing += _differences(truth, live.get(mailbox_id, {}))
        report.unindexed += _differences(truth, indexed.get(mailbox_id, {}))


def _differences(truth: dict[str, frozenset[str]], found: dict[str, frozenset[str]]) -> list[str]:
    return [
        f"{key}: {sorted(truth[key]) if key in truth else 'gone'} in Gmail,"
        f" {sorted(found[key]) if key in found else 'absent'} here"
        for key in sorted(truth.keys() | found.keys())
        if truth.get(key) != found.get(key)
    ]


def failures(report: Report, operations: int, faults: int, kills: int, resyncs: int) -> list[str]:
    """Why a run does not count, or what it found."""
    happened = {
        "operations": (sum(report.operations.values()), operations),
        "faults": (sum(report.faults.values()), faults),
        "kills": (report.kills, kills),
        "resyncs": (report.resyncs, resyncs),
        "scalings": (report.scalings, 2),
    }
    found = [f"only {had} {name}, not {least}" for name, (had, least) in happened.items() if had < least]
    found += [f"topics: {line}" for line in report.differing[:20]]
    return found + [f"index: {line}" for line in report.unindexed[:20]]


def main() -> None:
    """Run it at the size that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report = run(arguments.operations, arguments.kills, arguments.seed, Path(directory))
    found = failures(report, arguments.operations, 200, min(arguments.kills, 10), 1)
    summary = {**vars(report), "differing": len(report.differing), "unindexed": len(report.unindexed)}
    sys.stdout.write("\n".join([json.dumps(summary), *found]) + "\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
