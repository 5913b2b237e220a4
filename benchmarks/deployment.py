"""A deployment to be measured: real Kafka and Elasticsearch, an emulated Gmail that pushes, every process
warm. Mailboxes are added when the clock starts."""

from __future__ import annotations

import asyncio
import io
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.costs import SERVERS
from cli.pipeline import Pipeline
from cli.status import Observer, Status
from connectors.elasticsearch import Index
from connectors.errors import ConfigurationError
from devstack.gmail.mailfiles import MailBytes, RawMail
from devstack.gmail.server import GmailEmulator
from devstack.local import free_ports
from devstack.stack import Stack
from tests.pushes import by_endpoint

WARM = "warm@example.com"
WAIT_SECONDS = 300.0
# The answer costs the servers something, too: a long wait is measured to its fiftieth.
SETTLE_POLL_SECONDS = 0.5
WORKERS = ("source", "extract", "slow", "index", "push")


class Deployment:
    """A running pipeline, its emulated Gmail and its servers."""

    def __init__(self, running: Pipeline, emulator: GmailEmulator, stack: Stack) -> None:
        self.running = running
        self.emulator = emulator
        self.stack = stack

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name, the servers' too."""
        pids = {name: process.pid for name, process in self.running.processes.items()}
        servers = zip(SERVERS, (self.stack.elasticsearch.pid, self.stack.kafka.pid), strict=True)
        return pids | {name: pid for name, pid in servers if pid is not None}

    async def add(self, *addresses: str) -> None:
        """Let the source begin with mailboxes of the emulator."""
        described = self.emulator.describe()["mailboxes"]
        await self.running.add(box for box in described if box["address"] in addresses)

    async def settled(self, still_seconds: float) -> Status:
        """Wait until everything added has arrived in the index, audits included. Raises PipelineError when
        nothing moves for so long."""
        async with Observer.open(self.running.settings) as observer:
            return await self.running.wait_until_settled(observer, still_seconds)

    async def searchable(self, messages: int, timeout_seconds: float) -> Status:
        """Wait until so many messages are found, and no stage has anything left to do for them."""
        started = time.monotonic()
        async with Observer.open(self.running.settings) as observer:
            while True:
                status = await observer.status()
                if status.messages + status.dead_letters >= messages and not any(status.lag.values()):
                    await observer.refresh()  # what was written within the last second
                    return await observer.status()
                self.running.check()
                waited_seconds = time.monotonic() - started
                assert waited_seconds < timeout_seconds, f"not searchable in time: {status}"
                await asyncio.sleep(max(SETTLE_POLL_SECONDS, waited_seconds / 50))

    async def arrival_seconds(self, index: Index, address: str, mail: bytes, word: str) -> float:
        """Let a mail with that word in it arrive; returns after how long a search finds it."""
        # The emulator's own work for a new mail is not ours: the clock starts when it pushes.
        started = time.monotonic()
        await asyncio.to_thread(self.emulator.mailboxes[address].add, mail)
        query = {"bool": {"must": [{"match": {"text": word}}], "filter": [{"term": {"live": True}}]}}
        while time.monotonic() - started < WAIT_SECONDS:
            with suppress(ConfigurationError):  # no index yet
                if await index.count(query):
                    return time.monotonic() - started
            self.running.check()
            await asyncio.sleep(0.02)
        return math.inf


@contextmanager
def deployment(
    mail: Mapping[str, Sequence[RawMail]],
    stack: Stack,
    *,
    encoder: str = "minilm",
    start: Sequence[str] = WORKERS,
    also: Mapping[str, str] | None = None,
) -> Iterator[Deployment]:
    """A deployment in which a small mailbox has been read to its end, and nothing of ``mail`` yet.

    The stack's topics and indexes must be empty.
    """
    [port] = free_ports(1)
    with GmailEmulator({WARM: warm_mail(), **mail}, notification_interval_seconds=0.01) as emulator:
        described = emulator.describe()
        described["mailboxes"] = [box for box in described["mailboxes"] if box["address"] == WARM]
        settings = {
            **by_endpoint(emulator, port),
            "SOURCE_POLL_SECONDS": "60",
            "AUDIT_HOURS": "0",
            "DRAFT_QUIET_SECONDS": "0",
            **(also or {}),
        }
        with (
            tempfile.TemporaryDirectory(prefix="mailstream-benchmark-") as directory,
            Pipeline(
                *(stack.kafka_bootstrap, stack.elasticsearch_url, [], Path(directory), encoder),
                gmail=described,
                also=settings,
            ) as running,
        ):
            ready = Deployment(running, emulator, stack)
            running.start(*start)
            asyncio.run(ready.settled(WAIT_SECONDS))
            yield ready


def warm_mail() -> list[RawMail]:
    """Mail that makes every process do once what it will do: text, HTML, a scan."""
    page = Image.new("L", (640, 160), 255)
    ImageDraw.Draw(page).text((20, 60), "a page to warm up with", fill=0, font_size=32)
    html = EmailMessage()
    html["Subject"] = "warm"
    html.set_content("<p>some <b>text</b> to warm up with</p>", subtype="html")
    return [
        MailBytes(b"Subject: text\n\nsome text to warm up with\n"),
        MailBytes(html.as_bytes()),
        scan_mail("a scan", "see the attachment", as_scan(page, "PNG"), "png"),
    ]


def as_scan(page: Image.Image, kind: str) -> bytes:
    """A picture as a file: "PNG", "JPEG", or "PDF" without any text."""
    written = io.BytesIO()
    page.save(written, kind)
    return written.getvalue()


def scan_mail(subject: str, text: str, scan: bytes, kind: str) -> RawMail:
    """A mail of some text with a scan attached."""
    mail = EmailMessage()
    mail["Subject"] = subject
    mail.set_content(text)
    maintype, subtype = ("application", "pdf") if kind == "pdf" else ("image", kind)
    mail.add_attachment(scan, maintype, subtype, filename=f"scan.{kind}")
    return MailBytes(mail.as_bytes())
