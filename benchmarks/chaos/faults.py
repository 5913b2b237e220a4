"""Which fault comes when: a schedule out of a seed, and how each is brought about."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.plants import SharedClock
from benchmarks.chaos.proxy import Proxy
from cli.forks import Fork
from cli.pipeline import Pipeline
from devstack.gmail.faults import FaultPlan, parse_faults
from devstack.gmail.server import GmailEmulator
from devstack.programs import DevstackError
from devstack.servers import Server, paused

# How often each kind comes in a round; then they are shuffled.
PER_ROUND = {
    "kill": 4,
    "terminate": 2,
    "pause": 2,
    "kill server": 1,
    "stop server": 1,
    "pause server": 1,
    "cut": 1,
    "slow": 1,
    "fill": 1,
    "clock": 1,
    "gmail": 1,
    "history": 1,
}
JUMP_SECONDS = 3_600.0
TERM_SECONDS = 40.0  # the workers' own grace and a busy machine's
GMAIL_FAULTS: list[dict[str, Any]] = [
    {"kind": "empty_history_page", "probability": 0.3},
    {"kind": "stale_page_token", "probability": 0.2},
    {"kind": "rate_limit", "status": 429, "reason": "userRateLimitExceeded", "probability": 0.05},
    {"kind": "rate_limit", "status": 403, "method": "history.list", "probability": 0.1},
    {"kind": "rate_limit", "status": 429, "retry_after_seconds": 1, "probability": 0.02},
    {"kind": "server_error", "probability": 0.1},
    {"kind": "connection_reset", "probability": 0.1},
    {"kind": "reset_mid_body", "probability": 0.1},
    {"kind": "slow_body", "seconds": 1.0, "probability": 0.1},
    {"kind": "gone_between_list_and_get", "probability": 0.02},
    {"kind": "body_behind_attachment_id", "probability": 0.1},
    {"kind": "bandwidth", "seconds": 3.0, "probability": 0.02},
    {"kind": "push_dropped", "probability": 0.3},
    {"kind": "push_duplicated", "copies": 5, "probability": 0.3},
]


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault: what happens to whom, how long after the one before, for how long."""

    number: int
    kind: str
    target: str
    wait_seconds: float
    lasts_seconds: float
    seed: int


@dataclass(slots=True)
class Happened:
    """What became of it; seconds since the run began. ``note`` says why nothing did."""

    planned: Planned
    began_seconds: float
    ended_seconds: float = 0.0
    happened: bool = False
    note: str = ""


def schedule(
    seed: int, targets: Mapping[str, Sequence[str]], longest_seconds: float = 15.0
) -> Iterator[Planned]:
    """One fault after the other, without end; of ``targets`` (by kind) each as often as the others."""
    draws = random.Random(seed)
    bags: dict[str, list[str]] = {}
    number = 0
    while True:
        kinds = [kind for kind, count in PER_ROUND.items() if targets.get(kind) for _ in range(count)]
        draws.shuffle(kinds)
        for kind in kinds:
            if not bags.get(kind):
                bags[kind] = draws.sample(targets[kind], len(targets[kind]))
            number += 1
            yield Planned(
                number,
                kind,
                bags[kind].pop(),
                round(draws.uniform(0.5, max(longest_seconds / 3, 1.0)), 2),
                round(draws.uniform(1.0, longest_seconds), 2),
                draws.randrange(2**31),
            )


