"""What the long-running commands share: logs, metrics, configuration, and how work ends on a signal."""

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cli.probes import Probes, serve_probes
from cli.settings import Settings
from connectors.errors import ConfigurationError
from connectors.gmail.mailboxes import GmailMailboxes
from connectors.gmail.quota import ProjectQuota, Quota, quota
from connectors.kafka import Producer
from connectors.logs import start_logging
from connectors.metrics import show_mailboxes
from connectors.tracing import start_tracing
from connectors.vault import Vault
from schemas.events import MailboxRecord

log = logging.getLogger(__name__)

END_SECONDS = 12.0


def start_observing(settings: Settings, probes: Probes | None = None) -> None:
    """Logs to standard error, metrics and probes to their port, traces to where they are collected; without
    ``probes``, alive is ready. From now on a crash leaves no core dump: mail would stand in it.

    Raises ConfigurationError where the port is taken, or the extra for traces is not installed.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start_logging(settings.log_level, settings.log_format)
    show_mailboxes(settings.metrics_mailboxes)
    if settings.otel_exporter_otlp_endpoint:
        start_tracing(settings.otel_exporter_otlp_endpoint)
    if settings.metrics_port:
        serve_probes(settings.metrics_port, probes or Probes())


def watched(settings: Settings, probes: Probes, *, elasticsearch: bool = True) -> Probes:
    """These probes, which from now on look at the servers of ours, and end a process that stands still."""
    if settings.metrics_port or probes.judged:
        probes.watch(settings.kafka, settings.elasticsearch if elasticsearch else None)
    return probes


async def check_servers(settings: Settings) -> None:
    """Raise ConfigurationError where Kafka or Elasticsearch will not let us in, so that it is said at start.

    One that does not answer now is waited for where it is used.
    """
    refusal = await settings.kafka.refusal()
    if refusal is not None:
        raise refusal
    await settings.elasticsearch.check()


def _keys(settings: Settings) -> list[str]:
    """The credentials' keys; the first seals."""
    keys = [settings.credentials_key.get_secret_value()]
    if settings.credentials_key_file is not None:
        try:
            lines = settings.credentials_key_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"CREDENTIALS_KEY_FILE cannot be read: {error}") from error
        keys += [line.partition("#")[0].strip() for line in lines]
    return [key for key in keys if key]


def vault(settings: Settings) -> Vault:
    """The credentials' vault. Raises ConfigurationError without a key."""
    return Vault(_keys(settings))


@asynccontextmanager
async def once_per_content(settings: Settings) -> AsyncIterator[Any]:
    """What remembers contents that were read lately, or None: where it is off, or without a key to hide
    them under."""
    from connectors.elasticsearch.content_cache import ContentCache
    from streams.once import Once

    keys = _keys(settings)
    if not settings.content_cache_hours or not keys:
        yield None
        return
    lifetime_seconds = settings.content_cache_hours * 3600
    async with ContentCache.open(settings.elasticsearch, lifetime_seconds) as cache:
        yield Once(cache, hmac.new(base64.b64decode(keys[0]), b"content cache", hashlib.sha256).digest())


def gmail_quota(settings: Settings, share: float) -> Quota:
    """What a kind of process may spend that has ``share`` (0-1] of Google's limits."""
    return quota(
        settings.gmail_quota_costs,
        settings.gmail_quota_limits,
        share,
        mailbox_units_per_minute=settings.gmail_mailbox_units_per_minute,
        project_units_per_minute=settings.gmail_project_units_per_minute,
        project_units_per_day=settings.gmail_project_units_per_day,
        requests_in_flight=settings.gmail_requests_in_flight,
        bytes_per_day=settings.gmail_bytes_per_day,
    )


@dataclass(frozen=True)
class OpenMailboxes:
    """How a process opens mailboxes, each by the way that its record or USE_GMAIL_API says.

    ``share`` is this process's part of each one's quota; ``listens``: whether it waits for changes.
    """

    settings: Settings
    share: float
    splits_mailboxes: bool = False
    listens: bool = False

    @cached_property
    def gmail(self) -> GmailMailboxes:
        """Over the Gmail API."""
        project = ProjectQuota(gmail_quota(self.settings, self.share), splits_mailboxes=self.splits_mailboxes)
        return GmailMailboxes(vault(self.settings), project, self.settings.gmail_api_endpoint)

    @cached_property
    def imap(self) -> Any:
        """Over IMAP. Raises ConfigurationError where the extra is not installed."""
        try:
            from connectors.imap.mailboxes import ImapMailboxes
        except ImportError as error:
            raise ConfigurationError("reading over IMAP needs an extra: install mailstream[imap]") from error
        settings = self.settings
        # In a dual run the source fetches too.
        return ImapMailboxes(
            vault(settings),
            settings.imap_url,
            settings.imap_bytes_per_day,
            settings.imap_ca_file,
            self.listens,
        )

    def open(self, record: MailboxRecord, credential: bytes | None) -> Any:
        """One mailbox, for source and extract alike. Raises ConfigurationError."""
        by_api = self.settings.use_gmail_api if record.source is None else record.source != "imap"
        return (self.gmail if by_api else self.imap).open(record, credential)

    async def observe(self, record: MailboxRecord, credential: bytes | None, producer: Producer) -> None:
        """Read a mailbox of a dual run over IMAP, for ever."""
        try:
            mailbox = self.imap.open(record, credential)
        except ConfigurationError as error:
            log.error("mailbox %s cannot be observed: %s", record.mailbox_id, error)
            return
        from connectors.imap.observer import Observer

        observer = Observer(mailbox, record, producer, self.settings.kafka)
        await observer.run(self.settings.source_poll_seconds)


def run_until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work``; SIGTERM and Ctrl-C cancel it, and it ends without an error then. See ``end_soon``."""

    async def body() -> None:
        task = asyncio.ensure_future(work)

        def end() -> None:
            end_soon()
            task.cancel()

        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, end)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(body())


def end_soon() -> None:
    """The process is about to end. If it has not after END_SECONDS, because a server that it says good-bye to
    is away, it ends where it stands, with exit code 1: what was not confirmed comes again."""
    timer = threading.Timer(END_SECONDS, _give_up)
    timer.daemon = True
    timer.start()


def _give_up() -> None:
    log.error("not ended after %.0f s: a server does not answer; ending without it", END_SECONDS)
    logging.shutdown()
    os._exit(1)
