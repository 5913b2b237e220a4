"""Elasticsearch goes away in mid-run, comes back overloaded, and then slow: nothing is lost by it. Without
Kafka a process ends at once, and says so.

OUTAGE_SECONDS is how long it is away (60 in ``make test-full``).
"""

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.elasticsearch import Index
from connectors.kafka import Producer
from connectors.lag import LagMeter
from connectors.topic_admin import apply_topics
from devstack.servers import paused
from devstack.stack import Stack
from schemas import topics
from schemas.outcomes import Outcome
from schemas.registers import ContentRegister, LabelsRegister, MessageContent, content_version
from streams.documents import Documents
from tests.elasticsearch_proxy import ElasticsearchProxy
from tests.pipelines import emptied
from tests.records import read_all

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "4"))
PARTITIONS = 2
BATCH = 150
WAIT_SECONDS = 180.0
ENDED_SECONDS = 30.0  # after a signal: a chart's pod has 40

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def empty_stack(stack: Stack) -> Stack:
    return emptied(stack)


@asynccontextmanager
async def _worker(stack: Stack, url: str, directory: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "ELASTICSEARCH_URL": url,
        "ENCODER": "hash",
        "STATE_DIRECTORY": str(directory / "state"),
    }
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting takes no time worth awaiting
            [sys.executable, "-m", "cli.main", "worker", "index"], env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


class Mail:
    """Sends messages to ``mail.documents``, a batch at a time."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.sent = 0

    async def send(self) -> None:
        for _ in range(BATCH):
            owner = {"mailbox_id": "box", "message_id": f"m{self.sent}"}
            text = f"the harbour wall {self.sent}"
            await self._documents.send(
                [
                    LabelsRegister(**owner, epoch=1, history_id=5, label_ids=("INBOX",)),
                    ContentRegister(
                        **owner,
                        version=content_version(1, Outcome.TEXT, text),
                        message=MessageContent(subject="wall", text=text),
                    ),
                ]
            )
            self.sent += 1


async def _caught_up(meter: LagMeter, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while (lag := await meter.lag(topics.INDEX_GROUP, [topics.DOCUMENTS.name])) > 0:
        assert process.poll() is None, f"the worker ended:\n{log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"{lag} records behind:\n{log.read_text()[-3000:]}"
        await asyncio.sleep(0.2)


async def test_elasticsearch_away_then_overloaded_then_slow(empty_stack: Stack, tmp_path: Path) -> None:
    await apply_topics(empty_stack.kafka_bootstrap, topics.with_partitions(PARTITIONS))
    log = tmp_path / "log"
    async with (
        ElasticsearchProxy.open(empty_stack.elasticsearch_url) as proxy,
        Producer(empty_stack.kafka_bootstrap) as producer,
        LagMeter.open(empty_stack.kafka_bootstrap) as meter,
        _worker(empty_stack, proxy.url, tmp_path) as worker,
    ):
        mail = Mail(Documents(producer, PARTITIONS))
        await mail.send()
        await _caught_up(meter, worker, log)

        await mail.send()
        await asyncio.to_thread(empty_stack.elasticsearch.stop)
        await mail.send()
        (tmp_path / "late").mkdir()
        async with _worker(empty_stack, proxy.url, tmp_path / "late") as late:
            await asyncio.sleep(OUTAGE_SECONDS)
            assert await meter.lag(topics.INDEX_GROUP, [topics.DOCUMENTS.name]) > 0, "acked without a server"
            while b"trying again" not in (tmp_path / "late" / "log").read_bytes():
                assert late.poll() is None, "one that starts meanwhile waits, too"
                await asyncio.sleep(0.2)
            await asyncio.to_thread(empty_stack.elasticsearch.start)
            await asyncio.to_thread(empty_stack.elasticsearch.wait_until_ready)
            await _caught_up(meter, worker, log)
            assert late.poll() is None
        await _caught_up(meter, worker, log)

        proxy.busy_bulks, proxy.busy_items = 5, 20
        await mail.send()
        await _caught_up(meter, worker, log)

        proxy.slow_seconds = 1.0
        await mail.send()
        await _caught_up(meter, worker, log)

        assert proxy.seen["cut off"] > 0, proxy.seen
        assert proxy.seen["busy bulk"] == 5, proxy.seen
        assert proxy.seen["busy item"] == 20, proxy.seen
        assert proxy.seen["slow bulk"] >= 2, proxy.seen
        assert worker.poll() is None, "an outage is waited for, not died of"
    async with Index.open(empty_stack.elasticsearch_url) as index:
        await index.refresh()
        assert await index.count({"term": {"live": True}}) == mail.sent == 5 * BATCH
    assert await read_all(empty_stack.kafka_bootstrap, topics.DEAD_LETTERS.name) == []


async def test_a_worker_that_kafka_does_not_answer_ends_when_it_is_told_to(
    empty_stack: Stack, tmp_path: Path
) -> None:
    await apply_topics(empty_stack.kafka_bootstrap, topics.with_partitions(PARTITIONS))
    async with (
        Producer(empty_stack.kafka_bootstrap) as producer,
        LagMeter.open(empty_stack.kafka_bootstrap) as meter,
        _worker(empty_stack, empty_stack.elasticsearch_url, tmp_path) as worker,
    ):
        await Mail(Documents(producer, PARTITIONS)).send()
        await _caught_up(meter, worker, tmp_path / "log")
        with paused(empty_stack.kafka):
            worker.terminate()
            # What it holds comes again; an orderly end would wait for Kafka.
            assert await asyncio.to_thread(worker.wait, ENDED_SECONDS) in (0, 1)


@pytest.mark.parametrize("arguments", [["worker", "extract"], ["serve"]])
def test_a_process_without_kafka_ends_with_a_clear_line(arguments: list[str], tmp_path: Path) -> None:
    away = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "ELASTICSEARCH_URL": "http://127.0.0.1:1"}
    own = {"CREDENTIALS_KEY": base64.b64encode(bytes(32)).decode(), "STATE_DIRECTORY": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env={**os.environ, **away, **own},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("Error: Kafka at 127.0.0.1:1 does not answer")