@dataclass
class Scene:
    """All that can be hurt."""

    running: Pipeline
    processes: Sequence[str]
    servers: Mapping[str, Server]
    proxies: Mapping[str, Proxy]
    emulator: GmailEmulator
    clock: SharedClock
    temporary: Path | None  # a small tmpfs that may be filled
    lock: threading.RLock = field(default_factory=threading.RLock)  # of ``running.processes``
    findings: list[str] = field(default_factory=list)
    struck: dict[str, int] = field(default_factory=dict)  # what Gmail has refused, by kind of fault
    _lasting: list[threading.Thread] = field(default_factory=list)

    def targets(self) -> dict[str, Sequence[str]]:
        """Whom each kind of fault may hit."""
        servers, links = list(self.servers), list(self.proxies)
        return {
            **dict.fromkeys(("kill", "terminate", "pause"), self.processes),
            **dict.fromkeys(("kill server", "stop server", "pause server"), servers),
            **dict.fromkeys(("cut", "slow"), links),
            "fill": ["temporary directory"] if self.temporary is not None else [],
            "clock": ["1 h ahead", "1 h behind"],
            "gmail": ["gmail"],
            "history": ["gmail"],
        }

    def bring_about(self, fault: Planned, happened: Happened, now: Callable[[], float]) -> None:
        """Do it. Kills and pauses are over when this returns, others go on beside what comes next."""
        acts: dict[str, Callable[[Planned], str | AbstractContextManager[None]]] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "pause": self._pause,
            "kill server": self._kill_server,
            "stop server": self._stop_server,
            "pause server": self._pause_server,
            "cut": lambda fault: self.proxies[fault.target].cut(),
            "slow": lambda fault: self.proxies[fault.target].slow(0.05 + fault.lasts_seconds / 100),
            "fill": self._fill,
            "clock": self._clock,
            "gmail": self._gmail,
            "history": self._history,
        }
        try:
            act = acts[fault.kind](fault)
        except (DevstackError, OSError) as error:
            happened.note, happened.ended_seconds = str(error).splitlines()[0], now()
            return
        if isinstance(act, str):
            happened.note, happened.happened, happened.ended_seconds = act, not act, now()
            return
        lasting = threading.Thread(target=self._last, args=(act, fault, happened, now), daemon=True)
        lasting.start()
        self._lasting.append(lasting)

    def _last(
        self,
        act: AbstractContextManager[None],
        fault: Planned,
        happened: Happened,
        now: Callable[[], float],
    ) -> None:
        before = self._count(fault)
        with act:
            time.sleep(fault.lasts_seconds)
        happened.happened = self._count(fault) > before
        happened.note = "" if happened.happened else "nobody met it"
        happened.ended_seconds = now()

    def _count(self, fault: Planned) -> int:
        """How often what lasts has been met."""
        if fault.kind in ("cut", "slow"):
            proxy = self.proxies[fault.target]
            return proxy.cuts if fault.kind == "cut" else proxy.delays
        return sum(self.struck.values()) if fault.kind == "gmail" else time.monotonic_ns()

    def finish(self) -> None:
        """Everything is as it was: what lasts has ended, servers and processes run."""
        for lasting in self._lasting:
            lasting.join()
        self._lasting.clear()
        self.clock.jump(0.0)
        for server in self.servers.values():
            server.start()
            server.wait_until_ready()

    # --- processes -----------------------------------------------------------------------------------

    def _kill(self, fault: Planned) -> str:
        with self.lock:
            process = self.running.processes[fault.target]
            if process.poll() is not None:
                return "it did not run"
            process.send_signal(signal.SIGKILL)
            process.wait(TERM_SECONDS)
            self.running.start(fault.target)
        return ""

    def _terminate(self, fault: Planned) -> str:
        process = self.running.processes[fault.target]
        if not self._runs(process):
            return "it did not run"
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + TERM_SECONDS
        while self._runs(process) and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._runs(process):
            self.findings.append(f"{fault.target} did not end within {TERM_SECONDS:.0f} s of SIGTERM")
            process.kill()
        return ""

    def _pause(self, fault: Planned) -> str:
        process = self.running.processes[fault.target]
        if not self._runs(process):
            return "it did not run"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(fault.lasts_seconds)
        os.kill(process.pid, signal.SIGCONT)
        return ""

    def _runs(self, process: Fork) -> bool:
        with self.lock:  # two threads that ask at once: one of them would read no exit code
            return process.poll() is None

    # --- servers -------------------------------------------------------------------------------------

    def _kill_server(self, fault: Planned) -> str:
        server = self.servers[fault.target]
        server.kill()
        return self._again(server, fault)

    def _stop_server(self, fault: Planned) -> str:
        server = self.servers[fault.target]
        server.stop()
        return self._again(server, fault)

    @staticmethod
    def _again(server: Server, fault: Planned) -> str:
        time.sleep(fault.lasts_seconds / 3)
        server.start()
        server.wait_until_ready()
        return ""

    def _pause_server(self, fault: Planned) -> str:
        with paused(self.servers[fault.target]):
            time.sleep(fault.lasts_seconds)
        return ""

    # --- what lasts ----------------------------------------------------------------------------------

    def _fill(self, fault: Planned) -> AbstractContextManager[None]:
        assert self.temporary is not None, "it is no target then"
        return _filled(self.temporary / f"filler-{fault.number}")

    @contextmanager
    def _clock(self, fault: Planned) -> Iterator[None]:
        self.clock.jump(JUMP_SECONDS if fault.target == "1 h ahead" else -JUMP_SECONDS)
        try:
            yield
        finally:
            self.clock.jump(0.0)

    @contextmanager
    def _gmail(self, fault: Planned) -> Iterator[None]:
        faults = [{**one, "seed": fault.seed + number} for number, one in enumerate(GMAIL_FAULTS)]
        plan = FaultPlan(parse_faults(faults))
        self.emulator.faults = plan
        try:
            yield
        finally:
            self.emulator.faults = FaultPlan()
            for kind, count in plan.struck().items():
                self.struck[kind] = self.struck.get(kind, 0) + count

    def _history(self, fault: Planned) -> str:
        """What happens while no source runs is forgotten before one looks: a resync is the only way on."""
        names = [name for name in self.processes if name.startswith("source")]
        with self.lock, ExitStack() as again:
            for name in names:
                process = self.running.processes[name]
                process.kill()
                process.wait(TERM_SECONDS)
                again.callback(self.running.start, name)
            time.sleep(1.0)
            for mailbox in self.emulator.mailboxes.values():
                mailbox.drop_history_before(mailbox.history_id)
        return ""


@contextmanager
def _filled(path: Path) -> Iterator[None]:
    """Within the block the file system of ``path`` has no byte left."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    filling = threading.Event()

    def fill() -> None:
        # What others free is taken, too.
        while not filling.wait(0.1):
            free = os.fstatvfs(descriptor)
            size = free.f_bavail * free.f_frsize
            if size:
                try:
                    os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
                except OSError:
                    continue

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        filling.set()
        thread.join()
        path.unlink(missing_ok=True)
        os.close(descriptor)
