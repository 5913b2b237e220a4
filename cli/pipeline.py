"""A whole deployment on this machine: an emulated Gmail and the four processes, over a given stack.

The demo, the service tests, the kill tests and the benchmarks all run this one.
"""

import asyncio
import base64
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cli.forks import Fork
from cli.mailbox import register
from cli.processes import end_processes
from cli.settings import Settings
from cli.status import Observer, Status
from connectors.errors import MailstreamError, UnavailableError
from connectors.topic_admin import apply_topics
from devstack.local import free_ports
from schemas.events import MailboxRecord
from schemas.topics import with_partitions

PROCESSES = {
    "source": ["source"],
    "extract": ["worker", "extract"],
    "slow": ["worker", "slow"],
    "index": ["worker", "index"],
}
# Started only by name.
OTHERS = {"push": ["push"], "reap": ["reap", "--every", "1"], "serve": ["serve"]}
START_SECONDS = 30.0
# Its servers are given: what the caller's own deployment asks for does not hold for them.
_OPEN_SERVERS = {
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "KAFKA_SASL_USERNAME": "",
    "KAFKA_SASL_PASSWORD": "",
    "KAFKA_SASL_PASSWORD_FILE": "",
    "KAFKA_CA_FILE": "",
    "KAFKA_CLIENT_CERTIFICATE_FILE": "",
    "KAFKA_CLIENT_KEY_FILE": "",
    "ELASTICSEARCH_API_KEY": "",
    "ELASTICSEARCH_API_KEY_FILE": "",
    "ELASTICSEARCH_CA_FILE": "",
}
POLL_SECONDS = 0.5
LOG_LINES = 15


class PipelineError(MailstreamError):
    """A process of the pipeline did not start, or died on its own."""


def mailbox_id_of(address: str) -> str:
    """A mailbox id that is the same in every run, so that two runs give the same documents."""
    return hashlib.sha256(address.encode()).hexdigest()[:32]


