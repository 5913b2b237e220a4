"""A worker that comes on no further ends itself, and whoever starts it again loses nothing."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.forks import Fork
from connectors.kafka import Producer
from connectors.lag import LagMeter
from connectors.topic_admin import apply_topics
from devstack.stack import Stack
from schemas import topics
from schemas.registers import LabelsRegister
from streams.documents import Documents
from tests.pipelines import emptied

STALLED_SECONDS = 4.0
MESSAGES, PARTITIONS = 6, 2
WAIT_SECONDS = 120.0


async def _for_ever(*_: Any, **__: Any) -> None:
    await asyncio.sleep(1e6)


def _handler() -> None:
    """Its work never ends."""
    from streams.index import Indexer

    Indexer.handle = _for_ever  # type: ignore[method-assign]


def _loop() -> None:
    """Its work holds the event loop, so that it hears no signal either."""
    from streams.index import Indexer

    async def held(*_: Any) -> None:
        time.sleep(1e6)  # noqa: ASYNC251 - that is the fault

    Indexer.handle = held  # type: ignore[method-assign,assignment]


def _fetcher() -> None:
    """The consumer is in its group and fetches nothing, as Faust's do now and then."""
    from streams.settle import SettlingConsumer

    SettlingConsumer.getmany = _never  # type: ignore[method-assign]


async def _never(*_: Any, **__: Any) -> Any:
    await asyncio.sleep(1e6)
    yield


PLANTS: dict[str, Callable[[], None]] = {"handler": _handler, "loop": _loop, "fetcher": _fetcher}


@dataclass(frozen=True)
class Planted:
    """Plants a stall in the first process that comes by, and in no other."""

    name: str
    done: Path

    def __call__(self) -> None:
        from cli import probes

        probes.LOOK_SECONDS = 0.5
        if not self.done.exists():
            self.done.touch()
            PLANTS[self.name]()


async def _send(kafka: str) -> None:
    async with Producer(kafka) as producer:
        documents = Documents(producer, PARTITIONS)
        for number in range(MESSAGES):
            owner = {"mailbox_id": "box", "message_id": f"m{number}"}
            await documents.send([LabelsRegister(**owner, epoch=1, history_id=5, label_ids=("INBOX",))])


async def _lag(kafka: str) -> int:
    async with LagMeter.open(kafka) as meter:
        return await meter.lag(topics.INDEX_GROUP, [topics.DOCUMENTS.name])


@pytest.mark.parametrize(
    "name", ["fetcher", *(pytest.param(name, marks=pytest.mark.full) for name in ("handler", "loop"))]
)
def test_a_worker_that_stalls_is_started_again(stack: Stack, tmp_path: Path, name: str) -> None:
    kafka = emptied(stack).kafka_bootstrap
    asyncio.run(apply_topics(kafka, topics.with_partitions(PARTITIONS)))
    asyncio.run(_send(kafka))
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP": kafka,
        "ELASTICSEARCH_URL": stack.elasticsearch_url,
        "ENCODER": "hash",
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "STALLED_SECONDS": str(STALLED_SECONDS),
    }
    planted, log = Planted(name, tmp_path / "planted"), tmp_path / "log"
    stalled = Fork(["worker", "index"], environment, log, before=planted)
    try:
        assert stalled.wait(WAIT_SECONDS) == 1
    finally:
        stalled.kill()
    assert planted.done.exists()
    assert "nothing has moved for" in log.read_text()
    assert asyncio.run(_lag(kafka)) >= MESSAGES, "it has acked what it did not do"
    patient = {**environment, "STALLED_SECONDS": "0"}  # on a busy machine a healthy one takes its time, too
    again = Fork(["worker", "index"], patient, log, before=planted)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while asyncio.run(_lag(kafka)):
            assert again.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
    finally:
        again.kill()
        again.wait(WAIT_SECONDS)
