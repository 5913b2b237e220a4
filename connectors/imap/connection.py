"""One connection to an IMAP server: opened when it is needed, off the event loop, polite, errors mapped once.

IMAPClient speaks the protocol; everything here is read-only: folders are opened with EXAMINE, bodies asked
for with BODY.PEEK.
"""

from __future__ import annotations

import asyncio
import imaplib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from imapclient import IMAPClient
from imapclient.exceptions import LoginError, ProtocolError
from imapclient.response_parser import parse_fetch_response

from connectors.errors import (
    AuthorizationError,
    ConfigurationError,
    GmailError,
    GmailUnavailableError,
    MailstreamError,
    NotFoundError,
    RateLimitedError,
)
from connectors.tls import refused_handshake

Result = TypeVar("Result")

TIMEOUT_SECONDS = 60.0
DAY_SECONDS = 86_400.0
# After a refusal for too much nobody asks for this long, and twice as long after each that follows.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 900.0
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# A server's words for "not now" and for "not so much"; the codes are RFC 5530's, the rest Gmail's.
_TOO_MUCH = ("throttled", "overquota", "[limit]", "bandwidth", "too many", "rate limit", "exceeded")
_NOT_NOW = ("[unavailable]", "[inuse]", "[serverbug]", "temporar", "system error", "try again")
_UNKNOWN = ("[nonexistent]", "doesn't exist", "unknown mailbox")


@dataclass(frozen=True, slots=True)
class ImapAccount:
    """How one mailbox is reached; ``url`` is imaps://host[:port], or imap://host[:port] for STARTTLS.

    ``secret`` returns a password, or with ``is_token`` an access token (XOAUTH2); it may ask somebody for it.
    """

    url: str
    username: str
    secret: Callable[[], str] = field(repr=False)
    is_token: bool = False
    context: ssl.SSLContext | None = None


class Budget:
    """Bytes that one mailbox may bring in any 24 hours; counted in slices of ten minutes."""

    _SLICE_SECONDS = 600.0

    def __init__(self, bytes_per_day: int) -> None:
        self._limit = bytes_per_day
        self._slices: deque[list[float]] = deque()  # [begin, bytes]
        self.spent = 0

    def spend(self, received_bytes: int) -> None:
        """Count what has come."""
        now = time.monotonic()
        if not self._slices or now - self._slices[-1][0] > self._SLICE_SECONDS:
            self._slices.append([now, 0])
        self._slices[-1][1] += received_bytes
        self.spent += received_bytes

    def wait_seconds(self) -> float:
        """How long until something may come again."""
        now = time.monotonic()
        while self._slices and now - self._slices[0][0] > DAY_SECONDS:
            self._slices.popleft()
        if sum(size for _, size in self._slices) < self._limit:
            return 0.0
        return self._slices[0][0] + DAY_SECONDS - now


