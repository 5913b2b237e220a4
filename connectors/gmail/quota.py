"""Gmail's quota: what each method costs, what may be spent, and the limiter that holds to it.

Costs and limits are two separate tables, because projects of either era exist in every combination: those
created since 2026-05-01 ("new"), and those that keep what held before ("legacy").

Every request of a process waits in one place, ``ProjectQuota``, which gives turns: live work before backfill,
then whichever mailbox has waited longest. A mailbox that may not go yet delays no other.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from dataclasses import dataclass, replace
from weakref import WeakSet, finalize

from connectors.errors import RateLimitedError, backoff_seconds
from connectors.gmail.window import Clock, Window
from connectors.metrics import gmail_api_quota_gauge, gmail_requests_waiting_gauge

_COMMON = {
    "getProfile": 1,
    "labels.list": 1,
    "history.list": 2,
    "messages.list": 5,
    "watch": 100,
}
COSTS: dict[str, dict[str, int]] = {
    "new": {**_COMMON, "messages.get": 20, "attachments.get": 20},
    "legacy": {**_COMMON, "messages.get": 5, "attachments.get": 5},
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What Google allows; infinite: no limit. ``bytes_per_day`` are those that Gmail gives of one mailbox."""

    mailbox_units_per_minute: float
    project_units_per_minute: float
    project_units_per_day: float
    requests_in_flight: int = 10
    bytes_per_day: float = math.inf


LIMITS: dict[str, Limits] = {
    "new": Limits(6_000, 1_200_000, 80_000_000),
    "legacy": Limits(15_000, 1_200_000, math.inf),
    "off": Limits(math.inf, math.inf, math.inf),
}


@dataclass(frozen=True, slots=True)
class Quota:
    """What one kind of process may spend: Google's limits, and its share (0-1] of each."""

    costs: dict[str, int]
    limits: Limits
    share: float = 1.0

    def estimate(self, messages: int, pages: int) -> tuple[int, float, float | None]:
        """What it costs to list and fetch so many messages: units, seconds, and messages a minute (None
        without a limit)."""
        cost = self.costs["messages.get"]
        units = messages * cost + pages * self.costs["messages.list"]
        per_minute = self.limits.mailbox_units_per_minute * self.share / cost
        if math.isinf(per_minute):
            return units, 0.0, None
        return units, messages / per_minute * 60, per_minute


# A day's units and bytes flow evenly, but for this part, which may be spent at once.
_DAY_BURST = 0.1
_MINUTE_SECONDS, _DAY_SECONDS = 60.0, 86_400.0
# What is left of the minute for requests that are late on their way, as a part of it.
_BURST, _SLACK = 0.01, 0.005
MAX_BACKOFF_SECONDS = 60.0
LIVE, BACKGROUND = 0, 1


