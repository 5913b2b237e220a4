"""What the engine asks of a malware scanner, and what it makes of one that is slow, away, or unsure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Protocol

from connectors.errors import (
    ScannerDroppedError,
    ScannerFullError,
    ScannerUnavailableError,
    backoff_seconds,
)
from connectors.metrics import gmail_attachments_scanned_counter
from schemas.outcomes import Scan, ScanVerdict

log = logging.getLogger(__name__)

# Scanned side by side: the others queue here, where waiting counts against no deadline.
SCANS_IN_FLIGHT = 4
# A scanner that restarts is waited for this long; after that one try an attachment, until it answers again.
PATIENCE_SECONDS = 5.0
# The first questions make it work for a few seconds: many on a busy machine.
CHECK_SECONDS = 60.0
# The largest of them may fill it: workers that ask at the same time take each other's room, and would do so
# for ever if each asked again at once.
FULL_SECONDS = 2.0
LONGEST_FULL_SECONDS = 120.0
# A document on which a scanner that answers hangs up so often, or takes too long, gets no verdict.
MAX_DROPS = 3
_REMEMBERED_DROPS = 1_000


class Scanner(Protocol):
    """A malware scanner."""

    async def check(self) -> None:
        """Raises ConfigurationError where it would call clean what it did not look through, and
        ScannerUnavailableError: ScannerFullError where it has no room for the questions."""

    async def version(self) -> str:
        """Its engine and signature database, such as ``ClamAV 1.4.3/27500``. Raises
        ScannerUnavailableError."""

    async def scan(self, payload: memoryview) -> ScanVerdict:
        """The verdict. ``payload`` is gone when this returns. Where the scanner gave no verdict on all of
        it: ``unscanned``; where it does not answer at all: raises ScannerUnavailableError."""


class Scanning:
    """A scanner with a deadline and a policy: ``closed`` waits for one that is away, open reads unscanned."""

    def __init__(self, scanner: Scanner, seconds: float, *, closed: bool) -> None:
        self._scanner = scanner
        self._seconds = seconds
        self._closed = closed
        self._slots = asyncio.Semaphore(SCANS_IN_FLIGHT)
        self._checking = asyncio.Lock()
        self._checked = False
        self._full, self._ask_at = 0, 0.0  # how often it had no room for its first questions, and when next
        self._away_since: float | None = None
        self._drops: Counter[str] = Counter()  # by sha256

    async def start(self) -> None:
        """Look at the scanner, if it is there. Raises ConfigurationError where it must not be believed."""
        try:
            await self._check()
        except ScannerUnavailableError as error:
            log.warning("%s; attachments are %s", error, "deferred" if self._closed else "read unscanned")

    async def require(self) -> None:
        """Raises ScannerUnavailableError where an attachment would only find the scanner away."""
        if self._closed:
            self._require_room()
            await self._scanner.version()

    async def verdict(self, payload: memoryview, sha256: str) -> ScanVerdict:
        """The verdict on an attachment. Raises ScannerUnavailableError when closed, ConfigurationError."""
        async with self._slots:
            try:
                verdict = await self._patiently(payload, sha256)
            except ScannerUnavailableError:
                if self._closed:
                    gmail_attachments_scanned_counter.labels(verdict="unavailable").inc()
                    raise
                verdict = ScanVerdict(Scan.UNSCANNED)
        gmail_attachments_scanned_counter.labels(verdict=verdict.scan).inc()
        return verdict

    async def _patiently(self, payload: memoryview, sha256: str) -> ScanVerdict:
        wait_seconds = 0.25
        while True:
            answers = False
            try:
                await self._check()
                answers = True
                verdict = await self._within_deadline(payload)
                self._away_since = None
                return verdict
            except ScannerUnavailableError as error:
                self._checked = False  # who comes back may be set up in another way
                # Where a connection is cut, the scanner hangs up on every question: no document is to blame.
                dropped = answers and isinstance(error, ScannerDroppedError)
                if dropped and self._dropped(sha256) >= MAX_DROPS:
                    self._away_since = None
                    return ScanVerdict(Scan.UNSCANNED)
                now = time.monotonic()
                self._away_since = self._away_since or now
                if isinstance(error, ScannerFullError):
                    raise  # room is not made within seconds, and three tries are soon over
                if not self._closed or now + wait_seconds > self._away_since + PATIENCE_SECONDS:
                    raise
            await asyncio.sleep(wait_seconds)
            wait_seconds *= 2

    async def _within_deadline(self, payload: memoryview) -> ScanVerdict:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._scanner.scan(payload)
        except TimeoutError as error:
            # It answers other questions: then the document may be what takes it so long.
            await self._scanner.version()
            raise ScannerDroppedError("the scanner gave no verdict in time") from error

    async def _check(self) -> None:
        async with self._checking:
            if not self._checked:
                self._require_room()
                try:
                    await self._scanner.version()  # it soon says whether there is anybody
                    async with asyncio.timeout(CHECK_SECONDS):
                        await self._scanner.check()
                except ScannerFullError:
                    wait_seconds = backoff_seconds(self._full, LONGEST_FULL_SECONDS, first=FULL_SECONDS)
                    self._full, self._ask_at = self._full + 1, time.monotonic() + wait_seconds
                    raise
                except TimeoutError as error:
                    raise ScannerUnavailableError(
                        "the scanner does not answer its first questions"
                    ) from error
                self._checked, self._full = True, 0

    def _require_room(self) -> None:
        if (left_seconds := self._ask_at - time.monotonic()) > 0:
            raise ScannerFullError(
                f"the scanner had no room for its first questions: asked again in {left_seconds:.0f} s"
            )

    def _dropped(self, sha256: str) -> int:
        if len(self._drops) > _REMEMBERED_DROPS:
            self._drops.clear()
        self._drops[sha256] += 1
        return self._drops[sha256]
