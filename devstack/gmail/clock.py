"""The emulator's time. Tests move it by hand; everything that expires or is counted a minute asks it."""

import time


class Clock:
    """Seconds since 1970, as ``time.time`` counts them, plus what ``advance`` added.

    ``start`` None follows the wall clock; a number stops the clock there, so that only ``advance`` moves it.
    """

    def __init__(self, start: float | None = None) -> None:
        self._stopped_at = start
        self._offset_seconds = 0.0

    def __call__(self) -> float:
        """The time now."""
        base = time.time() if self._stopped_at is None else self._stopped_at
        return base + self._offset_seconds

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        self._offset_seconds += seconds