class ProjectQuota:
    """What this process may spend over all its mailboxes. Belongs to one event loop.

    Of each mailbox it has all that its kind of process may spend, or, with ``splits_mailboxes``, the same
    part as of the project: where others work on the same mailboxes.
    """

    def __init__(self, quota: Quota, clock: Clock | None = None, *, splits_mailboxes: bool = False) -> None:
        self.quota = quota
        self._splits_mailboxes = splits_mailboxes
        self._part = 1.0
        self._limiters: WeakSet[GmailRateLimiter] = WeakSet()
        self.clock = clock or Clock()
        limits = quota.limits
        largest = max(quota.costs.values())
        self._minute = Window(
            limits.project_units_per_minute * quota.share,
            _MINUTE_SECONDS,
            self.clock,
            _BURST,
            _SLACK,
            largest,
        )
        self._day = Window(limits.project_units_per_day * quota.share, _DAY_SECONDS, self.clock, _DAY_BURST)
        self._waiting: set[GmailRateLimiter] = set()
        self._turns = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def limiter(self, mailbox_id: str = "") -> GmailRateLimiter:
        """The limiter of one mailbox. It starts empty: the last owner may have spent the minute's units."""
        limiter = GmailRateLimiter(self, mailbox_id)
        limiter.set_part(self._mailbox_part)
        self._limiters.add(limiter)
        return limiter

    def set_part(self, part: float) -> None:
        """This process owns ``part`` (0-1] of all partitions from now on, and starts empty."""
        self._part = part
        for window in (self._minute, self._day):
            window.set_part(part)
        for limiter in self._limiters:
            limiter.set_part(self._mailbox_part)

    @property
    def _mailbox_part(self) -> float:
        return self._part if self._splits_mailboxes else 1.0

    def wake(self, limiter: GmailRateLimiter) -> None:
        """Somebody waits, or what he waits for may have come."""
        self._waiting.add(limiter)
        self._give_turns()

    def shrink(self) -> None:
        """Google refused for the whole project's sake."""
        self._minute.shrink()

    def _give_turns(self) -> None:
        wait_seconds = math.inf
        given = True
        while given:
            given, wait_seconds = False, math.inf
            self._waiting = {limiter for limiter in self._waiting if limiter.next_up() is not None}
            for limiter in sorted(self._waiting, key=GmailRateLimiter.rank):
                waiter = limiter.next_up()
                assert waiter is not None, "those without one were left out above"
                own_seconds = limiter.wait_seconds(waiter.units)
                if own_seconds > 0:
                    wait_seconds = min(wait_seconds, own_seconds)
                    continue
                seconds = max(self._minute.wait_seconds(waiter.units), self._day.wait_seconds(waiter.units))
                if seconds > 0:
                    # It is this one's turn: a cheaper request behind it must not take what it waits for.
                    wait_seconds = min(wait_seconds, seconds)
                    break
                self._minute.spend(waiter.units)
                self._day.spend(waiter.units)
                gmail_api_quota_gauge.set_project(self._minute.remaining)
                limiter.let_go(next(self._turns))
                given = True
                break
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if math.isfinite(wait_seconds):
            real_seconds = self.clock.real_seconds(wait_seconds) + 0.0005  # timers may be early by a tick
            self._timer = asyncio.get_running_loop().call_later(real_seconds, self._give_turns)

    def ended(self, units: int) -> None:
        """A request has been answered: from now on it counts for a minute."""
        self._minute.ended(units)
        self._day.ended(units)


@dataclass(order=True, slots=True)
class _Waiter:
    priority: int
    number: int
    units: int
    granted: asyncio.Future[None]


