"""One run: a deployment on real servers, mail that changes, faults in between, and what the oracle says."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaProducer

from benchmarks.chaos import oracle
from benchmarks.chaos.faults import Happened, Planned, schedule
from benchmarks.chaos.ground import EPHEMERAL, Ground, prepared
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.report import SETTLE_SECONDS, Plan, Report, Sample
from benchmarks.chaos.world import Traffic
from cli.pipeline import Pipeline, mailbox_id_of
from cli.status import Observer, Status
from connectors.errors import MailstreamError
from connectors.kafka import Producer, read_table
from devstack import local
from devstack.gmail.faults import FaultPlan
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from schemas.events import Cursor
from streams.attempts import MAX_DEATHS
from streams.letter_box import LetterBox
from streams.reaper import reap

REAPED_AFTER_SECONDS = 1.0
SAMPLE_SECONDS = 1.0
SUPERVISE_SECONDS = 0.25
RESTART_SECONDS = 1.0
# A file that a parser or clamd has left is gone after 30 s, and with the reaper's next round.
OLDEST_FILE_SECONDS = 75.0
GARBAGE = b"\xffnothing that anybody wrote"


def run(
    plan: Plan,
    directory: Path,
    stack: Stack,
    kafka_proxy: Proxy | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """A run over ``stack``, whose topics and index are empty; its clients go through ``kafka_proxy``."""
    report = Report(plan)
    with prepared(plan, directory, stack, kafka_proxy) as ground:
        storm = Storm(plan, stack, ground, report)
        started = time.monotonic()
        try:
            storm.go(say)
            report.stormed_seconds = time.monotonic() - started
            say("settling")
            storm.settle()
            storm.compare()
            report.seconds = time.monotonic() - started
        finally:
            storm.end()
        storm.look_for_files()
    return report


class Storm:
    """Traffic, supervision, samples and faults of one run."""

    def __init__(self, plan: Plan, stack: Stack, ground: Ground, report: Report) -> None:
        self._plan = plan
        self._stack = stack
        self._scene = ground.scene
        self._letters = ground.letters
        self._memory = ground.memory
        self._report = report
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._poison: list[oracle.Place] = []
        self._oldest: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._supervise, self._sample)
        ]

    def go(self, say: Callable[[str], None]) -> None:
        """Let as many faults happen as the plan asks for, and as many messages arrive."""
        plan, scene, report = self._plan, self._scene, self._report
        scene.running.start(*plan.processes)
        for thread in self._threads:
            thread.start()
        traffic = Traffic(scene.emulator, self._letters, plan.seed, plan.operations_per_second)
        traffic.start()
        self._until_begun()
        draws = random.Random(plan.seed)
        try:
            for planned in schedule(plan.seed, self._targets(), plan.longest_seconds):
                if report.happened >= plan.faults or planned.number > 2 * plan.faults + 10:
                    break
                time.sleep(planned.wait_seconds)
                if planned.number % max(plan.faults // 4, 1) == 0:
                    self._poison_something(draws)
                self._bring_about(planned, say)
            there, grown_at = 0, time.monotonic()
            while there < plan.messages and time.monotonic() < grown_at + SETTLE_SECONDS:
                time.sleep(0.2)
                if len(self._letters.expected) > there:
                    there, grown_at = len(self._letters.expected), time.monotonic()
        finally:
            traffic.enough()
            scene.finish()
            report.operations, report.struck = traffic.counts, scene.struck
        scene.emulator.faults = FaultPlan()
        report.messages = len(self._letters.expected)

    def _until_begun(self) -> None:
        """Wait until the first message is shown: before that, faults would hit processes that only start."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not any(sample.shown for sample in self._report.samples) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _targets(self) -> dict[str, Sequence[str]]:
        targets = self._scene.targets()
        if self._plan.kinds is not None:
            targets = {kind: names for kind, names in targets.items() if kind in self._plan.kinds}
        if self._plan.targets is not None:
            wanted = self._plan.targets
            targets = {kind: [name for name in names if name in wanted] for kind, names in targets.items()}
        return targets

    def _now(self) -> float:
        return round(time.monotonic() - self._started, 2)

    def _bring_about(self, planned: Planned, say: Callable[[str], None]) -> None:
        happened = Happened(planned, self._now())
        self._report.faults.append(happened)
        self._scene.bring_about(planned, happened, self._now)
        said = f" ({happened.note})" if happened.note else ""
        say(f"{happened.began_seconds:7.1f} s  {planned.kind} {planned.target}{said}")

    def _poison_something(self, draws: random.Random) -> None:
        """A record that nobody can read, in one of the topics that workers consume."""
        topic = draws.choice([topics.CHANGES, topics.BACKFILL, topics.DEFERRED, topics.DOCUMENTS]).name
        try:
            self._poison.append(asyncio.run(_send_garbage(self._stack.kafka_bootstrap, topic)))
        except OSError as error:
            self._scene.findings.append(f"the poison was not sent: {error}")

    # --- beside it -----------------------------------------------------------------------------------

    def _supervise(self) -> None:
        """Start again what has ended, as a supervisor does; note what nobody has ended."""
        while not self._ended.wait(SUPERVISE_SECONDS):
            for name in self._plan.processes:
                with self._scene.lock:
                    process = self._scene.running.processes[name]
                    code = process.poll()
                    if code is None:
                        continue
                    if code not in (0, -signal.SIGTERM):
                        last = self._scene.running.log_tail(name).splitlines()
                        said = next((line for line in reversed(last) if line.strip()), "")
                        self._report.deaths.append((self._now(), name, code, said))
                        time.sleep(RESTART_SECONDS)
                    if not self._ended.is_set():
                        self._scene.running.start(name)

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._look_at_files()
            try:
                query = {
                    "query": {"bool": {"filter": [{"term": {"live": True}}, {"term": {"kind": "message"}}]}}
                }
                answer = oracle.ask(self._stack.elasticsearch_url, "/mail-read/_count", query, 2.0)
                shown: int | None = answer["count"]
            except OSError:
                shown = None
            messages = sum(len(box.messages()) for box in self._scene.emulator.mailboxes.values())
            self._report.samples.append(Sample(self._now(), messages, shown))

    def _look_at_files(self) -> None:
        """Files in memory, and for how long we have seen each."""
        now = time.monotonic()
        there = {line for line in oracle.files_below(self._memory) if not line.startswith("filler-")}
        self._oldest = {line: self._oldest.get(line, now) for line in there}
        for line, since in self._oldest.items():
            if now - since > OLDEST_FILE_SECONDS and not any(line in said for said in self._scene.findings):
                self._scene.findings.append(f"files: {line} has lain there for {now - since:.0f} s")

    # --- the end -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until everything has arrived, also what had to be replayed. What never does is a violation."""
        scene, seconds = self._scene, self._plan.settle_seconds
        try:
            asyncio.run(settled(scene.running, scene.emulator, seconds))
            self._report.replayed = asyncio.run(self._replay_unlucky())
            if self._report.replayed:
                asyncio.run(settled(scene.running, scene.emulator, seconds))
        except TimeoutError as error:
            self._report.violations.append(f"it does not settle: {error}")

    async def _replay_unlucky(self) -> int:
        """Replay, as an operator would, what was under way at so many of our kills that it was taken for
        their cause; returns how many events. Where we did not kill so often, somebody else did."""
        kills = Counter(
            fault.planned.target.partition("-")[0]
            for fault in self._report.faults
            if fault.happened and fault.planned.kind == "kill"
        )
        kafka = self._stack.kafka_bootstrap
        async with LetterBox.open(kafka) as box, Producer(kafka) as producer:
            unlucky = [
                one
                for one in box.waiting()
                if one.letter.error_class == "worker_killed" and kills[one.letter.stage] >= MAX_DEATHS
            ]
            await box.replay(producer, unlucky)
        return len(unlucky)

    def compare(self) -> None:
        """Ask the oracle."""
        scene, report = self._scene, self._report
        boxes = {mailbox_id_of(box.address): box for box in scene.emulator.mailboxes.values()}
        truth = oracle.Truth.of(boxes, self._letters.expected, self._poison)
        report.live, report.poison = len(truth.labels), len(truth.poison)
        report.attachments = sum(len(one.attachments) for one in truth.expected.values())
        found = asyncio.run(
            oracle.violations(self._stack.kafka_bootstrap, self._stack.elasticsearch_url, truth)
        )
        report.late = [line for line in found if line.startswith(oracle.LATE)]
        report.violations += [line for line in found if not line.startswith(oracle.LATE)]
        if "serve" in self._plan.processes:
            port = scene.running.environment["SERVE_PORT"]
            try:
                oracle.answers(f"http://{local.HOST}:{port}/readyz")
            except OSError as error:
                report.violations.append(f"serve does not answer: {error}")

    def end(self) -> None:
        """End every process in order, and whoever would start it again."""
        self._ended.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._scene.running.stop()

    def look_for_files(self) -> None:
        """Nothing may stay in memory."""
        # What a killed parser has left may lie there for 30 s: that is not waited for here.
        time.sleep(REAPED_AFTER_SECONDS)
        reap(self._memory / EPHEMERAL, REAPED_AFTER_SECONDS)
        left = oracle.files_below(self._memory)
        self._report.violations += [f"files: {line} is left" for line in left]
        self._report.violations += self._scene.findings


