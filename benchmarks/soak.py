"""A steady load for hours: do memory, open files, threads, lag and latency stay as they are?

python -m benchmarks.soak --minutes 60 --plot docs/soak.png

Each process is measured with all that it has started. After a warm-up a line is fitted to each series
(Theil-Sen, which a spike does not move). A slope counts as growth when its 99 % interval lies above zero and
what it adds over the whole run is worth mentioning; then the run fails.
"""

import asyncio
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes

from benchmarks import command, pages
from benchmarks.chaos import oracle
from benchmarks.chaos.run import settled
from benchmarks.chaos.world import Letters, Traffic, mailboxes
from benchmarks.figures import Chart, Figure, Point
from cli.pipeline import Pipeline, mailbox_id_of
from cli.status import Observer
from connectors.errors import UnavailableError
from devstack.gmail.server import GmailEmulator
from devstack.gmail.store import Mailbox
from tests.pipelines import pipeline
from tests.processes import descendants, resident_bytes

PROCESSES = ("source", "extract", "slow", "index")
FIRST_MESSAGES, MAILBOXES = 90, 3
SAMPLE_SECONDS = 5.0
SETTLE_SECONDS = 300.0
# What comes in at the beginning is not steady yet: models, pools and caches fill, that of vectors last.
WARM_PART = 0.25
CONFIDENCE = 0.99
# A slope that is surely above zero matters when the run has added more than this: a part of the level, and
# so much in the series' own unit. Latency and lag have no level worth a part.
WORTH_PART = 0.05
WORTH = {
    "memory": 8.0,  # MiB
    "files": 4.0,
    "threads": 2.0,
    "lag": 20.0,  # records
    "latency": 2.0,  # seconds
}


@dataclass(frozen=True, slots=True)
class Slope:
    """A fitted line: units an hour with its interval, the level it begins at, and whether that is growth."""

    series: str
    level: float
    per_hour: float
    low: float
    high: float
    grows: bool


class Measured:
    """Series by name ("memory source"), of points by seconds since the start."""

    def __init__(self) -> None:
        self.series: dict[str, list[Point]] = defaultdict(list)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def add(self, name: str, value: float) -> None:
        """One more point."""
        self.series[name].append((self.seconds, value))

    def processes(self, running: Pipeline) -> None:
        """Memory (MiB), open files and threads of each process with its descendants."""
        for name in PROCESSES:
            pid = running.processes[name].pid
            family = [pid, *descendants(pid)]
            self.add(f"memory {name}", sum(map(resident_bytes, family)) / 2**20)
            self.add(f"files {name}", sum(_entries(pid, "fd") for pid in family))
            self.add(f"threads {name}", sum(_entries(pid, "task") for pid in family))


def _entries(pid: int, kind: str) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/{kind}").iterdir())
    except OSError:
        return 0


def slopes(series: Mapping[str, Sequence[Point]]) -> list[Slope]:
    """The line through each series after its warm-up."""
    found = []
    for name, points in sorted(series.items()):
        warm = points[int(len(points) * WARM_PART) :]
        seconds, values = (np.array(column) for column in zip(*warm, strict=True))
        slope, _, low, high = theilslopes(values, seconds, CONFIDENCE)
        level = float(np.median(values))
        kind = name.partition(" ")[0]
        added = slope * (seconds[-1] - seconds[0])
        part = WORTH_PART * level if kind in ("memory", "files", "threads") else 0.0
        grows = bool(low > 0 and added > max(WORTH[kind], part))
        per_hour, least, most = (round(float(value) * 3600, 3) for value in (slope, low, high))
        found.append(Slope(name, round(level, 2), per_hour, least, most, grows))
    return found


class Latency(threading.Thread):
    """From the arrival of every tenth mail to the moment in which the index shows it."""

    def __init__(self, elasticsearch: str, measured: Measured) -> None:
        super().__init__(name="latency", daemon=True)
        self._url = elasticsearch
        self._measured = measured
        self._ended = threading.Event()
        self._waiting: dict[tuple[str, str], float] = {}
        self._seen = 0

    def arrived(self, mailbox: Mailbox, message_id: str) -> None:
        """A mail has come."""
        self._seen += 1
        if self._seen % 10 == 0:
            self._waiting[mailbox_id_of(mailbox.address), message_id] = time.monotonic()

    def run(self) -> None:
        """See the class."""
        while not self._ended.wait(0.2):
            for key, since in list(self._waiting.items()):
                if self._shows(*key):
                    self._measured.add("latency", time.monotonic() - since)
                    del self._waiting[key]

    def _shows(self, mailbox_id: str, message_id: str) -> bool:
        terms = {"mailbox_id": mailbox_id, "message_id": message_id, "kind": "message"}
        query = {"query": {"bool": {"filter": [{"term": {name: value}} for name, value in terms.items()]}}}
        try:
            return bool(oracle.ask(self._url, "/mail-read/_count", query)["count"])
        except OSError:
            return False

    def enough(self) -> None:
        """Stop."""
        self._ended.set()
        self.join()


