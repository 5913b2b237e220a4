"""How an attachment ended: one ``Outcome`` and one ``Scan`` for every document."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a document's content. ``pending`` is the only one that is not an end."""

    PENDING = "pending"  # metadata is known; the slow lane will bring the text
    TEXT = "text"
    EMPTY = "empty"  # read completely, and there was no text in it
    ENCRYPTED = "encrypted"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    LIMIT_EXCEEDED = "limit_exceeded"  # a cap on pages, pixels, depth, entries, ratio or memory
    TIMED_OUT = "timed_out"
    CONTAINER = "container"  # its children are documents of their own
    SKIPPED = "skipped"
    BLOCKED = "blocked"  # infected, or not scanned under a fail-closed policy


# Between two extractions by the same engine version the better outcome stands, see ``content_rank``. An
# outcome that another attempt may improve (a timeout, a limit) ranks below one that read the document to its
# end.
OUTCOME_RANK: dict[Outcome, int] = {
    Outcome.PENDING: 0,
    Outcome.SKIPPED: 1,
    Outcome.TIMED_OUT: 2,
    Outcome.LIMIT_EXCEEDED: 2,
    Outcome.TOO_LARGE: 2,
    Outcome.CORRUPT: 3,
    Outcome.UNSUPPORTED: 3,
    Outcome.ENCRYPTED: 3,
    Outcome.EMPTY: 4,
    Outcome.TEXT: 5,
    Outcome.CONTAINER: 5,
    Outcome.BLOCKED: 6,  # a verdict is never overwritten by text read without one
}


class Scan(StrEnum):
    """The malware scanner's verdict on a document's bytes."""

    CLEAN = "clean"
    INFECTED = "infected"
    UNSCANNED = "unscanned"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ScanVerdict:
    """A scanner's answer; ``signature`` names what was found, or why there is no verdict."""

    scan: Scan
    signature: str | None = None


def content_rank(outcome: Outcome, scan: Scan) -> int:
    """What contents by one engine version compare by: how much was read, then whether it was scanned."""
    if outcome is Outcome.BLOCKED and scan is not Scan.INFECTED:
        outcome = Outcome.TIMED_OUT  # the scanner was at fault, not the document: a later attempt may read it
    return 2 * OUTCOME_RANK[outcome] + (scan in (Scan.CLEAN, Scan.INFECTED))
