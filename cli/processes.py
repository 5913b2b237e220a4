"""``mailstream source`` and ``mailstream worker``: the processes of a deployment."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cli.probes import Probes
from cli.running import (
    OpenMailboxes,
    check_servers,
    end_soon,
    gmail_quota,
    once_per_content,
    run_until_signal,
    start_observing,
    watched,
)
from cli.settings import Settings, settings

if TYPE_CHECKING:
    from cli.forks import Fork

# After SIGTERM a worker drops what it has in flight (it comes again) and leaves its group.
GRACE_SECONDS = 15.0
RESTART_SECONDS = 1.0
# A page of OCR is seconds of a processor: it waits for text that is read in milliseconds. A third of the
# weight, so that it comes on on a full machine, too.
SLOW_NICENESS = 5


@click.command()
def source() -> None:
    """List and follow the mailboxes that this process is assigned.

    Example: KAFKA_BOOTSTRAP=kafka:9092 mailstream source
    """
    from connectors.mailbox_sync import SyncConfig
    from connectors.source import SourceConfig, SourceConnector

    config = settings()
    probes = Probes(judged=True, stalled_seconds=config.stalled_seconds)
    start_observing(config, watched(config, probes))
    mailboxes = OpenMailboxes(config, config.gmail_source_share, listens=True)
    sync = SyncConfig(
        poll_seconds=config.source_poll_seconds,
        draft_quiet_seconds=config.draft_quiet_seconds,
        audit_hours=config.audit_hours,
        audit_repair=config.audit_repair,
        estimate=gmail_quota(config, config.gmail_extract_share).estimate,
    )
    connector = SourceConnector(
        SourceConfig(
            config.kafka,
            config.elasticsearch,
            sync,
            use_gmail_api=config.use_gmail_api,
            watch_topic=config.gmail_pubsub_topic,
        ),
        mailboxes.open,
        mailboxes.gmail.quota.set_part,
        probes.moved,
        mailboxes.observe,
    )

    async def run() -> None:
        await check_servers(config)
        await connector.run()

    run_until_signal(run())


@click.group()
def worker() -> None:
    """Consume events: extract, slow (OCR and what had to wait), index, or all.

    Example: mailstream worker extract
    """


@worker.command()
def extract() -> None:
    """Turn changes into documents, everything but OCR.

    Example: METRICS_PORT=9310 mailstream worker extract
    """
    _run_faust("extract")


@worker.command()
def slow() -> None:
    """Turn deferred work (OCR, throttled fetches) into documents.

    Example: mailstream worker slow
    """
    _run_faust("slow")


@worker.command()
def index() -> None:
    """Write documents to Elasticsearch.

    Example: mailstream worker index
    """
    _run_faust("index")


@worker.command(name="all")
def all_workers() -> None:
    """Run the source, the three workers and the reaper as processes of this one, restarting what dies.

    Example: mailstream worker all
    """
    commands = {
        "source": ["source"],
        "reap": ["reap", "--every", "10"],
        **{name: ["worker", name] for name in ("extract", "slow", "index")},
    }
    metrics_port = settings().metrics_port
    ports = {name: metrics_port and metrics_port + place for place, name in enumerate(commands)}
    children = {name: _start(arguments, ports[name]) for name, arguments in commands.items()}
    stopping = False

    def stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        while not stopping:
            time.sleep(RESTART_SECONDS)
            for name, child in children.items():
                if child.poll() is not None and not stopping:
                    click.echo(f"{name} ended with {child.returncode}, starting it again", err=True)
                    children[name] = _start(commands[name], ports[name])
    finally:
        end_processes(list(children.values()))


def _start(arguments: list[str], metrics_port: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "METRICS_PORT": str(metrics_port)}
    return subprocess.Popen([sys.executable, "-m", "cli.main", *arguments], env=environment)


def end_processes(children: "Sequence[subprocess.Popen[bytes] | Fork]") -> None:
    """SIGTERM to all, SIGKILL to those that are still there after the grace period."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        try:
            child.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _run_faust(name: str) -> None:
    from schemas.topics import STAGES
    from streams.apps import run_worker

    config = settings()
    group, _ = STAGES[name]
    probes = Probes(group, stalled_seconds=config.stalled_seconds)
    start_observing(config, watched(config, probes))
    with asyncio.Runner(
        loop_factory=asyncio.new_event_loop
    ) as runner:  # leaves Faust the loop that it expects
        runner.run(check_servers(config))
    run_worker(name, replace(worker_config(config, name), on_assigned=probes.assigned), config.log_level)


def worker_config(config: Settings, name: str) -> Any:
    """The workers' configuration out of the settings."""
    from schemas.topics import DAY_MILLISECONDS
    from streams.apps import WorkerConfig

    is_slow = name == "slow"
    share = config.gmail_slow_share if is_slow else config.gmail_extract_share
    # Opened with the first mailbox: the index worker has none, and needs no key. Deferred work is spread by
    # document: every slow worker may come to any mailbox.
    mailboxes = OpenMailboxes(config, share, splits_mailboxes=is_slow)
    return WorkerConfig(
        kafka=config.kafka,
        elasticsearch=config.elasticsearch,
        state_directory=config.state_directory,
        open_mailbox=mailboxes.open,
        on_part=lambda part: mailboxes.gmail.quota.set_part(part),
        before_stop=end_soon,
        open_once=lambda: once_per_content(config),
        open_engine=lambda once: engine(config, once, SLOW_NICENESS if is_slow else 0),
        encoder=config.encoder_name,
        languages=config.language_codes,
        max_chunks=config.max_chunks_per_document,
        forget_milliseconds=int(config.deleted_contents_days * DAY_MILLISECONDS),
    )


def engine(config: Settings, once: Any = None, niceness: int = 0) -> Any:
    """The ephemeral engine that the settings describe; ``once`` remembers what was read lately. Others on the
    same machine go before its parsers by ``niceness``."""
    from streams.ephemeral import EngineConfig, EphemeralAttachmentHandler
    from streams.parser_pool import PoolConfig

    limits = EngineConfig(
        memory_attachment_bytes=config.attachment_memory_bytes,
        max_attachment_bytes=config.attachment_max_bytes,
        block_unscanned=config.scan_policy == "closed",
        languages=config.language_codes,
    )
    return EphemeralAttachmentHandler(
        PoolConfig(config.ephemeral_directory, config.parser_processes, niceness=niceness),
        limits,
        scanner(config, limits.max_attachment_bytes),
        once,
    )


def scanner(config: Settings, largest_bytes: int) -> Any:
    """The malware scanner that the settings describe; None where it is off."""
    if config.scanner == "clamd":
        from connectors.clamav import ClamdConfig, ClamdScanner

        return ClamdScanner(
            ClamdConfig(config.clamd_address, largest_bytes, config.ephemeral_directory, config.clamd_config)
        )
    if config.scanner == "http":
        from connectors.http_scanner import HttpScanner

        return HttpScanner(config.http_scanner_url, config.http_scanner_token.get_secret_value())
    return None
