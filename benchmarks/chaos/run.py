"""One run: a deployment on real servers, mail that changes, faults in between, and what the oracle says."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.chaos import oracle, plants
from benchmarks.chaos.faults import Happened, Planned, Scene, schedule
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.world import Letters, Traffic, mailboxes
from cli.pipeline import Pipeline, mailbox_id_of
from cli.status import Observer, Status
from connectors.clamav_check import EICAR
from connectors.errors import MailstreamError
from connectors.kafka import read_table
from devstack import local
from devstack.clamd import clamd_server
from devstack.gmail.faults import FaultPlan, parse_faults
from devstack.gmail.server import GmailEmulator
from devstack.servers import Server
from devstack.stack import Stack, open_stack
from schemas import topics
from schemas.events import Cursor
from streams.reaper import reap

TOPIC, SUBSCRIPTION = "projects/p/topics/gmail", "projects/p/subscriptions/mailstream"
SIGNATURES = {"test.ndb": f"Eicar-Test:0:*:{EICAR.hex()}\n"}
# At its start clamd unpacks what is as large as its limit: 200 MiB.
TEMPORARY_MEBIBYTES = 320
SETTLE_SECONDS = 240.0  # without anything coming on
REAPED_AFTER_SECONDS = 1.0
SAMPLE_SECONDS = 1.0
SUPERVISE_SECONDS = 0.25
RESTART_SECONDS = 1.0
# A file that a parser or clamd has left is gone after 30 s, and with the reaper's next round.
OLDEST_FILE_SECONDS = 75.0
TWICE = ("source", "extract", "slow", "index", "push", "reap", "serve", "source-2", "extract-2", "index-2")
ONCE = ("source", "extract", "slow", "index", "push", "reap")
EPHEMERAL = "ephemeral"  # the directory of that in the small file system
GARBAGE = b"\xffnothing that anybody wrote"


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a run is. ``messages`` counts those that were there first and those that came."""

    seed: int = 1
    faults: int = 30
    messages: int = 300
    mailboxes: int = 3
    operations_per_second: float = 4.0
    processes: Sequence[str] = TWICE
    scanner: bool = True
    encoder: str = "hash"
    kinds: tuple[str, ...] | None = None  # of faults; None: all
    targets: tuple[str, ...] | None = None  # of processes and servers; None: all
    longest_seconds: float = 15.0  # that a pause or a cut lasts
    settle_seconds: float = SETTLE_SECONDS
    always: tuple[dict[str, Any], ...] = ()  # faults that Gmail has all along, see devstack.gmail.faults
    bug: str | None = None


@dataclass(slots=True)
class Sample:
    """How things stood: messages in the mailboxes, and shown by the index (None: it did not answer)."""

    seconds: float
    messages: int
    shown: int | None


@dataclass
class Report:
    """What happened, and what did not agree in the end. ``void`` says why the run proves nothing."""

    plan: Plan
    faults: list[Happened] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    struck: dict[str, int] = field(default_factory=dict)
    deaths: list[tuple[float, str, int, str]] = field(default_factory=list)  # nobody killed them
    samples: list[Sample] = field(default_factory=list)
    messages: int = 0  # that there ever were
    live: int = 0
    attachments: int = 0  # of those that are live
    poison: int = 0
    violations: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # pictures that the machine was too busy to read in time
    seconds: float = 0.0
    stormed_seconds: float = 0.0

    @property
    def happened(self) -> int:
        """Faults that took place."""
        return sum(fault.happened for fault in self.faults)

    @property
    def void(self) -> list[str]:
        """Why it does not count."""
        found = []
        if self.happened < self.plan.faults:
            found.append(f"only {self.happened} of {self.plan.faults} faults happened")
        if self.messages < self.plan.messages:
            found.append(f"only {self.messages} of {self.plan.messages} messages")
        return found

    @property
    def clean(self) -> bool:
        """Whether it counts, and everything agreed."""
        return not self.void and not self.violations


