"""The quota engine: no window over its limit, nearly all of it used, and nobody held up by another."""

import asyncio
import heapq
import math
import random
from collections import deque

import pytest
from prometheus_client import REGISTRY

from cli.sync import described
from connectors.errors import RateLimitedError
from connectors.gmail.quota import COSTS, LIMITS, Limits, ProjectQuota, Quota, quota
from connectors.gmail.window import Clock, Window
from schemas.events import Estimate


class Hands(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Started(Clock):
    """A clock that stands until it is started, and goes fast then."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self._since: float | None = None

    def start(self) -> None:
        self._since = super().__call__()

    def __call__(self) -> float:
        return 0.0 if self._since is None else super().__call__() - self._since


def _most_in_a_minute(arrivals: list[tuple[float, int]]) -> int:
    window: deque[tuple[float, int]] = deque()
    most = units = 0
    for at, cost in sorted(arrivals):
        window.append((at, cost))
        units += cost
        while window[0][0] <= at - 60:
            units -= window.popleft()[1]
        most = max(most, units)
    return most


@pytest.mark.parametrize(("era", "cost"), [("new", 20), ("legacy", 5)])
def test_flat_out_no_minute_is_over_and_hardly_any_is_wasted(era: str, cost: int) -> None:
    """Five minutes with a new owner in the midst of them, and requests late by up to four seconds."""
    limit = LIMITS[era].mailbox_units_per_minute
    clock, draws = Hands(), random.Random(7)
    window = Window(limit, 60, clock, 0.01, 0.005, 100)
    arrivals: list[tuple[float, int]] = []
    answers: list[float] = []
    owners = 1
    while clock.now < 300:
        if clock.now > 100 and owners == 1:
            owners, answers = 2, []
            window = Window(limit, 60, clock, 0.01, 0.005, 100)
        while answers and answers[0] <= clock.now:
            heapq.heappop(answers)
            window.ended(cost)
        wait_seconds = window.wait_seconds(cost)
        if wait_seconds > 0:
            clock.now = min(clock.now + wait_seconds, answers[0] if answers else math.inf)
            continue
        window.spend(cost)
        late_seconds = draws.random() ** 4 * (4 if clock.now < 95 or clock.now > 105 else 0)
        arrivals.append((clock.now + late_seconds / 2, cost))
        heapq.heappush(answers, clock.now + late_seconds)
    assert _most_in_a_minute(arrivals) <= limit
    assert sum(cost for _, cost in arrivals) >= 0.95 * limit * 5


def test_a_window_starts_empty_and_a_part_of_it_too() -> None:
    clock = Hands()
    window = Window(6_000, 60, clock, 0.01, 0.005, 20)
    assert window.wait_seconds(20) > 0
    clock.now = 60
    assert window.wait_seconds(20) == 0
    window.set_part(0.5)
    assert window.limit == 3_000
    assert window.wait_seconds(20) > 0


def test_what_was_refused_is_tried_more_slowly_and_slowly_faster() -> None:
    clock = Hands()
    window = Window(6_000, 60, clock, 0.01, 0.005, 20)
    full = window._rate
    window.shrink()
    window.shrink()
    assert window._rate < 0.5 * full
    clock.now = 60
    window.wait_seconds(1)
    assert 0.5 * full < window._rate < full
    clock.now = 3_600
    window.wait_seconds(1)
    assert window._rate == pytest.approx(full)


def _project(limits: Limits, rate: float = 1.0) -> ProjectQuota:
    return ProjectQuota(Quota(COSTS["new"], limits), Clock(rate))


PLENTY = Limits(math.inf, math.inf, math.inf)


async def test_what_waits_is_counted() -> None:
    limiter = _project(Limits(6_000, math.inf, math.inf), rate=1).limiter("box")
    waiting = asyncio.create_task(limiter.acquire(20))
    await asyncio.sleep(0)
    assert REGISTRY.get_sample_value("gmail_requests_waiting") == 1
    with await waiting:
        assert REGISTRY.get_sample_value("gmail_requests_waiting") == 0


async def test_live_goes_before_backfill_and_mailboxes_take_turns() -> None:
    clock = Started(rate=50)
    project = ProjectQuota(Quota(COSTS["new"], Limits(math.inf, 6_000, math.inf)), clock)
    huge, small = project.limiter(), project.limiter()
    order: list[str] = []

    async def one(limiter: object, name: str, background: bool) -> None:
        with await limiter.acquire(20, background=background):  # type: ignore[attr-defined]
            order.append(name)

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(one(huge, f"huge {number}", True))
        group.create_task(one(small, "small", True))
        group.create_task(one(huge, "new mail", False))
        # All of them wait before the first may go, on however busy a machine.
        await asyncio.sleep(0)
        clock.start()
    assert order.index("new mail") <= 1
    assert order.index("small") <= 3
    assert [name for name in order if name.startswith("huge")] == [f"huge {n}" for n in range(40)]


async def test_a_mailbox_that_is_throttled_for_hours_holds_up_no_other() -> None:
    project = _project(PLENTY)
    throttled, others = project.limiter(), [project.limiter() for _ in range(19)]
    throttled.refused(RateLimitedError("bandwidth", retry_after_seconds=7_200))
    waiting = [asyncio.create_task(throttled.acquire(20)) for _ in range(100)]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        for limiter in others:
            for _ in range(20):
                with await limiter.acquire(20):
                    pass
    assert throttled.paused_seconds > 7_000
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_requests_in_flight_are_bounded_and_fewer_after_a_refusal() -> None:
    project = _project(Limits(math.inf, math.inf, math.inf, requests_in_flight=4))
    limiter = project.limiter()
    grants = [await limiter.acquire(1) for _ in range(4)]
    fifth = asyncio.create_task(limiter.acquire(1))
    await asyncio.sleep(0.01)
    assert not fifth.done()
    with grants.pop():
        pass
    grants.append(await asyncio.wait_for(fifth, 5))
    refusal = RateLimitedError("Too many concurrent requests for user", retry_after_seconds=0.001)
    refusal.scope = "concurrency"
    limiter.refused(refusal)
    for grant in grants:
        with grant:
            pass
    await asyncio.sleep(0.01)
    first = [await limiter.acquire(1) for _ in range(2)]
    third = asyncio.create_task(limiter.acquire(1))
    await asyncio.sleep(0.01)
    assert len(first) == 2
    assert not third.done()
    third.cancel()


async def test_one_who_gives_up_takes_nothing_with_him() -> None:
    project = _project(Limits(math.inf, math.inf, math.inf, requests_in_flight=2))
    limiter = project.limiter()
    grants = [await limiter.acquire(1) for _ in range(2)]
    quitter = asyncio.create_task(limiter.acquire(1))
    await asyncio.sleep(0)
    quitter.cancel()
    await asyncio.gather(quitter, return_exceptions=True)
    for grant in grants:
        with grant:
            pass
    async with asyncio.timeout(5):
        for _ in range(2):
            await limiter.acquire(1)


async def test_refusals_without_a_time_back_off_further_each_time() -> None:
    clock = Hands()
    project = ProjectQuota(Quota(COSTS["new"], PLENTY), clock)
    limiter = project.limiter()
    waits = []
    for _ in range(12):
        limiter.refused(RateLimitedError("slow down"))
        waits.append(limiter.paused_seconds)
        clock.now += limiter.paused_seconds
    assert waits[0] <= 1
    assert 30 <= waits[-1] <= 60
    limiter.accepted(0)
    limiter.refused(RateLimitedError("slow down"))
    assert limiter.paused_seconds <= 1


async def test_a_days_bytes_end_the_days_fetching() -> None:
    clock = Hands()
    limits = Limits(math.inf, math.inf, math.inf, bytes_per_day=1_000_000)
    limiter = ProjectQuota(Quota(COSTS["new"], limits), clock).limiter()
    assert limiter.wait_seconds(20) == 0
    limiter.accepted(600_000)
    assert 3_600 < limiter.wait_seconds(20) < 86_400
    clock.now += 86_400
    assert limiter.wait_seconds(20) == 0


def test_a_backfill_is_estimated_in_units_and_hours() -> None:
    units, seconds, per_minute = quota("new", "new", 1.0).estimate(100_000, 0)
    estimate = Estimate(
        request_id="r", messages=100_000, units=units, seconds=seconds, messages_per_minute=per_minute
    )
    assert described(estimate) == "100,000 messages: 2.0 M units, 5 h 33 min at 300/min"
    unlimited = quota("new", "off", 1.0).estimate(40, 1)
    assert unlimited == (805, 0.0, None)
    again = estimate.model_copy(update={"messages_per_minute": None, "seconds": 0.0})
    assert Estimate.decode(again.encode()) == again