@dataclass
class Pipeline:
    """Servers by address, mail by file; ``directory`` takes logs and state. Used as a context."""

    kafka_bootstrap: str
    elasticsearch_url: str
    mail_files: Sequence[Path]
    directory: Path
    encoder: str = "minilm"
    quota: str = "off"
    faults: Path | None = None
    gmail: dict[str, Any] = field(default_factory=dict)  # what a running emulator says of itself
    also: dict[str, str] = field(default_factory=dict)  # further environment variables
    policies: dict[str, Any] = field(default_factory=dict)  # further fields of the mailboxes' records
    imap: bool = False  # whether the emulator speaks IMAP too
    metrics: bool = False  # whether each process serves its metrics, see ``metrics_ports``
    before: dict[str, Callable[[], None]] = field(
        default_factory=dict
    )  # see ``Fork``; by process, "" for all

    def __post_init__(self) -> None:
        self.processes: dict[str, Fork] = {}
        self.metrics_ports: dict[str, int] = {}
        self.drop_directory = self.directory / "new-mail"
        self._key = base64.b64encode(hashlib.sha256(b"a key for emulated mailboxes").digest()).decode()

    def __enter__(self) -> Self:
        self.drop_directory.mkdir(parents=True, exist_ok=True)
        try:
            self.gmail = self.gmail or self._start_emulator()
            self.settings = self._settings()
            asyncio.run(self._prepare())
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that every process of this pipeline gets."""
        return {
            **_OPEN_SERVERS,
            "KAFKA_BOOTSTRAP": self.kafka_bootstrap,
            "ELASTICSEARCH_URL": self.elasticsearch_url,
            "GMAIL_API_ENDPOINT": self.gmail["url"],
            "GMAIL_QUOTA_LIMITS": self.quota,
            **({"IMAP_URL": self.gmail["imap_url"]} if "imap_url" in self.gmail else {}),
            "CREDENTIALS_KEY": self._key,
            "ENCODER": self.encoder,
            "STATE_DIRECTORY": str(self.directory / "state"),
            "SOURCE_POLL_SECONDS": "1",
            "LOG_LEVEL": "warning",
            **self.also,
        }

    def _settings(self) -> Settings:
        return Settings.model_validate({name.lower(): value for name, value in self.environment.items()})

    def _start_emulator(self) -> dict[str, Any]:
        arguments = ["emulate", "gmail", "--json", "--quota", self.quota, "--drop", str(self.drop_directory)]
        if self.faults is not None:
            arguments += ["--faults", str(self.faults)]
        if self.imap:
            arguments += ["--imap-port", "0"]
        for path in self.mail_files:
            arguments += ["--mbox", str(path)]
        process = self._spawn("gmail", arguments, piped=True)
        assert process.stdout is not None, "the emulator prints where it listens"
        line = process.stdout.readline()
        if not line:
            process.wait(START_SECONDS)
            raise PipelineError(
                self.log_tail("gmail").removeprefix("Error: ") or "the emulator did not start"
            )
        described: dict[str, Any] = json.loads(line)
        return described

    async def _prepare(self) -> None:
        await apply_topics(self.settings.kafka, with_partitions(self.settings.topic_partitions))
        await self.add(self.gmail["mailboxes"])

    async def add(self, described: Iterable[dict[str, Any]]) -> None:
        """Register mailboxes, as the emulator describes them: the source begins with them within a second."""
        mailboxes = []
        for mailbox in described:
            credentials = {name: mailbox[name] for name in ("client_id", "client_secret", "refresh_token")}
            record = MailboxRecord(
                mailbox_id=mailbox_id_of(mailbox["address"]),
                address=mailbox["address"],
                **{"exclude_labels": (), **self.policies},
            )
            token = {"token_uri": f"{self.gmail['url']}/token", "type": "authorized_user", **credentials}
            mailboxes.append((record, token))
        await register(self.settings, mailboxes)

    def start(self, *names: str) -> None:
        """Start the named processes, or all four. One that runs already is left alone.

        ``source-2`` is a second source, and so on.
        """
        for name in names or PROCESSES:
            if name not in self.processes or self.processes[name].poll() is not None:
                self._spawn(name, {**PROCESSES, **OTHERS}[name.partition("-")[0]])

    def kill(self, name: str, sent: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and wait until it is gone."""
        process = self.processes[name]
        process.send_signal(sent)
        process.wait(START_SECONDS)

    def stop(self) -> None:
        """End everything that was started here."""
        end_processes(list(self.processes.values()))

    def _spawn(self, name: str, arguments: Sequence[str], *, piped: bool = False) -> Fork:
        environment = {**os.environ, **(self.environment if self.gmail else {})}
        if self.metrics and self.gmail:
            [self.metrics_ports[name]] = free_ports(1)
            environment["METRICS_PORT"] = str(self.metrics_ports[name])
        before = self.before.get(name.partition("-")[0], self.before.get("")) if self.gmail else None
        process = Fork(arguments, environment, self.directory / f"{name}.log", piped=piped, before=before)
        self.processes[name] = process
        return process

    def log_tail(self, name: str) -> str:
        """The last lines that a process wrote."""
        path = self.directory / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(lines[-LOG_LINES:])

    def check(self) -> None:
        """Raise PipelineError when a process has died on its own."""
        for name, process in self.processes.items():
            if process.poll() not in (None, 0):
                raise PipelineError(
                    f"{name} ended with {process.returncode}; its last words:\n{self.log_tail(name)}"
                )

    async def wait_until_settled(
        self, observer: Observer, still_seconds: float, progress: Any = None
    ) -> Status:
        """Wait until everything that the mailboxes hold is in the index; ``progress`` is called with each
        status on the way. Raises PipelineError when a process dies, or nothing moves for ``still_seconds``:
        how long all of it takes is the machine's affair."""
        deadline = time.monotonic() + still_seconds
        status: Status | None = None
        moved: object = None
        while True:
            # A server that is starting or restarting has no answer yet; the deadline is ours.
            with suppress(UnavailableError):
                status = await observer.status()
                if progress is not None:
                    progress(status)
                if status.settled and status.mailboxes:
                    await observer.refresh()
                    final = await observer.status()
                    if progress is not None:
                        progress(final)
                    return final
                listed = [mailbox.listed for mailbox in status.mailboxes]
                seen = (listed, status.lag, status.dead_letters, status.messages, status.documents)
                if seen != moved:
                    moved, deadline = seen, time.monotonic() + still_seconds
            self.check()
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {name}\n{self.log_tail(name)}" for name in self.processes)
                raise PipelineError(
                    f"not settled, nothing moves for {still_seconds:.0f} s: {status}\n{tails}"
                )
            await asyncio.sleep(POLL_SECONDS)
