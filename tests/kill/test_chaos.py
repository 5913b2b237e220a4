"""The chaos run in short, and that its oracle finds what it is there to find: ``python -m benchmarks.chaos``.

``make test-full`` has the long form, and every planted bug.
"""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import oracle
from benchmarks.chaos.faults import schedule
from benchmarks.chaos.oracle import Said, Truth
from benchmarks.chaos.plants import BUGS
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.report import ONCE, Plan, Report
from benchmarks.chaos.run import run
from benchmarks.chaos.world import Attachment, Expected
from benchmarks.soak import slopes
from devstack.stack import Stack
from tests.pipelines import emptied

pytestmark = pytest.mark.timeout(900)

# No server is started again: that takes a minute of two processors.
BRIEF = ("kill", "terminate", "pause", "pause server", "cut", "slow", "fill", "clock", "gmail")
HIT = (
    *("source", "extract", "index", "kafka", "elasticsearch", "gmail"),
    *("temporary directory", "1 h ahead", "1 h behind"),
)
# A change of each kind, and each invariant's own fault among them.
VIOLATED = {
    "ack early": ("documents:", "index:", "hole:"),
    "drop a tombstone": ("hole:", "index:"),
    "leak a file": ("files:",),
    "skip a page": ("changes:", "index:"),
}
# Seconds until a commit are one: a kill finds messages under way whose offsets have been committed.
SLOW = {"kind": "slow_body", "method": "messages.get", "seconds": 3.0}


def test_the_schedule_is_its_seeds() -> None:
    targets = {"kill": ["source", "extract"], "cut": ["gmail"], "fill": []}
    first, again, other = (schedule(seed, targets) for seed in (1, 1, 2))
    planned = [next(first) for _ in range(40)]
    assert planned == [next(again) for _ in range(40)]
    assert planned != [next(other) for _ in range(40)]
    assert {fault.kind for fault in planned} == {"kill", "cut"}
    assert {fault.target for fault in planned} == {"source", "extract", "gmail"}


def test_too_few_faults_make_a_run_void() -> None:
    report = Report(Plan(faults=3, messages=10), messages=9)
    assert report.void == ["only 0 of 3 faults happened", "only 9 of 10 messages"]
    assert not report.clean


def test_a_proxy_passes_slows_and_cuts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = threading.Thread(target=_echo, args=(server,), daemon=True)
        echo.start()
        proxy = Proxy(server.getsockname()[1])
        proxy.start()
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
                assert _asked(client) == b"ping"
                began = time.monotonic()
                with proxy.slow(0.1):
                    assert _asked(client) == b"ping"
                assert time.monotonic() - began >= 0.2, "there and back"
                with proxy.cut():
                    assert _asked(client) == b""
                    with socket.create_connection(("127.0.0.1", proxy.port), 10) as refused:
                        assert _asked(refused) == b""
            with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
                assert _asked(client) == b"ping"
            assert (proxy.cuts, proxy.delays) == (2, 2)
        finally:
            proxy.stop()