def soak(minutes: float, operations_per_second: float, encoder: str, seed: int) -> dict[str, object]:
    """A run; its series, slopes and what the oracle says in the end."""
    letters = Letters(seed, b"soak" * 8, infected=False)
    also = {"AUDIT_HOURS": "0", "SOURCE_POLL_SECONDS": "2", "DRAFT_QUIET_SECONDS": "2"}
    with (
        GmailEmulator(mailboxes(MAILBOXES, FIRST_MESSAGES, letters)) as emulator,
        tempfile.TemporaryDirectory() as directory,
        pipeline(None, Path(directory), encoder=encoder, gmail=emulator.describe(), also=also) as running,
    ):
        running.start(*PROCESSES)
        asyncio.run(settled(running, emulator))
        measured = Measured()
        # As many come as go, so that the mailboxes stay as large as they are.
        traffic = Traffic(emulator, letters, seed, operations_per_second, steady_messages=FIRST_MESSAGES)
        latency = Latency(running.elasticsearch_url, measured)
        traffic.on_add = latency.arrived
        latency.start()
        traffic.start()
        asyncio.run(_measure(running, measured, minutes * 60))
        traffic.enough()
        latency.enough()
        running.check()  # nobody has died on the way
        asyncio.run(settled(running, emulator))
        boxes = {mailbox_id_of(box.address): box for box in emulator.mailboxes.values()}
        truth = oracle.Truth.of(boxes, letters.expected, [])
        found = asyncio.run(oracle.violations(running.kafka_bootstrap, running.elasticsearch_url, truth))
        wrong = [line for line in found if not line.startswith(oracle.LATE)]
    return {
        "minutes": minutes,
        "operations": sum(traffic.counts.values()),
        "messages": len(letters.expected),
        "slopes": slopes(measured.series),
        "violations": wrong,
        "series": dict(measured.series),
    }


async def _measure(running: Pipeline, measured: Measured, seconds: float) -> None:
    async with Observer.open(running.settings) as observer:
        while measured.seconds < seconds:
            measured.processes(running)
            try:
                for stage, lag in (await observer.status()).lag.items():
                    measured.add(f"lag {stage}", lag)
            except UnavailableError:  # a measure less
                pass
            await asyncio.sleep(SAMPLE_SECONDS)


def figure(series: Mapping[str, Sequence[Point]], title: str) -> Figure:
    """A chart for each kind of series."""
    titles = {
        "memory": "memory, MiB (anonymous, with all descendants)",
        "files": "open files",
        "threads": "threads",
        "lag": "lag, records",
        "latency": "from arrival to being shown, seconds",
    }
    charts = []
    for kind, said in titles.items():
        curves = {
            name.partition(" ")[2] or name: points for name, points in series.items() if name.startswith(kind)
        }
        charts.append(Chart(said, curves))
    return Figure(title, charts=charts)


def main() -> None:
    """Run, print the slopes, draw. Exit code 1: something grows, or something is wrong."""
    parser = command.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--operations-per-second", type=float, default=4.0)
    parser.add_argument("--encoder", default="hash", help="minilm: the real one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="where the figure goes (PNG)")
    options = parser.parse_args()
    report = soak(options.minutes, options.operations_per_second, options.encoder, options.seed)
    found: list[Slope] = report["slopes"]  # type: ignore[assignment]
    violations: list[str] = report["violations"]  # type: ignore[assignment]
    series: dict[str, list[Point]] = report.pop("series")  # type: ignore[assignment]
    if options.plot:
        title = f"{options.minutes:g} minutes, {report['operations']} changes, {report['messages']} messages"
        figure(series, title).save(options.plot)
    rows = [
        (
            *(one.series, f"{one.level:g}", f"{one.per_hour:+g}", f"{one.low:+g} to {one.high:+g}"),
            "GROWS" if one.grows else "",
        )
        for one in found
    ]
    print(pages.table(("series", "level", "an hour", "99 %", ""), rows), *violations[:20], sep="\n")
    command.print_json({**report, "slopes": [asdict(one) for one in found]})
    sys.exit(bool(violations) or any(one.grows for one in found))


if __name__ == "__main__":
    main()