def run(
    plan: Plan,
    directory: Path,
    stack: Stack,
    kafka_proxy: Proxy | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """A run over ``stack``, whose topics and index are empty; its clients go through ``kafka_proxy``."""
    report = Report(plan)
    with ExitStack() as opened:
        storm = opened.enter_context(_prepared(plan, directory, stack, kafka_proxy, report, opened))
        started = time.monotonic()
        storm.go(say)
        report.stormed_seconds = time.monotonic() - started
        say("settling")
        storm.settle()
        storm.compare()
        report.seconds = time.monotonic() - started
        storm.end()
    return report


@contextmanager
def proxied_stack() -> Iterator[tuple[Stack, Proxy]]:
    """Servers of one's own, the broker behind a proxy that it names as its own address."""
    broker, controller, front = local.free_ports(3)
    proxy = Proxy(broker, front)
    proxy.start()
    try:
        stack = open_stack(
            "maven",
            brief=True,
            known={"kafka": {"ports": [broker, controller]}},
            kafka_settings={"advertised.listeners": f"PLAINTEXT://{local.HOST}:{front}"},
        )
        try:
            yield stack, proxy
        finally:
            stack.stop()
    finally:
        proxy.stop()


@contextmanager
def _prepared(
    plan: Plan,
    directory: Path,
    stack: Stack,
    kafka_proxy: Proxy | None,
    report: Report,
    opened: ExitStack,
) -> Iterator[Storm]:
    marker = secrets.token_bytes(24)
    letters = Letters(plan.seed, marker, infected=plan.scanner)
    first = max(plan.messages // 2, plan.mailboxes)
    emulator = GmailEmulator(
        mailboxes(plan.mailboxes, first, letters), notification_interval_seconds=0.05
    ).start()
    emulator.faults = FaultPlan(parse_faults(list(plan.always)))
    opened.callback(emulator.stop)
    emulator.pubsub.subscribe(SUBSCRIPTION, {"topic": TOPIC})
    temporary = opened.enter_context(_small_file_system(directory / "memory"))
    ephemeral, others = temporary.path / EPHEMERAL, temporary.path / "tmp"
    for path in (ephemeral, others):
        path.mkdir(mode=0o700)
    proxies = {
        "gmail": Proxy(int(emulator.url.rpartition(":")[2])),
        "elasticsearch": Proxy(int(stack.elasticsearch_url.rpartition(":")[2])),
    }
    servers: dict[str, Server] = {"kafka": stack.kafka, "elasticsearch": stack.elasticsearch}
    if plan.scanner:
        clamd = clamd_server(directory / "clamd", ephemeral, SIGNATURES)
        opened.callback(clamd.kill)
        clamd.start()
        clamd.wait_until_ready()
        servers["clamd"] = clamd
        proxies["clamd"] = Proxy(directory / "clamd" / "clamd.sock")
    for proxy in proxies.values():
        proxy.start()
        opened.callback(proxy.stop)
    if kafka_proxy is not None:
        proxies["kafka"] = kafka_proxy
    also = {
        **_pubsub(emulator, directory),
        "ELASTICSEARCH_URL": f"http://{local.HOST}:{proxies['elasticsearch'].port}",
        "EPHEMERAL_DIRECTORY": str(ephemeral),
        "TMPDIR": str(others),
        "DRAFT_QUIET_SECONDS": "2",
        "AUDIT_HOURS": "0",  # the topics must be right without anybody's repair
        "AUDIT_REPAIR": "false",
        "SOURCE_POLL_SECONDS": "2",
        "PARSER_PROCESSES": "1",
        "SERVE_PORT": str(local.free_ports(1)[0]),
    }
    if plan.scanner:
        also |= {"SCANNER": "clamd", "CLAMD_ADDRESS": f"{local.HOST}:{proxies['clamd'].port}"}
    clock = plants.SharedClock(directory / "clock")
    described = {**emulator.describe(), "url": f"http://{local.HOST}:{proxies['gmail'].port}"}
    bootstrap = f"{local.HOST}:{kafka_proxy.port}" if kafka_proxy is not None else stack.kafka_bootstrap
    with Pipeline(
        bootstrap,
        stack.elasticsearch_url,
        [],
        directory / "run",
        encoder=plan.encoder,
        gmail=described,
        also=also,
        before=plants.before(clock.path, plan.bug),
    ) as running:
        scene = Scene(
            running,
            plan.processes,
            servers,
            proxies,
            emulator,
            clock,
            temporary.path if temporary.is_small else None,
        )
        yield Storm(plan, stack, scene, letters, temporary.path, report)


def _pubsub(emulator: GmailEmulator, directory: Path) -> dict[str, str]:
    key_file = directory / "service-account.json"
    key_file.write_text(json.dumps(emulator.service_account_info()))
    return {
        "GMAIL_PUBSUB_TOPIC": TOPIC,
        "PUBSUB_SUBSCRIPTION": SUBSCRIPTION,
        "PUBSUB_ENDPOINT": emulator.url,
        "GOOGLE_CREDENTIALS_FILE": str(key_file),
        "GMAIL_QUOTA_LIMITS": "off",
    }


@dataclass(frozen=True, slots=True)
class _FileSystem:
    path: Path
    is_small: bool


@contextmanager
def _small_file_system(path: Path) -> Iterator[_FileSystem]:
    """A tmpfs of its own; where nobody may mount one, a directory in memory that cannot be filled."""
    path.mkdir(mode=0o700)
    options = f"size={TEMPORARY_MEBIBYTES}m,mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        try:
            yield _FileSystem(path, True)
        finally:
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)
        return
    in_memory = Path("/dev/shm") / f"mailstream-chaos-{os.getpid()}-{secrets.token_hex(4)}"
    in_memory.mkdir(mode=0o700)
    try:
        yield _FileSystem(in_memory, False)
    finally:
        subprocess.run(["rm", "-rf", str(in_memory)], check=False)


class Storm:
    """Traffic, supervision, samples and faults of one run."""

    def __init__(
        self, plan: Plan, stack: Stack, scene: Scene, letters: Letters, memory: Path, report: Report
    ) -> None:
        self._plan = plan
        self._stack = stack
        self._scene = scene
        self._letters = letters
        self._memory = memory
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
        """Wait until everything has arrived. What never does is a violation."""
        try:
            asyncio.run(settled(self._scene.running, self._scene.emulator, self._plan.settle_seconds))
        except TimeoutError as error:
            self._report.violations.append(f"it does not settle: {error}")

    def compare(self) -> None:
        """Ask the oracle, then end everything and look what is left."""
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
        """End every process in order, and look for files that stay."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._scene.running.stop()
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
    status: Status | None = None
    while True:
        try:
            async with Observer.open(running.settings) as observer:
                while True:
                    known, status = status, await observer.status()
                    if known != status:
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
                raise TimeoutError(f"the servers do not answer: {status}") from None
            await asyncio.sleep(0.5)


async def _held(running: Pipeline) -> bool:
    cursors = await read_table(running.kafka_bootstrap, topics.CURSORS.name)
    return any(Cursor.decode(value).drafts for key, value in cursors.items() if "/" not in key)


def as_json(report: Report) -> dict[str, Any]:
    """The report's numbers."""
    return {
        "seed": report.plan.seed,
        "faults": report.happened,
        "messages": report.messages,
        "live": report.live,
        "attachments": report.attachments,
        "mailboxes": report.plan.mailboxes,
        "operations": sum(report.operations.values()),
        "gmail_faults": sum(report.struck.values()),
        "poison": report.poison,
        "deaths": len(report.deaths),
        "storm_seconds": round(report.stormed_seconds, 1),
        "seconds": round(report.seconds, 1),
        "void": report.void,
        "late": len(report.late),
        "violations": len(report.violations),
    }
