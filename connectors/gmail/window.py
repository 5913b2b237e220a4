"""How much may be spent in any window of time: paced, and never more, however late a request arrives."""

import heapq
import math
import time

# After a refusal a window is this much narrower; it widens again by that much a minute.
SHRINK, LEAST_SCALE, GROWTH_PER_MINUTE = 0.7, 0.1, 0.05
_ROUNDING_SECONDS = 1e-6


class Clock:
    """Seconds that only go forward. A ``rate`` above 1 goes faster than the wall's clock."""

    def __init__(self, rate: float = 1.0) -> None:
        self._rate = rate

    def __call__(self) -> float:
        """The time now."""
        return time.monotonic() * self._rate

    def real_seconds(self, seconds: float) -> float:
        """How long that many seconds of this clock take."""
        return seconds / self._rate


class Window:
    """At most ``limit`` units in any ``window_seconds``, counted where they arrive.

    Two counts guard it. A bucket paces: what it holds (``burst`` of the limit, or one request of
    ``largest_units``) and what flows in during a window add up to the limit less ``slack``, and it starts
    empty, so that the limit holds over a change of owner too. A log of what was sent counts a request from
    when it was let go until a window after its answer, so that requests which are late on their way
    cannot meet later ones in the same window. The log is kept only where a ``slack`` is given: a day's would
    be too long.
    """

    def __init__(
        self,
        limit: float,
        window_seconds: float,
        clock: Clock,
        burst: float,
        slack: float | None = None,
        largest_units: float = 0.0,
    ) -> None:
        self._whole = limit
        self._window_seconds = window_seconds
        self._clock = clock
        self._burst = burst
        self._slack = slack or 0.0
        self._is_logged = slack is not None
        self._largest_units = largest_units
        self._part = 1.0
        self._scale = 1.0
        self._tokens = 0.0
        self._filled_at = clock()
        self._sent = 0.0  # in flight, or answered within the last window
        self._ended: list[tuple[float, float]] = []  # (when the log forgets them, units)

    @property
    def limit(self) -> float:
        """Units in any window."""
        return self._whole * self._part

    @property
    def remaining(self) -> float:
        """What is left of the current window, where it is logged."""
        self._forget()
        return self.limit - self._sent

    @property
    def _capacity(self) -> float:
        return max(self.limit * self._burst, min(self._largest_units, self.limit / 2))

    def set_part(self, part: float) -> None:
        """The window is that part of the whole from now on, and empty."""
        self._part = part
        self._tokens = min(self._tokens, 0.0)

    def fill(self) -> None:
        """Start full instead of empty."""
        self._tokens = self._capacity

    def shrink(self) -> None:
        """Be slower for a while."""
        self._scale = max(self._scale * SHRINK, LEAST_SCALE)

    def wait_seconds(self, units: float) -> float:
        """How long until ``units`` may be spent; infinite where only the end of a request can tell."""
        if math.isinf(self._whole):
            return 0.0
        self._refill()
        rate = self._rate
        missing = min(units, self._capacity) - self._tokens
        wait_seconds = missing / rate if missing > 0 else 0.0
        if wait_seconds < _ROUNDING_SECONDS:
            wait_seconds = 0.0
        self._forget()
        if self._sent + min(units, self.limit) > self.limit + 1e-9:
            forgets = self._ended[0][0] - self._clock() if self._ended else math.inf
            wait_seconds = max(wait_seconds, forgets, _ROUNDING_SECONDS)
        return wait_seconds

    def spend(self, units: float) -> None:
        """A request of ``units`` is on its way."""
        self._refill()
        self._tokens -= units
        if self._is_logged:
            self._sent += units

    def ended(self, units: float) -> None:
        """A request of ``units`` has been answered."""
        if self._is_logged:
            heapq.heappush(self._ended, (self._clock() + self._window_seconds, units))

    def charge(self, units: float) -> None:
        """Spend what is known only afterwards; the next one waits until the debt is paid."""
        self._refill()
        self._tokens -= units

    @property
    def _rate(self) -> float:
        even = (self.limit * (1 - self._slack) - self._capacity) / self._window_seconds
        return max(even * self._scale, self.limit / self._window_seconds / 1_000)

    def _refill(self) -> None:
        now = self._clock()
        elapsed_seconds = max(now - self._filled_at, 0.0)
        self._filled_at = now
        if math.isinf(self._whole):
            return
        self._tokens = min(self._tokens + elapsed_seconds * self._rate, self._capacity)
        self._scale = min(self._scale + elapsed_seconds / 60 * GROWTH_PER_MINUTE, 1.0)

    def _forget(self) -> None:
        now = self._clock()
        while self._ended and self._ended[0][0] <= now:
            self._sent -= heapq.heappop(self._ended)[1]
