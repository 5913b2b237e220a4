"""The delivery rule on a real broker: what is committed after a crash, and what comes again."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from connectors.topic_admin import apply_topics
from schemas.topics import Topic

WORKER = Path(__file__).parent / "delivery_worker.py"
WAIT_SECONDS = 90.0


@pytest.fixture
async def topic(kafka_bootstrap: str, unique_name: str) -> str:
    await apply_topics(kafka_bootstrap, [Topic(unique_name, 1, "delete")])
    return unique_name


async def _produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value)
    await producer.stop()


async def _produce_with_gaps(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """One record a transaction: the marker behind each leaves a gap of one offset."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-gaps")
    await producer.start()
    for value in values:
        async with producer.transaction():
            await producer.send_and_wait(topic, value)
    await producer.stop()


@asynccontextmanager
async def _worker(
    bootstrap: str, topic: str, directory: Path, form: str
) -> AsyncIterator[subprocess.Popen[bytes]]:
    directory.mkdir(exist_ok=True)
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting takes no time worth awaiting
            [sys.executable, str(WORKER), bootstrap, topic, topic, str(directory), form],
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _done(directory: Path) -> list[str]:
    path = directory / "done"
    return path.read_text().split() if path.exists() else []


async def _until(condition: Callable[[], bool], directory: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain; done {_done(directory)}\n{(directory / 'log').read_text()[-3000:]}")
        await asyncio.sleep(0.1)


async def _committed(bootstrap: str, topic: str) -> int | None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    offsets = await admin.list_consumer_group_offsets(topic)
    await admin.close()
    known = offsets.get(TopicPartition(topic, 0))
    return known.offset if known is not None else None


async def _until_committed(bootstrap: str, topic: str, offset: int, directory: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while (committed := await _committed(bootstrap, topic)) != offset:
        if time.monotonic() > deadline:
            pytest.fail(f"committed {committed}, not {offset}\n{(directory / 'log').read_text()[-3000:]}")
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("form", ["each", "batches"])
async def test_an_event_that_raises_stops_the_worker_and_comes_again(
    kafka_bootstrap: str, topic: str, tmp_path: Path, form: str
) -> None:
    await _produce(kafka_bootstrap, topic, [b"ok", b"ok", b"raise", *[b"ok"] * 20])
    async with _worker(kafka_bootstrap, topic, tmp_path, form) as process:
        await _until(lambda: process.poll() is not None, tmp_path)
        assert process.returncode != 0
    committed = await _committed(kafka_bootstrap, topic)
    assert committed is None or committed <= 2, "nothing may be committed past what failed"
    async with _worker(kafka_bootstrap, topic, tmp_path, form):
        await _until(lambda: len(set(_done(tmp_path))) == 23, tmp_path)
        await _until_committed(kafka_bootstrap, topic, 23, tmp_path)


@pytest.mark.parametrize("form", ["each", "batches"])
async def test_sigkill_loses_nothing(kafka_bootstrap: str, topic: str, tmp_path: Path, form: str) -> None:
    await _produce(kafka_bootstrap, topic, [*[b"ok"] * 5, b"slow", *[b"ok"] * 30])
    async with _worker(kafka_bootstrap, topic, tmp_path, form) as process:
        await _until(lambda: (tmp_path / "slow").exists(), tmp_path)
        await asyncio.sleep(2)  # longer than a commit interval: what could be committed is
        process.send_signal(signal.SIGKILL)
    committed = await _committed(kafka_bootstrap, topic)
    assert committed is None or committed <= 5


async def test_sigterm_with_a_slow_event_ends_at_once_and_keeps_its_offset(
    kafka_bootstrap: str, topic: str, tmp_path: Path
) -> None:
    await _produce(kafka_bootstrap, topic, [*[b"ok"] * 5, b"slow", *[b"ok"] * 5])
    async with _worker(kafka_bootstrap, topic, tmp_path, "each") as process:
        await _until(lambda: (tmp_path / "slow").exists() and len(_done(tmp_path)) == 10, tmp_path)
        process.send_signal(signal.SIGTERM)
        await _until(lambda: process.poll() is not None, tmp_path)
        assert process.returncode == 0
    committed = await _committed(kafka_bootstrap, topic)
    assert committed is None or committed <= 5


async def test_offset_gaps_are_committed_to_the_end(kafka_bootstrap: str, topic: str, tmp_path: Path) -> None:
    # Unmended, Faust gets past one gap in a commit interval (1 s): these would take 200 s.
    await _produce_with_gaps(kafka_bootstrap, topic, [b"ok"] * 200)
    async with _worker(kafka_bootstrap, topic, tmp_path, "each"):
        await _until(lambda: len(_done(tmp_path)) == 200, tmp_path)
        # The even offsets hold records, the odd ones markers; the last marker stays uncommitted.
        await _until_committed(kafka_bootstrap, topic, 399, tmp_path)


async def test_an_event_behind_a_gap_is_not_committed_before_it_is_done(
    kafka_bootstrap: str, topic: str, tmp_path: Path
) -> None:
    await _produce_with_gaps(kafka_bootstrap, topic, [*[b"ok"] * 5, b"slow", *[b"ok"] * 5])
    async with _worker(kafka_bootstrap, topic, tmp_path, "each"):
        await _until(lambda: (tmp_path / "slow").exists() and len(_done(tmp_path)) == 10, tmp_path)
        await asyncio.sleep(3)  # several commit intervals
        committed = await _committed(kafka_bootstrap, topic)
    assert committed is not None
    assert 8 < committed <= 10, "offset 10 is still being worked on"


async def test_undecodable_bytes_reach_us(kafka_bootstrap: str, topic: str, tmp_path: Path) -> None:
    await _produce(kafka_bootstrap, topic, [b"\xff\xfe{", b"ok"])
    async with _worker(kafka_bootstrap, topic, tmp_path, "each"):
        await _until(lambda: _done(tmp_path) == ["0:0", "0:1"], tmp_path)


async def test_a_second_worker_takes_over_and_nothing_is_lost(
    kafka_bootstrap: str, unique_name: str, tmp_path: Path
) -> None:
    topic = unique_name
    await apply_topics(kafka_bootstrap, [Topic(topic, 4, "delete")])
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    one, two = tmp_path / "one", tmp_path / "two"
    async with _worker(kafka_bootstrap, topic, one, "each") as first:
        for number in range(100):
            await producer.send_and_wait(topic, b"ok", partition=number % 4)
        await _until(lambda: len(_done(one)) > 0, one)
        async with _worker(kafka_bootstrap, topic, two, "each"):
            for number in range(200):
                await producer.send_and_wait(topic, b"ok", partition=number % 4)
                if number == 100:
                    first.send_signal(signal.SIGKILL)
            await _until(lambda: len({*_done(one), *_done(two)}) == 300, two)
    await producer.stop()
