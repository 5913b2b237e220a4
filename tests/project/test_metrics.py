"""Metrics: each declared once, used, documented; labels stay bounded however many mailboxes there are."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest

from connectors import metrics
from connectors.metrics import (
    DECLARED,
    LABELS,
    forget_mailbox,
    gmail_api_quota_gauge,
    gmail_watch_expiry_gauge,
    show_mailboxes,
    source_audit_gauge,
)
from schemas.identity import hashed
from scripts.metrics_table import metrics_page

ROOT = Path(__file__).parents[2]
PACKAGES = ("connectors", "streams", "search", "cli")
GIVEN = (  # by the user, with the ends that prometheus-client gives to counters
    "gmail_sync_latency_histogram",
    "gmail_api_quota_gauge",
    "gmail_history_gap_gauge",
    "gmail_attachments_processed_counter_total",
    "gmail_attachments_skipped_counter_total",
)


def test_the_names_that_the_user_gave_stay() -> None:
    assert set(GIVEN) <= {metric.name for metric in DECLARED}
    for name in GIVEN:
        assert hasattr(metrics, name.removesuffix("_total"))


def test_every_declared_metric_is_used() -> None:
    sources = "".join(
        path.read_text()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "metrics.py"
    )
    objects = [name for name in vars(metrics) if name.endswith(("_counter", "_gauge", "_histogram"))]
    declared = [name for name in objects if not name.startswith("_")]
    assert len(declared) == len(DECLARED)
    assert [name for name in declared if not re.search(rf"\b{name}\b[.\n]", sources)] == []


def test_metrics_are_declared_in_one_file() -> None:
    others = [
        path
        for package in (*PACKAGES, "schemas", "devstack")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"import.*\b(Counter|Gauge|Histogram|Summary)\b", path.read_text())
        and "prometheus_client" in path.read_text()
        and path != ROOT / "connectors/metrics.py"
    ]
    assert others == []


def test_every_label_is_known_and_every_known_label_used() -> None:
    assert {label for metric in DECLARED for label in metric.labels} == set(LABELS)


def test_the_page_lists_every_metric() -> None:
    assert (ROOT / "docs/METRICS.md").read_text() == metrics_page()


@pytest.fixture
def three_mailboxes() -> Iterator[list[str]]:
    names = [f"test-mailbox-{number}" for number in range(3)]
    for gauge in metrics._MAILBOX_GAUGES:  # what other tests of this process have left
        gauge._values.clear()
        gauge._shown.clear()
    show_mailboxes(2)
    yield names
    for name in names:
        forget_mailbox(name)
    show_mailboxes(100)


def _sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_of_many_mailboxes_some_have_series_and_all_are_counted(three_mailboxes: list[str]) -> None:
    first, second, third = three_mailboxes
    for name, at in zip(three_mailboxes, (300.0, 200.0, 100.0), strict=True):
        gmail_watch_expiry_gauge.set(name, at)
        source_audit_gauge.set(name, at, difference="missing")
    assert _sample("gmail_watch_expiry_gauge", mailbox=hashed(first)) == 300
    assert _sample("gmail_watch_expiry_gauge", mailbox=hashed(third)) is None
    assert _sample("gmail_watch_expiry_gauge", mailbox="all") == 100
    assert _sample("source_audit_gauge", mailbox="all", difference="missing") == 600
    forget_mailbox(third)
    forget_mailbox(first)
    assert _sample("gmail_watch_expiry_gauge", mailbox=hashed(first)) is None
    assert _sample("gmail_watch_expiry_gauge", mailbox="all") == 200
    gmail_watch_expiry_gauge.set(third, 100.0)  # a place has become free
    assert _sample("gmail_watch_expiry_gauge", mailbox=hashed(third)) == 100
    assert hashed(second).encode() in generate_latest()
    assert second.encode() not in generate_latest()


def test_without_a_mailbox_nothing_is_said_of_the_worst(three_mailboxes: list[str]) -> None:
    """A 0 would say that every watch has ended, and that nothing may be spent."""
    for gauge in (gmail_watch_expiry_gauge, gmail_api_quota_gauge):
        gauge.set(three_mailboxes[0], 5.0)
    forget_mailbox(three_mailboxes[0])
    for name in ("gmail_watch_expiry_gauge", "gmail_api_quota_gauge"):
        value = _sample(name, mailbox="all")
        assert value is not None
        assert not value <= 5.0  # NaN compares with nothing, in PromQL too
