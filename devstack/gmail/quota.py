"""Google's tables of what each method costs and what may be spent, and the count against them.

Costs and limits are chosen together by an era's name: "new" (projects since 2026-05-01) or "legacy". The
windows slide: a limit holds over any 60 seconds. The legacy table's 250 units a user and second are a moving
average, which over a minute is the same as its 15,000.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from devstack.gmail.errors import rate_limited

WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Quota:
    """Units per method, and units a minute; a limit of None does not limit."""

    costs: dict[str, int]
    user_units_per_minute: int | None
    project_units_per_minute: int | None


_COMMON_COSTS = {
    "getProfile": 1,
    "labels.get": 1,
    "labels.list": 1,
    "history.list": 2,
    "messages.list": 5,
    "watch": 100,
    "stop": 50,
}
_NEW_COSTS = {**_COMMON_COSTS, "messages.get": 20, "attachments.get": 20}
_LEGACY_COSTS = {**_COMMON_COSTS, "messages.get": 5, "attachments.get": 5}

QUOTAS = {
    "new": Quota(_NEW_COSTS, 6_000, 1_200_000),
    "legacy": Quota(_LEGACY_COSTS, 15_000, 1_200_000),
    "off": Quota(_NEW_COSTS, None, None),
}


class SlidingWindow:
    """The units spent during the last 60 seconds."""

    def __init__(self) -> None:
        self._spent: deque[tuple[float, int]] = deque()
        self._units = 0

    def units(self, now: float) -> int:
        """What was spent in the window that ends at ``now``."""
        while self._spent and self._spent[0][0] <= now - WINDOW_SECONDS:
            self._units -= self._spent.popleft()[1]
        return self._units

    def spend(self, now: float, units: int) -> None:
        """Count ``units`` at ``now``."""
        self._spent.append((now, units))
        self._units += units


class QuotaMeter:
    """Counts every request, and refuses those above a limit. A refused request costs nothing."""

    def __init__(self, quota: Quota, clock: Callable[[], float]) -> None:
        self._quota = quota
        self._clock = clock
        self._users: dict[str, SlidingWindow] = {}
        self._project = SlidingWindow()
        self.requests: Counter[str] = Counter()
        self.units: Counter[str] = Counter()
        self.rejections: Counter[str] = Counter()  # by reason

    def spend(self, address: str, method: str) -> None:
        """Count one call. Raises ApiError 403 above the user's limit, 429 above the project's."""
        self.requests[method] += 1
        cost = self._quota.costs.get(method, 0)
        now = self._clock()
        user = self._users.setdefault(address, SlidingWindow())
        if _exceeds(user, now, cost, self._quota.user_units_per_minute):
            raise self._refusal(403, "userRateLimitExceeded", "User-rate limit exceeded.")
        if _exceeds(self._project, now, cost, self._quota.project_units_per_minute):
            raise self._refusal(429, "rateLimitExceeded", "Rate Limit Exceeded")
        user.spend(now, cost)
        self._project.spend(now, cost)
        self.units[method] += cost

    def _refusal(self, code: int, reason: str, message: str) -> Exception:
        self.rejections[reason] += 1
        return rate_limited(code, reason, message)


def _exceeds(window: SlidingWindow, now: float, cost: int, limit: int | None) -> bool:
    return limit is not None and window.units(now) + cost > limit