def _echo(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection:
        while block := connection.recv(100):
            connection.sendall(block)


def _asked(client: socket.socket) -> bytes:
    try:
        client.sendall(b"ping")
        return client.recv(100)
    except ConnectionError:
        return b""


def test_a_slope_is_growth_when_it_is_sure_and_worth_it() -> None:
    noise = [0.0, 3.0, 1.0, 2.0, -1.0, 0.5, -2.0, 1.5]
    times = [number * 5.0 for number in range(160)]
    flat = [(at, 100 + noise[number % 8]) for number, at in enumerate(times)]
    grown = [(at, 100 + at / 10 + noise[number % 8]) for number, at in enumerate(times)]
    hardly = [(at, 100 + at / 1_000) for at in times]
    found = slopes({"memory a": flat, "memory b": grown, "memory c": hardly})
    assert [(slope.series, slope.grows) for slope in found] == [
        *(("memory a", False), ("memory b", True), ("memory c", False))
    ]
    assert found[1].low < 360 < found[1].high


KEY = ("box", "m1")
TRUTH = Truth(
    {KEY: frozenset({"INBOX"})},
    {KEY: Expected("Tide", "gauge", (Attachment("a.txt", "aa", "text", "berth"),))},
)
OWNER = {"mailbox_id": "box", "message_id": "m1", "live": True, "label_ids": ["INBOX"], "subject": "Tide"}
MESSAGE: dict[str, Any] = {**OWNER, "kind": "message", "part_path": "", "text": "the gauge"}
PART: dict[str, Any] = {
    **OWNER,
    "kind": "attachment",
    "part_path": "2",
    "text": "the berth",
    "filename": "a.txt",
    "sha256": "aa",
    "outcome": "text",
}
GONE = {"mailbox_id": "box", "message_id": "m2", "kind": "message", "part_path": "", "live": False}


@pytest.mark.parametrize(
    ("documents", "found"),
    [
        ([MESSAGE, PART, GONE], None),
        ([PART], "there 0 times"),
        ([MESSAGE, MESSAGE, PART], "there 2 times"),
        ([MESSAGE], "a.txt (text) is not there"),
        ([MESSAGE, PART, {**PART, "part_path": "3"}], "a.txt too much"),
        ([MESSAGE, {**PART, "sha256": "bb"}], "a.txt (text) is not there"),
        ([MESSAGE, {**PART, "text": ""}], "a.txt (text) is not there"),
        ([{**MESSAGE, "label_ids": []}, PART], "labels [], not ['INBOX']"),
        ([MESSAGE, {**PART, "label_ids": ["SPAM"]}], "labels ['SPAM']"),
        ([{**MESSAGE, "text": "x"}, PART], "another text"),
        ([MESSAGE, PART, {**MESSAGE, "message_id": "m2"}], "gone in Gmail"),
        ([MESSAGE, PART, {**GONE, "subject": "Tide"}], "still says something"),
    ],
)
def test_the_oracle_sees_what_is_wrong_in_the_index(
    documents: list[dict[str, Any]], found: str | None
) -> None:
    lines = list(oracle._compare_index(TRUTH, documents))
    assert lines == [] if found is None else any(found in line for line in lines), lines


def test_the_oracle_merges_anew() -> None:
    said = Said()
    said.see_change("STARRED", 1, 5, True)
    said.see_snapshot(1, 7, ["INBOX"])
    said.see_change("UNREAD", 1, 8, True)
    said.see_change("INBOX", 1, 6, False)
    assert said.live and said.label_ids == frozenset({"INBOX", "UNREAD"})
    said.deleted = (1, 8)
    assert not said.live
    said.see_change("UNREAD", 1, 9, False)
    assert said.live and said.label_ids == frozenset({"INBOX"})


def test_the_oracle_sees_an_offset_that_was_passed_over() -> None:
    told, written = Said(deleted=(1, 9)), Said(deleted=(1, 8))
    told.see_change("STARRED", 1, 5, True)
    lines = list(oracle._compare_holes({KEY: told}, {KEY: written}))
    assert [line.partition("'m1'): ")[2][:12] for line in lines] == ["label STARRE", "the deletion"]
    assert list(oracle._compare_holes({KEY: told}, {KEY: told})) == []


def _run(plan: Plan, stack: Stack, directory: Path) -> Report:
    return run(plan, directory, emptied(stack))


@pytest.mark.full
def test_a_short_storm_leaves_everything_right(stack: Stack, tmp_path: Path) -> None:
    plan = Plan(
        *(45, 5, 24, 2),
        operations_per_second=3.0,
        processes=ONCE,
        scanner=False,
        kinds=BRIEF,
        targets=HIT,
        longest_seconds=2.0,
    )
    report = _run(plan, stack, tmp_path)
    assert report.void == []
    assert report.violations == []
    assert report.poison > 0


@pytest.mark.full
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, stack: Stack, tmp_path: Path) -> None:
    plan = Plan(
        *(7, 6, 120, 2),
        operations_per_second=6.0,
        processes=ONCE,
        scanner=False,
        kinds=("kill",),
        targets=("extract",),
        always=(SLOW,),
        bug=bug,
        settle_seconds=60.0,
    )
    report = _run(plan, stack, tmp_path)
    assert report.void == []
    kinds = {line.partition(" ")[0] for line in report.violations}
    assert set(VIOLATED[bug]) & kinds, report.violations[:20]
