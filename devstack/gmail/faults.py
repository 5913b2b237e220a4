"""Faults on purpose: which request fails how, as a list that a test or a file gives.

A fault is one JSON object::

    {"kind": "rate_limit", "method": "messages.get", "count": 3, "probability": 0.5, "after": 10}

``kind`` is one of ``FAULTS``; ``method`` limits it to one method (each kind has the methods it makes sense
for; "push" is a notification on its way, "token" the token endpoint), ``mailbox`` to one address; ``after``
lets that many requests pass first; ``count`` ends it (without it, it never ends); ``burst`` makes it strike
that many in a row once it strikes; ``probability`` (0-1) is drawn from a generator seeded with ``seed``, so
that a run can be repeated.

=========================  =========================================================================
expired_history            404: the startHistoryId is too old
empty_history_page         a page without changes, and with a token
stale_page_token           400: the page token is not known any more
rate_limit                 403 or 429 (``status``) for the mailbox's or the project's sake (``reason``),
                           "concurrent" for too many at once; ``retry_after_seconds`` names a time
bandwidth                  429 for every body of the mailbox, for ``seconds``; other methods go on
server_error               500, 502, 503 or 504 (``status``)
connection_reset           the connection breaks before the answer
reset_mid_body             it breaks in the midst of it
slow_body                  the answer takes ``seconds``
failed_precondition        400, as healthy messages answer now and then
gone_between_list_and_get  the message is deleted in the moment it is asked for
body_behind_attachment_id  a text body comes as a reference
unpadded_base64url         bodies without the padding
history_id_number          historyId as a number where it is a string, and the other way round in pushes
invalid_grant              the token endpoint refuses
push_dropped               a notification is lost
push_duplicated            it comes ``copies`` times
push_early                 it comes ``seconds`` before the history shows its change
imap_throttle              a command over IMAP (methods ``imap.fetch``, ``imap.search``, ...) is too much
imap_drop                  the connection breaks in the middle of a body
imap_truncated             a body ends early, and nothing says so
imap_capped                a search finds the newest ``copies`` messages of a folder only
=========================  =========================================================================
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# kind -> the methods it applies to; empty: all
_BODIES = frozenset({"messages.get", "attachments.get"})
_HISTORY_IDS = frozenset({"getProfile", "history.list", "messages.get", "watch", "push"})
_IMAP = frozenset(f"imap.{name}" for name in ("examine", "fetch", "list", "search", "status"))
FAULTS: dict[str, frozenset[str]] = {
    "expired_history": frozenset({"history.list"}),
    "empty_history_page": frozenset({"history.list"}),
    "stale_page_token": frozenset({"history.list", "messages.list"}),
    "rate_limit": frozenset(),
    "bandwidth": _BODIES,
    "server_error": frozenset(),
    "connection_reset": frozenset(),
    "reset_mid_body": frozenset(),
    "slow_body": frozenset(),
    "failed_precondition": frozenset(),
    "gone_between_list_and_get": frozenset({"messages.get"}),
    "body_behind_attachment_id": frozenset({"messages.get"}),
    "unpadded_base64url": _BODIES,
    "history_id_number": _HISTORY_IDS,
    "invalid_grant": frozenset({"token"}),
    "push_dropped": frozenset({"push"}),
    "push_duplicated": frozenset({"push"}),
    "push_early": frozenset({"push"}),
    "imap_throttle": _IMAP,
    "imap_drop": frozenset({"imap.fetch"}),
    "imap_truncated": frozenset({"imap.fetch"}),
    "imap_capped": frozenset({"imap.search"}),
}
REASONS = ("userRateLimitExceeded", "rateLimitExceeded", "concurrent")
STATUSES = {"rate_limit": (429, 403), "server_error": (500, 502, 503, 504)}


class FaultError(ValueError):
    """A fault that cannot be read. The message names the field."""


@dataclass
class Fault:
    """One fault and how often it has struck. See the module's description for the fields."""

    kind: str
    method: str | None = None
    mailbox: str | None = None
    count: int | None = None
    burst: int = 1
    probability: float = 1.0
    after: int = 0
    seed: int = 0
    status: int | None = None
    reason: str | None = None
    retry_after_seconds: int | None = None
    seconds: float = 1.0
    copies: int = 2
    struck: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)
    _row: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise FaultError(f"kind: {self.kind!r} is none of {', '.join(FAULTS)}")
        if not 0 <= self.probability <= 1:
            raise FaultError(f"probability: {self.probability} is not between 0 and 1")
        allowed = STATUSES.get(self.kind, ())
        if self.status is not None and self.status not in allowed:
            raise FaultError(f"status: {self.status} is not possible with {self.kind}")
        if self.reason is not None and (self.kind != "rate_limit" or self.reason not in REASONS):
            raise FaultError(f"reason: {self.reason} is not possible with {self.kind}")
        self._draws = random.Random(self.seed)

    def strikes(self, method: str, mailbox: str | None = None) -> bool:
        """Whether this request is hit; counts it if so."""
        methods = FAULTS[self.kind]
        if (methods and method not in methods) or self.method not in (None, method):
            return False
        if self.mailbox is not None and self.mailbox != mailbox:
            return False
        self._seen += 1
        if self._seen <= self.after or (self.count is not None and self.struck >= self.count):
            return False
        if self._row:
            self._row -= 1
        elif self._draws.random() >= self.probability:
            return False
        else:
            self._row = self.burst - 1
        self.struck += 1
        return True

    def http_status(self) -> int:
        """The status to answer with."""
        return self.status or STATUSES[self.kind][0]


class FaultPlan:
    """The faults in force. At most one fault of a kind hits a request."""

    def __init__(self, faults: list[Fault] | None = None) -> None:
        self.faults = faults or []

    def strike(self, kind: str, method: str, mailbox: str | None = None) -> Fault | None:
        """The fault of that kind that hits this request, if any."""
        return next(
            (fault for fault in self.faults if fault.kind == kind and fault.strikes(method, mailbox)), None
        )

    def struck(self) -> dict[str, int]:
        """How often each kind has hit."""
        counts: Counter[str] = Counter()
        for fault in self.faults:
            counts[fault.kind] += fault.struck
        return dict(counts)


def parse_faults(described: Any) -> list[Fault]:
    """Faults from their JSON. Raises FaultError."""
    if not isinstance(described, list):
        raise FaultError("faults must be a JSON list of objects")
    faults = []
    for number, entry in enumerate(described, start=1):
        if not isinstance(entry, dict):
            raise FaultError(f"fault {number}: not an object")
        try:
            faults.append(Fault(**entry))
        except TypeError as error:
            raise FaultError(f"fault {number}: {str(error).partition('__init__() ')[2] or error}") from None
        except FaultError as error:
            raise FaultError(f"fault {number}: {error}") from None
    return faults


def read_faults(path: Path) -> list[Fault]:
    """Faults from a file. Raises FaultError when it is missing, no JSON, or describes no faults."""
    try:
        return parse_faults(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FaultError(f"{path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise FaultError(f"{path}: no JSON: {error}") from error
    except FaultError as error:
        raise FaultError(f"{path}: {error}") from error
