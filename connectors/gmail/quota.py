"""Gmail's quota: what each method costs, what each project may spend, and the limiter that holds to it.

Costs and limits are two separate tables, because projects of either era exist in every combination: those
created since 2026-05-01 ("new"), and those that keep what held before ("legacy").
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from connectors.metrics import gmail_api_quota_gauge
from schemas.identity import hashed

COSTS: dict[str, dict[str, int]] = {
    "new": {
        "getProfile": 1,
        "labels.list": 1,
        "history.list": 2,
        "messages.list": 5,
        "messages.get": 20,
        "attachments.get": 20,
        "watch": 100,
        "stop": 50,
    },
    "legacy": {
        "getProfile": 1,
        "labels.list": 1,
        "history.list": 2,
        "messages.list": 5,
        "messages.get": 5,
        "attachments.get": 5,
        "watch": 100,
        "stop": 50,
    },
}

USER_UNITS_PER_MINUTE = {"new": 6_000, "legacy": 15_000}


@dataclass(frozen=True, slots=True)
class Quota:
    """What one process may spend on one mailbox."""

    costs: dict[str, int]
    units_per_minute: float


def quota(costs: str, limits: str, share: float) -> Quota:
    """The quota of a process that may use ``share`` (0-1] of a mailbox's limit."""
    return Quota(COSTS[costs], USER_UNITS_PER_MINUTE[limits] * share)


# The bucket holds this part of a minute's units. What it holds and what flows in during a minute add up to
# the limit, so the limit holds over ANY window of 60 seconds, not only on average.
BURST_SHARE = 0.04


class GmailRateLimiter:
    """A token bucket for one mailbox. It starts empty: its last owner may have spent the minute's units."""

    def __init__(
        self, units_per_minute: float, mailbox_id: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = max(units_per_minute * BURST_SHARE, 1.0)
        self._units_per_second = units_per_minute * (1 - BURST_SHARE) / 60
        self._units = 0.0
        self._clock = clock
        self._filled_at = clock()
        self._paused_until = 0.0
        self._lock = asyncio.Lock()  # first come, first served
        self._gauge = gmail_api_quota_gauge.labels(mailbox=hashed(mailbox_id)) if mailbox_id else None

    async def acquire(self, units: int) -> None:
        """Wait until ``units`` may be spent, and spend them.

        A request that costs more than the bucket holds goes out when the bucket is full, and the debt is
        paid off before the next.
        """
        async with self._lock:
            while True:
                self._fill()
                wait_seconds = max(self._paused_until - self._clock(), 0.0)
                missing = min(units, self._capacity) - self._units
                if missing > 1e-6:  # less is rounding, and waiting it out might never end
                    wait_seconds = max(wait_seconds, missing / self._units_per_second)
                if wait_seconds <= 0:
                    break
                await asyncio.sleep(wait_seconds)
            self._units -= units
            if self._gauge is not None:
                self._gauge.set(self._units)

    def pause(self, seconds: float) -> None:
        """Google asked us to wait: nothing goes out for that long, whatever the bucket holds."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _fill(self) -> None:
        now = self._clock()
        elapsed_seconds = max(now - self._filled_at, 0.0)
        # Without a limit the rate is infinite, and infinity times no time is no number.
        flowed = elapsed_seconds * self._units_per_second if elapsed_seconds else 0.0
        self._units = min(self._capacity, self._units + flowed)
        self._filled_at = now
