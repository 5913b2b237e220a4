"""The Gmail emulator: a server on this machine that Google's own client libraries talk to unchanged."""

import asyncio
import errno
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from devstack.gmail.api import GmailApi
from devstack.gmail.clock import Clock
from devstack.gmail.drop import DropFolder
from devstack.gmail.faults import Fault, FaultPlan
from devstack.gmail.imap import ImapServer
from devstack.gmail.mailfiles import RawMail
from devstack.gmail.message import ATTACHMENT_ID_GETS, MessageReader
from devstack.gmail.oauth import CLIENT_ID, CLIENT_SECRET, OAuth
from devstack.gmail.pubsub import NOTIFICATION_INTERVAL_SECONDS, PubSub
from devstack.gmail.quota import QUOTAS, QuotaMeter
from devstack.gmail.routes import make_application
from devstack.gmail.store import Mailbox

HOST = "127.0.0.1"
START_SECONDS = 30.0
SHUTDOWN_SECONDS = 1.0


class EmulatorError(Exception):
    """The emulator cannot start. The message says why."""


class GmailEmulator:
    """Emulated mailboxes behind ``url``.

    An async context manager in the running loop, and a plain one in a thread of its own.
    ``mail`` maps each address to its mail (it is read here and now); ``quota`` is "new", "legacy" or "off";
    ``org_units`` maps addresses to Directory paths, ``groups`` groups to their members' addresses. ``host``
    is where it listens and what it calls itself; ``port`` 0 takes a free one. A mail file that is dropped
    into ``drop_directory`` arrives within a second. On ``imap_port`` (0: a free one) IMAP is spoken.
    ``mailboxes`` may be changed from any thread.
    """

    def __init__(
        self,
        mail: Mapping[str, Iterable[RawMail]],
        *,
        quota: str = "off",
        faults: Iterable[Fault] = (),
        host: str = HOST,
        port: int = 0,
        clock: Clock | None = None,
        drop_directory: Path | None = None,
        org_units: Mapping[str, str] | None = None,
        groups: Mapping[str, Iterable[str]] | None = None,
        attachment_id_gets: int = ATTACHMENT_ID_GETS,
        notification_interval_seconds: float = NOTIFICATION_INTERVAL_SECONDS,
        imap_port: int | None = None,
    ) -> None:
        if not mail:
            raise EmulatorError("an emulator needs at least one mailbox")
        self.clock = clock or Clock()
        self.groups = {group: tuple(members) for group, members in (groups or {}).items()}
        self.faults = FaultPlan(list(faults))
        self.mailboxes: dict[str, Mailbox] = {}
        for address, mails in mail.items():
            mailbox = Mailbox(address, (org_units or {}).get(address, "/"))
            mailbox.load(mails)
            mailbox.on_change = self._changed
            self.mailboxes[address] = mailbox
        self.oauth = OAuth(self.clock, self._is_mailbox)
        self.meter = QuotaMeter(QUOTAS[quota], self.clock)
        self.pubsub = PubSub(
            self.clock,
            lambda: self.oauth.signing_key,
            notification_interval_seconds,
            lambda: self.faults,
        )
        reader = MessageReader(attachment_id_gets)
        self.api = GmailApi(reader, lambda: self.faults, self.pubsub, self.clock)
        self.imap = ImapServer(self.mailbox, self.oauth, lambda: self.faults, reader, self.clock)
        self.imap_url: str | None = None  # where IMAP is spoken, once it is
        self._imap_port = imap_port
        self._drop = DropFolder(drop_directory, self.mailboxes, self.clock) if drop_directory else None
        self._host = host
        self._port = port
        self._url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner | None = None
        self._watching: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None

    # --- running -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self._drop is not None:
            self._drop.create()
        runner = web.AppRunner(
            make_application(self), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            reason = "is in use: choose another" if error.errno == errno.EADDRINUSE else f"fails: {error}"
            raise EmulatorError(f"port {self._port} {reason}") from error
        if self._imap_port is not None:
            try:
                port = await self.imap.start(self._host, self._imap_port)
            except OSError as error:
                await runner.cleanup()
                raise EmulatorError(f"port {self._imap_port} cannot be used: {error.strerror}") from error
            self.imap_url = f"imap://{self._host}:{port}"
        self._runner = runner
        self._url = f"http://{self._host}:{runner.addresses[0][1]}"
        if self._drop is not None:
            self._watching = asyncio.create_task(self._drop.watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop = None
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self.imap.stop()
        await self.pubsub.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Serve from a thread; returns once requests are answered. Raises EmulatorError."""
        ready: threading.Event = threading.Event()
        failure: list[BaseException] = []

        async def serve() -> None:
            self._stopping = asyncio.Event()
            async with self:
                ready.set()
                await self._stopping.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except (EmulatorError, OSError) as error:
                failure.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="gmail-emulator", daemon=True)
        self._thread.start()
        if not ready.wait(START_SECONDS):
            raise EmulatorError(f"the emulator did not start within {START_SECONDS:.0f} s")
        if failure:
            raise failure[0]
        return self

    def stop(self) -> None:
        """End what ``start`` began; returns when the port is free. Safe to repeat."""
        loop, thread = self._loop, self._thread
        if loop is not None and self._stopping is not None:
            loop.call_soon_threadsafe(self._stopping.set)
        if thread is not None:
            thread.join()
        self._thread = None

    # --- what clients need ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the emulator answers, such as ``http://127.0.0.1:40123``; no slash at the end."""
        if not self._url:
            raise EmulatorError("the emulator has not been started")
        return self._url

    def mailbox(self, address: str) -> Mailbox:
        """A mailbox by its address in any case. Raises KeyError."""
        for known, mailbox in self.mailboxes.items():
            if known.lower() == address.lower():
                return mailbox
        raise KeyError(address)

    def client_credentials(self, address: str) -> dict[str, str]:
        """What a user's OAuth client holds after consent. Raises KeyError for an unknown mailbox."""
        return {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": self.oauth.refresh_token(self.mailbox(address).address),
            "token_uri": f"{self.url}/token",
        }

    def service_account_info(self) -> dict[str, str]:
        """A service account's key file with delegation for every mailbox. The key is new in every run."""
        return self.oauth.service_account_info(self.url)

    def describe(self) -> dict[str, Any]:
        """The address of the server and, for each mailbox, its size and its credentials."""
        return {
            "url": self.url,
            **({"imap_url": self.imap_url} if self.imap_url is not None else {}),
            "mailboxes": [
                {
                    "address": address,
                    "messages": len(mailbox.messages()),
                    **self.client_credentials(address),
                }
                for address, mailbox in self.mailboxes.items()
            ],
        }

    def stats(self) -> dict[str, Any]:
        """Counts since the start: requests and units by method, refusals by reason, faults by kind."""
        return {
            "requests": dict(self.meter.requests),
            "units": dict(self.meter.units),
            "rejections": dict(self.meter.rejections),
            "faults": self.faults.struck(),
            "pubsub": dict(self.pubsub.counts),
            "imap": {**self.imap.commands, "sent_bytes": self.imap.sent_bytes},
        }

    # --- inside --------------------------------------------------------------------------------------

    def _is_mailbox(self, address: str) -> bool:
        return any(known.lower() == address.lower() for known in self.mailboxes)

    def _changed(self, mailbox: Mailbox, labels: frozenset[str]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.pubsub.changed, mailbox, labels)
