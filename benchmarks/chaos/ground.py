"""What a run stands on: real servers, an emulated Gmail, proxies before them, a pipeline through these."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos import plants
from benchmarks.chaos.faults import Scene
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.report import Plan
from benchmarks.chaos.world import Letters, mailboxes
from cli.pipeline import Pipeline
from connectors.clamav_check import EICAR
from devstack import local
from devstack.clamd import clamd_server
from devstack.gmail.faults import FaultPlan, parse_faults
from devstack.gmail.server import GmailEmulator
from devstack.servers import Server
from devstack.stack import Stack, open_stack
from tests.pushes import by_pulling

SIGNATURES = {"test.ndb": f"Eicar-Test:0:*:{EICAR.hex()}\n"}
# At its start clamd unpacks what is as large as its limit: 200 MiB.
TEMPORARY_MEBIBYTES = 320
EPHEMERAL = "ephemeral"  # the directory of that in the small file system


@dataclass(frozen=True, slots=True)
class Ground:
    """Where faults happen, the mail that comes, and the directory in memory that is empty in the end."""

    scene: Scene
    letters: Letters
    memory: Path


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
def prepared(plan: Plan, directory: Path, stack: Stack, kafka_proxy: Proxy | None) -> Iterator[Ground]:
    """A pipeline that has not begun, and reaches each server by way of a proxy; Kafka, where one is given."""
    letters = Letters(plan.seed, secrets.token_bytes(24), infected=plan.scanner)
    first = mailboxes(plan.mailboxes, max(plan.messages // 2, plan.mailboxes), letters)
    with ExitStack() as opened:
        emulator = opened.enter_context(GmailEmulator(first, notification_interval_seconds=0.05))
        emulator.faults = FaultPlan(parse_faults(list(plan.always)))
        memory = opened.enter_context(_small_file_system(directory / "memory"))
        for name in (EPHEMERAL, "tmp"):
            (memory.path / name).mkdir(mode=0o700)
        servers: dict[str, Server] = {"kafka": stack.kafka, "elasticsearch": stack.elasticsearch}
        proxies = {
            "gmail": Proxy(int(emulator.url.rpartition(":")[2])),
            "elasticsearch": Proxy(int(stack.elasticsearch_url.rpartition(":")[2])),
        }
        if plan.scanner:
            clamd = servers["clamd"] = clamd_server(directory / "clamd", memory.path / EPHEMERAL, SIGNATURES)
            opened.callback(clamd.kill)
            clamd.start()
            clamd.wait_until_ready()
            proxies["clamd"] = Proxy(directory / "clamd" / "clamd.sock")
        for proxy in proxies.values():
            proxy.start()
            opened.callback(proxy.stop)
        if kafka_proxy is not None:
            proxies["kafka"] = kafka_proxy
        clock = plants.SharedClock(directory / "clock")
        running = opened.enter_context(
            Pipeline(
                _address(kafka_proxy) if kafka_proxy is not None else stack.kafka_bootstrap,
                stack.elasticsearch_url,
                [],
                directory / "run",
                encoder=plan.encoder,
                gmail={**emulator.describe(), "url": f"http://{_address(proxies['gmail'])}"},
                also=by_pulling(emulator, directory) | _settings(proxies, memory.path),
                before=plants.before(clock.path, plan.bug),
            )
        )
        small = memory.path if memory.is_small else None
        scene = Scene(running, plan.processes, servers, proxies, emulator, clock, small)
        yield Ground(scene, letters, memory.path)


def _address(proxy: Proxy) -> str:
    return f"{local.HOST}:{proxy.port}"


def _settings(proxies: dict[str, Proxy], memory: Path) -> dict[str, str]:
    settings = {
        "ELASTICSEARCH_URL": f"http://{_address(proxies['elasticsearch'])}",
        "EPHEMERAL_DIRECTORY": str(memory / EPHEMERAL),
        "TMPDIR": str(memory / "tmp"),
        "DRAFT_QUIET_SECONDS": "2",
        "AUDIT_HOURS": "0",  # the topics must be right without anybody's repair
        "AUDIT_REPAIR": "false",
        "SOURCE_POLL_SECONDS": "2",
        "PARSER_PROCESSES": "1",
        "GMAIL_QUOTA_LIMITS": "off",
        "SERVE_PORT": str(local.free_ports(1)[0]),
    }
    if "clamd" in proxies:
        settings |= {"SCANNER": "clamd", "CLAMD_ADDRESS": _address(proxies["clamd"])}
    return settings


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
