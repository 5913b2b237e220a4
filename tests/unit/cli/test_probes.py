"""A process is called dead when it stands still before work, and not for anything else."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest

from cli.probes import LOOK_SECONDS, STALLED_SECONDS, Probes, serve_probes
from connectors.errors import ConfigurationError

OURS, THEIRS = ("mail.changes.v1", 0), ("mail.changes.v1", 1)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Broker:
    """Committed offsets and ends as a test sets them."""

    def __init__(self) -> None:
        self.offsets = {OURS: 0, THEIRS: 0}
        self.end = {OURS: 0, THEIRS: 0}

    async def committed(self, group: str) -> Mapping[Any, int]:
        return dict(self.offsets)

    async def ends(self, names: Any) -> Mapping[Any, int]:
        return {tp: end for tp, end in self.end.items() if tp[0] in names}

    async def behind(self, group: str, ends: Any) -> int:
        return sum(end - self.offsets[tp] for tp, end in ends.items())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def worker(clock: Clock) -> Probes:
    probes = Probes("mailstream-extract", clock=clock)
    probes.assigned([OURS])
    return probes


async def later(worker: Probes, broker: Broker, clock: Clock, seconds: float = STALLED_SECONDS + 1) -> None:
    """Half an hour and a little passes, with looks on the way and one at its end."""
    end = clock.seconds + seconds
    while clock.seconds < end:
        clock.seconds = min(clock.seconds + LOOK_SECONDS, end)
        await worker.look(broker)


async def test_a_worker_without_work_is_alive(worker: Probes, broker: Broker, clock: Clock) -> None:
    await later(worker, broker, clock)
    assert worker.dead() is None


async def test_a_worker_that_stands_before_work_is_dead(worker: Probes, broker: Broker, clock: Clock) -> None:
    broker.end[OURS] = 5
    broker.offsets[OURS] = 1
    await worker.look(broker)
    await later(worker, broker, clock, STALLED_SECONDS - 1)
    assert worker.dead() is None
    clock.seconds += 2
    assert worker.dead() == f"nothing has moved for {STALLED_SECONDS + 1:.0f} s"


async def test_a_worker_whose_offsets_move_is_alive(worker: Probes, broker: Broker, clock: Clock) -> None:
    broker.end[OURS] = 5
    for offset in (1, 2, 3):
        broker.offsets[OURS] = offset
        await later(worker, broker, clock)
        assert worker.dead() is None


async def test_work_of_others_is_not_held_against_it(worker: Probes, broker: Broker, clock: Clock) -> None:
    broker.end[THEIRS] = 5
    await later(worker, broker, clock)
    assert worker.dead() is None


async def test_nor_do_others_cover_for_it(worker: Probes, broker: Broker, clock: Clock) -> None:
    broker.end = {OURS: 5, THEIRS: 5}
    await worker.look(broker)
    broker.offsets[THEIRS] = 3
    await later(worker, broker, clock)
    assert worker.dead() is not None


async def test_a_group_in_which_nobody_is_assigned_anything_is_dead(broker: Broker, clock: Clock) -> None:
    worker = Probes("mailstream-extract", clock=clock)
    broker.end[THEIRS] = 5
    await worker.look(broker)
    await later(worker, broker, clock)
    assert worker.dead() is not None
    broker.offsets[THEIRS] = 1  # others have it, and come on
    await worker.look(broker)
    assert worker.dead() is None


async def test_who_was_stopped_himself_has_not_stood_still(
    worker: Probes, broker: Broker, clock: Clock
) -> None:
    broker.end[OURS] = 5
    await worker.look(broker)
    clock.seconds += STALLED_SECONDS + 1  # nobody looked: SIGSTOP, or a machine that slept
    await worker.look(broker)
    assert worker.dead() is None
    await later(worker, broker, clock)
    assert worker.dead() is not None


async def test_how_long_is_a_setting(broker: Broker, clock: Clock) -> None:
    broker.end[OURS] = 5
    for seconds, ends in ((60.0, True), (0.0, False)):
        worker = Probes("mailstream-extract", stalled_seconds=seconds, clock=clock)
        worker.assigned([OURS])
        await worker.look(broker)
        await later(worker, broker, clock, 61)
        assert (worker.dead() is not None) == ends


async def test_new_partitions_begin_anew(worker: Probes, broker: Broker, clock: Clock) -> None:
    broker.end = {OURS: 5, THEIRS: 5}
    await worker.look(broker)
    await later(worker, broker, clock)
    worker.assigned([OURS, THEIRS])
    assert worker.dead() is None


async def test_while_a_server_is_away_nobody_is_dead(worker: Probes, broker: Broker, clock: Clock) -> None:
    broker.end[OURS] = 5
    await worker.look(broker)
    await later(worker, broker, clock)
    worker.lacks("Kafka does not answer")
    assert worker.dead() is None
    assert worker.unready() == "Kafka does not answer"
    worker.lacks(None)
    assert worker.unready() is None


def test_what_nobody_has_looked_at_lately_is_not_ready(worker: Probes, clock: Clock) -> None:
    worker.lacks(None)
    clock.seconds += 600
    assert worker.unready() == "nobody has looked for a while"


def test_a_source_must_say_that_it_goes_on(clock: Clock) -> None:
    source, push = Probes(judged=True, clock=clock), Probes(clock=clock)
    clock.seconds += STALLED_SECONDS + 1
    assert source.dead() is not None
    assert push.dead() is None
    source.moved()
    assert source.dead() is None


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_three_answers_on_one_port(clock: Clock) -> None:
    probes = Probes(judged=True, clock=clock)
    port = serve_probes(0, probes)
    assert ask(port, "/healthz") == (200, "ok\n")
    assert ask(port, "/readyz") == (200, "ok\n")
    status, text = ask(port, "/metrics")
    assert (status, "python_info" in text) == (200, True)
    probes.lacks("Elasticsearch does not answer")
    assert ask(port, "/readyz") == (503, "Elasticsearch does not answer\n")
    clock.seconds += STALLED_SECONDS + 1
    assert ask(port, "/healthz")[0] == 503


def test_a_port_that_is_taken_is_said() -> None:
    port = serve_probes(0, Probes())
    with pytest.raises(ConfigurationError, match=f"METRICS_PORT {port} cannot be used"):
        serve_probes(port, Probes())