async def _send_garbage(kafka: str, topic: str) -> oracle.Place:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        where = await producer.send_and_wait(topic, GARBAGE, key=secrets.token_hex(8).encode())
    finally:
        await producer.stop()
    return (where.topic, where.partition, where.offset)


async def settled(
    running: Pipeline, emulator: GmailEmulator, timeout_seconds: float = SETTLE_SECONDS
) -> Status:
    """Wait until every mailbox has been read to its end, no draft is held and nothing waits. Raises
    TimeoutError where nothing has come on for so long."""
    deadline = time.monotonic() + timeout_seconds
    ends = {mailbox_id_of(box.address): box.history_id for box in emulator.mailboxes.values()}
    known: Status | None = None
    while True:
        try:
            async with Observer.open(running.settings) as observer:
                while True:
                    status = await observer.status()
                    before, known = known, _still(status)
                    if known != before:
                        deadline = time.monotonic() + timeout_seconds
                    reached = all(
                        (box.history_id or 0) >= ends[box.mailbox_id] and box.complete and not box.requests
                        for box in status.mailboxes
                    )
                    if reached and status.settled and status.mailboxes and not await _held(running):
                        return status
                    if time.monotonic() > deadline:
                        raise TimeoutError(str(status))
                    await asyncio.sleep(0.5)
        except MailstreamError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the servers do not answer: {known}") from None
            await asyncio.sleep(0.5)


def _still(status: Status) -> Status:
    """A status without what a source goes on writing while it only waits."""
    boxes = [replace(box, updated_at=None, quota_units=None) for box in status.mailboxes]
    return replace(status, mailboxes=boxes)


async def _held(running: Pipeline) -> bool:
    cursors = await read_table(running.kafka_bootstrap, topics.CURSORS.name)
    return any(Cursor.decode(value).drafts for key, value in cursors.items() if "/" not in key)
