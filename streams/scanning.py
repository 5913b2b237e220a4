"""What the engine asks of a malware scanner, and what it makes of one that is slow, away, or unsure."""

from typing import Protocol

from schemas.outcomes import ScanVerdict


class Scanner(Protocol):
    """A malware scanner."""

    async def version(self) -> str:
        """Its engine and signature database, such as ``ClamAV 1.4.3/27500``. Raises UnavailableError."""

    async def scan(self, payload: memoryview) -> ScanVerdict:
        """The verdict. ``payload`` is gone when this returns. Where the scanner gave no verdict on all of
        it: ``unscanned``; where it does not answer at all: raises UnavailableError."""
