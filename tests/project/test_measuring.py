"""What the benchmarks reckon with: exponents, percentiles, processor seconds by what they were spent on."""

import math
import subprocess
import sys
import time
from collections import Counter

import pytest

from benchmarks.costs import EMBEDDING, OCR, PARSING, Costs, Meter
from benchmarks.end_to_end import Run, p95, summary
from benchmarks.growth import exponent


def test_an_exponent_is_the_slope_between_logarithms() -> None:
    assert exponent([(1, 3), (10, 30), (100, 300)]) == pytest.approx(1)
    assert exponent([(1, 1), (4, 8), (16, 64)]) == pytest.approx(1.5)


def test_a_mail_that_never_arrives_is_no_percentile() -> None:
    assert p95([1.0] * 19 + [math.inf]) == math.inf
    assert p95([1.0] * 20) == 1


@pytest.mark.parametrize(
    ("busy", "idle_seconds", "outside", "good"),
    [(2.0, 1.0, 10, True), (2.1, 1.0, 10, False), (2.0, 20.0, 10, False), (2.0, 1.0, 100, False)],
)
def test_what_must_hold_end_to_end(busy: float, idle_seconds: float, outside: int, good: bool) -> None:
    spent = Counter({PARSING: 40, OCR: 30, EMBEDDING: 30, "source": outside, "Kafka": 50})
    costs = Costs(seconds=100.0, idle_seconds=idle_seconds, processor=spent)
    results = {
        "run": Run(10, 10, 20, 1_000, 100.0, costs),
        "rest": [1.0] * 20,
        "busy": [busy] * 20,
        "beside": {"documents": 3, "scans_left": 5},
        "busy_costs": Costs(),
    }
    assert summary(results)["good"] is good
    for nothing in ({"documents": 3, "scans_left": 0}, {"documents": 0, "scans_left": 5}):
        assert summary({**results, "beside": nothing})["good"] is False  # it was over, or it stood still


@pytest.mark.parametrize(("name", "below"), [("extract", OCR), ("index-2", EMBEDDING)])
def test_processor_seconds_go_to_whom_they_belong(name: str, below: str) -> None:
    """A root that works, and a child of it that has a child in its turn, as parsers have tesseract."""
    burn = "import time\nwhile time.process_time() < {}: pass\n"
    run = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', {!r}])\nsys.stdin.read()\n"
    program = burn.format(0.4) + run.format(run.format(burn.format(0.7)))
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    try:
        with Meter({name: process.pid}) as meter:
            deadline = time.monotonic() + 30
            while meter._totals()[below] < 0.5 and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.3)
    finally:
        process.kill()
        process.wait()
    spent = meter.costs.processor
    assert spent[name] >= 0.3
    assert spent[below] >= 0.4, "what stands in /proc is rounded"
    assert meter.costs.memory_mib[name] > 1
    assert 0 < meter.costs.share(name) < 1
