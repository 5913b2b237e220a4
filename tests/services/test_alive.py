"""What processes say of themselves, with a real Kafka and a real Elasticsearch behind them."""

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from cli import probes
from cli.probes import STALLED_SECONDS, Probes
from connectors.elasticsearch import Index
from connectors.lag import LagMeter
from connectors.topic_admin import apply_topics
from devstack.servers import paused
from devstack.stack import Stack
from schemas import topics
from schemas.topics import Topic
from tests.commands import command
from tests.pipelines import pipeline


def answer(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0  # it does not listen yet


def until(holds: Callable[[], bool], seconds: float = 150.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "one.eml"
    path.write_text("From: a@example.com\nTo: b@example.com\nSubject: one\n\nOne mail.\n")
    return path


@pytest.mark.parametrize("name", ["source", "extract", "index"])
def test_a_process_is_alive_and_becomes_ready(name: str, stack: Stack, mail: Path, tmp_path: Path) -> None:
    port = free_port()
    with pipeline(mail, tmp_path, stack=stack, also={"METRICS_PORT": str(port)}) as running:
        running.start(name)

        def is_ready() -> bool:
            running.check()  # one that died is not waited for
            return answer(port, "/readyz") == 200

        assert until(is_ready), running.log_tail(name)
        assert answer(port, "/healthz") == 200
        assert answer(port, "/metrics") == 200
        running.check()


def test_ready_is_who_is_answered(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(probes, "ANSWER_SECONDS", 2.0)
    asyncio.run(apply_topics(stack.kafka_bootstrap, topics.ALL))
    watched = Probes()
    watched.watch(stack.kafka_bootstrap, stack.elasticsearch_url)
    assert until(lambda: watched.unready() is None)
    for name, server in (("elasticsearch", stack.elasticsearch), ("kafka", stack.kafka)):
        with paused(server):
            assert until(lambda: watched.unready() is not None), name
        assert until(lambda: watched.unready() is None), name


async def test_a_group_that_leaves_work_lying_is_dead(kafka_bootstrap: str, unique_name: str) -> None:
    now = 0.0
    worker = Probes(unique_name, clock=lambda: now)
    place = TopicPartition(unique_name, 0)
    await apply_topics(kafka_bootstrap, [Topic(unique_name, 1, "delete")])
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    for _ in range(3):
        await producer.send_and_wait(unique_name, b"work")
    await producer.stop()
    worker.assigned([place])
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_bootstrap, group_id=unique_name, enable_auto_commit=False
    )
    await consumer.start()
    consumer.assign([place])
    async with LagMeter.open(kafka_bootstrap) as meter:
        for committed, waits in ((1, True), (2, True), (3, False)):
            await consumer.commit({place: committed})
            await worker.look(meter)  # it has moved
            for _ in range(int(STALLED_SECONDS / 60) + 1):
                now += 60
                await worker.look(meter)
            assert (worker.dead() is not None) == waits
    await consumer.stop()


def test_the_index_is_made_before_the_workers_start(stack: Stack, mail: Path, tmp_path: Path) -> None:
    async def exists() -> bool:
        async with Index.open(stack.elasticsearch_url) as index:
            return await index.exists()

    with pipeline(mail, tmp_path, stack=stack) as running:
        assert not asyncio.run(exists())
        for said in ("created the index\n", "the index is there\n"):
            code, output, errors = command(running, "mapping", "apply")
            assert (code, output) == (0, said), errors
            assert asyncio.run(exists())