class ImapConnection:
    """Work on one connection, one piece at a time; what is ``background`` gives way to what is not."""

    def __init__(self, account: ImapAccount, budget: Budget) -> None:
        self._account = account
        self._budget = budget
        self._client: IMAPClient | None = None
        # One thread, because imaplib takes one command at a time.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="imap")
        self._turn = asyncio.Lock()
        self._background_turn = asyncio.Lock()
        self._paused_until = 0.0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._closing = False
        self.requests = 0

    @property
    def paused_seconds(self) -> float:
        """How long the server wants to hear nothing, or the day's bytes are spent; 0 when neither."""
        return max(self._paused_until - time.monotonic(), self._budget.wait_seconds(), 0.0)

    @property
    def spent_bytes(self) -> int:
        """What has been received since the start."""
        return self._budget.spent

    async def run(self, work: Callable[[IMAPClient], Result], *, background: bool = False) -> Result:
        """Do ``work`` with a client that is logged in. Raises errors of our own tree only."""
        if background:
            async with self._background_turn:
                return await self.run(work)
        async with self._turn:
            paused = self.paused_seconds
            if paused:
                raise RateLimitedError("the mail server asked for a pause", retry_after_seconds=paused)
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._executor, self._do, work)
            except RateLimitedError:
                self._paused_until = time.monotonic() + self._pause_seconds
                self._pause_seconds = min(self._pause_seconds * 2, LAST_PAUSE_SECONDS)
                raise
            self._pause_seconds = FIRST_PAUSE_SECONDS
            return result

    @property
    def closing(self) -> bool:
        """Whether work that waits for the server should end."""
        return self._closing

    def close(self) -> None:
        """Hang up, also on work that waits for the server. Does not wait."""
        self._closing = True
        self._executor.shutdown(wait=False)
        client = self._client
        if client is not None:
            with suppress(OSError):  # it is gone already
                client.socket().shutdown(socket.SHUT_RDWR)

    # --- in the thread -------------------------------------------------------------------------------

    def _do(self, work: Callable[[IMAPClient], Result]) -> Result:
        try:
            if self._client is None:
                self._client = self._open()
            return work(self._client)
        except MailstreamError as error:
            if error.transient:
                self._hang_up()
            raise
        except ssl.SSLError as error:
            self._hang_up()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise refused_handshake(error, self._account.url, "IMAP") from error
            raise GmailUnavailableError(f"TLS with the mail server failed: {error.reason}") from error
        except (imaplib.IMAP4.abort, OSError, EOFError, ProtocolError) as error:
            self._hang_up()
            raise self._unanswered(error) from error
        except imaplib.IMAP4.error as error:
            mapped = _refused(str(error))
            if mapped.transient:
                self._hang_up()  # a session that was refused is not gone on with
            raise mapped from error

    def _open(self) -> IMAPClient:
        account = self._account
        url = urlsplit(account.url)
        if url.scheme not in ("imap", "imaps") or not url.hostname:
            raise ConfigurationError("IMAP_URL must be imaps://host[:port], or imap://host[:port]")
        secret = account.secret()
        client = IMAPClient(
            url.hostname,
            url.port,
            ssl=url.scheme == "imaps",
            ssl_context=account.context,
            timeout=TIMEOUT_SECONDS,
        )
        # The library would hand every line, mail and passwords included, to the log at level debug.
        client._imap.debug = 0
        client.normalise_times = False  # times with their zone
        self._count(client._imap)
        if url.scheme == "imap" and (url.hostname not in _LOOPBACK or client.has_capability("STARTTLS")):
            client.starttls(account.context)
        try:
            if account.is_token:
                client.oauth2_login(account.username, secret)
            else:
                client.login(account.username, secret)
        except LoginError as error:
            refused = _refused(str(error))
            if refused.transient:
                raise refused from error
            raise AuthorizationError("the mail server refuses these credentials") from error
        return client

    def _count(self, imap: Any) -> None:
        """Have every byte counted that comes in."""
        read, readline, send = imap.read, imap.readline, imap.send

        def counted_read(size: int) -> bytes:
            data: bytes = read(size)
            self._budget.spend(len(data))
            return data

        def counted_readline() -> bytes:
            line: bytes = readline()
            self._budget.spend(len(line))
            return line

        def counted_send(data: bytes) -> None:
            self.requests += 1
            send(data)

        imap.read, imap.readline, imap.send = counted_read, counted_readline, counted_send

    def _unanswered(self, error: Exception) -> MailstreamError:
        # A server that hangs up because of too much says so before, in a BYE.
        text = str(error)
        if any(words in text.lower() for words in _TOO_MUCH):
            return _refused(text)
        return GmailUnavailableError(f"the mail server does not answer: {type(error).__name__}")

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(OSError, imaplib.IMAP4.error):  # it is gone already
                client.shutdown()


def _refused(text: str) -> GmailError:
    """A server's NO or BAD as an error of ours. Its text may name folders and is not passed on."""
    said = text.lower()
    if any(words in said for words in _TOO_MUCH):
        limited = RateLimitedError("the mail server says that it is too much")
        if "connections" in said:
            limited.scope = "concurrency"
        return limited
    if any(words in said for words in _NOT_NOW):
        return GmailUnavailableError("the mail server says that it cannot now")
    if any(words in said for words in _UNKNOWN):
        return NotFoundError("the mail server does not know this folder")
    return GmailError("the mail server refused a command")


def fetch(
    client: IMAPClient, uids: str, items: str, modifiers: str | None = None
) -> dict[int, dict[bytes, Any]]:
    """UID FETCH in the folder that is open, by a UID set such as ``1:*``; the answers by UID.

    What the server says unasked about other messages may be among them.
    """
    imap = client._imap
    arguments = (uids, f"({items})") + ((f"({modifiers})",) if modifiers else ())
    # ``IMAPClient.fetch`` takes no ranges.
    kind, data = imap.uid("FETCH", *arguments)
    if kind != "OK":
        raise imaplib.IMAP4.error(f"FETCH: {data!r}")
    return dict(parse_fetch_response(data, normalise_times=False))
