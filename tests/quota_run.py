"""Flat out against Google's quota of either era, with a kill in between.

python -m tests.quota_run --seconds 180 --rate 1
"""

import argparse
import json
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass

from devstack.gmail.clock import Clock
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.quota import QUOTAS
from devstack.gmail.server import GmailEmulator

WINDOW_SECONDS = 60.0


class FastClock(Clock):
    """An emulator's clock that goes faster than the wall's."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate
        self._started = time.time()

    def __call__(self) -> float:
        return self._started + (time.time() - self._started) * self._rate


@dataclass
class Spent:
    """What the emulator counted: ``used`` is the part of what was allowed; the most in any 60 s; refusals."""

    era: str
    limit: int  # a minute
    allowed: int
    units: int
    most_in_a_minute: int
    refused: int
    kills: int

    @property
    def used(self) -> float:
        """From 0 to 1."""
        return self.units / self.allowed


def run(era: str, seconds: float, rate: float) -> Spent:
    """Spend for that many emulated seconds; the process is killed halfway, and another one started."""
    limit = QUOTAS[era].user_units_per_minute or 0
    emulator = GmailEmulator(
        {"anna@example.com": [MailBytes(b"Subject: one\n\nbody\n")]}, quota=era, clock=FastClock(rate)
    ).start()
    log: list[tuple[float, int]] = []
    spend = emulator.meter.spend

    def logged(address: str, method: str) -> None:
        spend(address, method)
        log.append((emulator.clock(), QUOTAS[era].costs[method]))

    emulator.meter.spend = logged  # type: ignore[method-assign]
    process: subprocess.Popen[str] | None = None
    try:
        process = _driver(emulator, era, rate)
        begun = emulator.clock()
        _sleep_until(emulator, begun + seconds / 2)
        process.kill()
        process.wait()
        process = _driver(emulator, era, rate)
        _sleep_until(emulator, begun + seconds)
        process.kill()
        process.wait()
    finally:
        if process is not None and process.poll() is None:
            process.kill()
        refused = sum(emulator.meter.rejections.values())
        emulator.stop()
    units = sum(cost for at, cost in log if begun <= at < begun + seconds)
    return Spent(era, limit, int(limit * seconds / 60), units, most_in_a_minute(log), refused, 1)


def _driver(emulator: GmailEmulator, era: str, rate: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.quota_driver", emulator.url, era, str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(emulator.client_credentials("anna@example.com")))
    process.stdin.close()
    assert process.stdout.readline() == "begun\n"
    return process


def _sleep_until(emulator: GmailEmulator, at: float) -> None:
    while emulator.clock() < at:
        time.sleep(0.02)


def most_in_a_minute(log: list[tuple[float, int]]) -> int:
    """The most units in any window of 60 seconds."""
    window: deque[tuple[float, int]] = deque()
    most = units = 0
    for at, cost in log:
        window.append((at, cost))
        units += cost
        while window[0][0] <= at - WINDOW_SECONDS:
            units -= window.popleft()[1]
        most = max(most, units)
    return most


def main() -> None:
    """Both eras, one after the other; fails below 95 % or at the first request over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--era", choices=["new", "legacy"], action="append")
    arguments = parser.parse_args()
    failed = False
    for era in arguments.era or ["new", "legacy"]:
        spent = run(era, arguments.seconds, arguments.rate)
        good = spent.used >= 0.95 and not spent.refused and spent.most_in_a_minute <= spent.limit
        failed |= not good
        sys.stdout.write(json.dumps({**vars(spent), "used": round(spent.used, 4), "good": good}) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