class GmailRateLimiter:
    """One mailbox: units a minute, requests in flight, bytes a day, and what Google's refusals taught."""

    def __init__(self, project: ProjectQuota, mailbox_id: str = "") -> None:
        quota, clock = project.quota, project.clock
        limits = quota.limits
        largest = max(quota.costs.values())
        self._project = project
        self._clock = clock
        self._units = Window(
            limits.mailbox_units_per_minute * quota.share, _MINUTE_SECONDS, clock, _BURST, _SLACK, largest
        )
        self._bytes = Window(limits.bytes_per_day * quota.share, _DAY_SECONDS, clock, _DAY_BURST)
        # A new owner is not punished for what the last one was given: Google's own count says when to stop.
        self._bytes.fill()
        self._most_in_flight = max(round(limits.requests_in_flight * quota.share), 2)
        self._in_flight_limit = float(self._most_in_flight)
        self._in_flight = 0
        self._waiters: list[_Waiter] = []
        self._numbers = itertools.count()
        self._served = -1
        self._paused_until = -math.inf
        self._refusals = 0
        self._mailbox_id = mailbox_id
        if mailbox_id:
            finalize(self, gmail_api_quota_gauge.forget, mailbox_id)

    @property
    def remaining_units(self) -> int | None:
        """Units that may be spent at once; None where nobody counts."""
        remaining = self._units.remaining
        return int(remaining) if math.isfinite(remaining) else None

    # --- what a request does -------------------------------------------------------------------------

    async def acquire(self, units: int, *, background: bool = False) -> Grant:
        """Wait until ``units`` may be spent, and spend them. The grant is to be ended with the request."""
        priority = BACKGROUND if background else LIVE
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(priority, next(self._numbers), units, granted)
        heapq.heappush(self._waiters, waiter)
        self._project.wake(self)
        try:
            with gmail_requests_waiting_gauge.track_inprogress():
                await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.end(units)  # it was let go in the very moment in which nobody wanted it any more
            raise
        return Grant(self, units)

    def end(self, units: int) -> None:
        """A request that was let go has been answered, or given up."""
        self._in_flight -= 1
        self._units.ended(units)
        self._project.ended(units)
        self._project.wake(self)

    def accepted(self, received_bytes: int) -> None:
        """Google answered a request."""
        self._refusals = 0
        if received_bytes:
            self._bytes.charge(received_bytes)

    def refused(self, error: RateLimitedError) -> None:
        """Google refused a request for quota's sake: wait, and be slower from now on."""
        now = self._clock()
        if now >= self._paused_until:  # else it is one of those that were on their way already
            self._refusals += 1
            match error.scope:
                case "project":
                    self._project.shrink()
                case "concurrency":
                    self._in_flight_limit = max(self._in_flight_limit / 2, 1.0)
                case _:
                    self._units.shrink()
        backoff = backoff_seconds(self._refusals, MAX_BACKOFF_SECONDS, first=0.5)
        self.pause(error.retry_after_seconds or backoff)

    def pause(self, seconds: float) -> None:
        """Nothing goes out for that long, whatever may be spent."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    @property
    def paused_seconds(self) -> float:
        """How long nothing will go out; 0 when requests may."""
        return max(self._paused_until - self._clock(), 0.0)

    # --- what the project asks -----------------------------------------------------------------------

    def set_part(self, part: float) -> None:
        """That part of the mailbox's quota is this process's from now on, and it starts empty."""
        self._units.set_part(part)

    def next_up(self) -> _Waiter | None:
        """Who goes next."""
        while self._waiters and self._waiters[0].granted.done():
            heapq.heappop(self._waiters)
        return self._waiters[0] if self._waiters else None

    def rank(self) -> tuple[int, int]:
        """Lower goes first: by priority, then by whose last turn is longest ago."""
        waiter = self.next_up()
        return (waiter.priority if waiter else BACKGROUND, self._served)

    def wait_seconds(self, units: int) -> float:
        """How long until this mailbox may send a request; infinite while too many are under way."""
        if self._in_flight >= int(self._in_flight_limit):
            return math.inf
        return max(self.paused_seconds, self._units.wait_seconds(units), self._bytes.wait_seconds(0))

    def let_go(self, turn: int) -> None:
        """Spend what the next one needs, and let it go."""
        waiter = heapq.heappop(self._waiters)
        self._served = turn
        self._in_flight += 1
        self._in_flight_limit = min(self._in_flight_limit + 0.01, self._most_in_flight)
        self._units.spend(waiter.units)
        if self._mailbox_id:
            gmail_api_quota_gauge.set(self._mailbox_id, self._units.remaining)
        waiter.granted.set_result(None)


@dataclass(slots=True)
class Grant:
    """Leave for one request. A context manager: at its end the request has been answered."""

    limiter: GmailRateLimiter
    units: int

    def __enter__(self) -> Grant:
        return self

    def __exit__(self, *_: object) -> None:
        self.limiter.end(self.units)


def quota(
    costs: str,
    limits: str,
    share: float,
    *,
    mailbox_units_per_minute: float | None = None,
    project_units_per_minute: float | None = None,
    project_units_per_day: float | None = None,
    requests_in_flight: int = 10,
    bytes_per_day: float = math.inf,
) -> Quota:
    """The quota of a kind of process, out of the tables and what differs from them."""
    table = LIMITS[limits]
    return Quota(
        COSTS[costs],
        replace(
            table,
            mailbox_units_per_minute=mailbox_units_per_minute or table.mailbox_units_per_minute,
            project_units_per_minute=project_units_per_minute or table.project_units_per_minute,
            project_units_per_day=project_units_per_day or table.project_units_per_day,
            requests_in_flight=requests_in_flight,
            bytes_per_day=bytes_per_day if limits != "off" else math.inf,
        ),
        share,
    )
