"""What reading again costs and how it is asked for; the whole path stands in the service tests."""

import math
from dataclasses import replace

import click
import pytest

from cli import reprocess
from cli.reprocess import Estimate, described, units_of
from connectors.gmail.quota import COSTS, LIMITS, Quota
from schemas.events import Deferred

NEW = Quota(COSTS["new"], LIMITS["new"])


def _work(fetch: str, *paths: str) -> Deferred:
    parts = dict.fromkeys(paths, 0)
    return Deferred(mailbox_id="box", message_id="m", epoch=1, reason="reprocess", parts=parts, fetch=fetch)


@pytest.mark.parametrize(
    ("work", "new", "legacy"),
    [
        (_work("raw", "2"), 20, 5),
        (_work("raw", "", "2", "3", "4"), 20, 5),
        (_work("full", ""), 20, 5),
        (_work("full", "", "2", "3"), 60, 15),
    ],
)
def test_one_fetch_serves_all_parts_of_a_small_message(work: Deferred, new: int, legacy: int) -> None:
    assert units_of(work, NEW) == new
    assert units_of(work, replace(NEW, costs=COSTS["legacy"])) == legacy


def test_an_estimate_is_one_line() -> None:
    estimate = Estimate(documents=1_200, messages=900, mailboxes=3, units=18_000, seconds=7_500.0)
    assert described(estimate) == ("1,200 documents in 900 messages of 3 mailboxes: 18,000 units, 2 h 5 min")
    assert described(replace(estimate, seconds=3.0)).endswith("18,000 units, 1 min")
    assert described(replace(estimate, seconds=None)).endswith("18,000 units, without a limit")
    assert described(Estimate()) == "nothing is to be read again"
    assert math.isinf(LIMITS["off"].mailbox_units_per_minute)


def test_what_ended_so_and_what_was_scanned_so() -> None:
    option = click.Option(["--outcome"])
    context = click.Context(reprocess.reprocess)
    assert reprocess._ends(context, option, "timed_out, unscanned") == ("timed_out", "unscanned")
    with pytest.raises(click.BadParameter, match="'tired' is none of"):
        reprocess._ends(context, option, "text,tired")
