"""One contract for every provider of the stack, and what is said when one cannot be had."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from connectors.elasticsearch import Index, Write
from connectors.topic_admin import apply_topics
from devstack import containers
from devstack.local import directory_for_others
from devstack.probes import elasticsearch_answers
from devstack.programs import DevstackError
from devstack.servers import paused
from devstack.stack import Stack, start_stack
from schemas import mapping
from schemas.topics import Topic
from tests.processes import runs

RECORD_BYTES = 12 * 1024 * 1024


async def _holds_contract(stack: Stack, name: str) -> None:
    """A large record goes through Kafka, and a vector is found in Elasticsearch."""
    await apply_topics(stack.kafka_bootstrap, [Topic(name, 1, "delete", max_message_bytes=16 * 1024 * 1024)])
    value = os.urandom(RECORD_BYTES)
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_bootstrap, max_request_size=2 * RECORD_BYTES)
    await producer.start()
    await producer.send_and_wait(name, value)
    await producer.stop()
    assert await _first_record(stack, name) == value

    vector = [1.0] + [0.0] * (mapping.VECTOR_DIMENSIONS - 1)
    async with Index.open(stack.elasticsearch_url) as index:
        await index.ensure()
        fields = {"kind": "message", "chunks": [{"ordinal": 0, "text": "x", "vector": vector}]}
        assert await index.write([Write("id-1", fields)]) == [None]
        await index.refresh()
        assert await _nearest(index, vector) == ["id-1"]


async def _first_record(stack: Stack, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=stack.kafka_bootstrap,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2 * RECORD_BYTES,
    )
    await consumer.start()
    record = await asyncio.wait_for(consumer.getone(), 60)
    await consumer.stop()
    value: bytes | None = record.value
    return value


async def _nearest(index: Index, vector: list[float]) -> list[str]:
    answer = await index.search(
        {"knn": {"field": "chunks.vector", "query_vector": vector, "k": 1, "num_candidates": 5}}
    )
    return [hit["_id"] for hit in answer["hits"]["hits"]]


async def test_the_sessions_provider_holds_the_contract(
    stack: Stack, unique_name: str, own_index_names: None
) -> None:
    await _holds_contract(stack, unique_name)


async def test_servers_by_address_hold_the_contract_and_are_left_alone(
    stack: Stack, unique_name: str, own_index_names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", stack.kafka_bootstrap)
    monkeypatch.setenv("ELASTICSEARCH_URL", stack.elasticsearch_url)
    with start_stack(provider="external") as external:
        await _holds_contract(external, unique_name)
        with pytest.raises(DevstackError, match="external"):
            external.kafka.kill()
    assert elasticsearch_answers(stack.elasticsearch_url)


async def test_containers_hold_the_contract_or_say_that_no_engine_answers(
    unique_name: str, own_index_names: None
) -> None:
    if containers.engine_problem() is None:
        with start_stack(provider="testcontainers") as stack:
            await _holds_contract(stack, unique_name)
    else:
        with (
            pytest.raises(DevstackError, match="no container engine answers") as caught,
            start_stack(provider="testcontainers"),
        ):
            pass
        assert "\n" not in str(caught.value)


async def test_killed_and_restarted_servers_keep_addresses_and_data(
    stack: Stack, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stack.provider == "external":
        pytest.fail("run this with STACK=maven or STACK=testcontainers: external servers cannot be killed")
    await _holds_contract(stack, unique_name)
    pids = stack.kafka.pid, stack.elasticsearch.pid
    stack.kafka.kill()
    stack.elasticsearch.kill()
    assert not elasticsearch_answers(stack.elasticsearch_url)
    if stack.provider == "maven":
        assert (stack.kafka.pid, stack.elasticsearch.pid) == (None, None)
    stack.kafka.start()  # beside the other's
    stack.elasticsearch.start()
    stack.elasticsearch.wait_until_ready()
    stack.kafka.wait_until_ready()
    if stack.provider == "maven":
        assert not {stack.kafka.pid, stack.elasticsearch.pid} & {None, *pids}
    assert len(await _first_record(stack, unique_name) or b"") == RECORD_BYTES
    vector = [1.0] + [0.0] * (mapping.VECTOR_DIMENSIONS - 1)
    async with Index.open(stack.elasticsearch_url) as index:
        assert await _nearest(index, vector) == ["id-1"]


def test_a_paused_server_answers_nothing_until_it_goes_on(stack: Stack) -> None:
    if stack.provider == "external":
        pytest.fail("run this with STACK=maven or STACK=testcontainers: external servers cannot be paused")
    with paused(stack.elasticsearch):
        assert not elasticsearch_answers(stack.elasticsearch_url)
    stack.elasticsearch.wait_until_ready()


def _mailstream(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "STACK": "maven"},
    )


@pytest.mark.timeout(600)
def test_up_status_and_down_each_twice(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    base = directory_for_others()  # beside the session's stack: two side by side
    base.chmod(0o755)
    chosen = ["--dir", str(base), "--name", "one", "--json"]
    try:
        first = _mailstream("devstack", "up", *chosen)
        assert first.returncode == 0, first.stderr
        up = json.loads(first.stdout)
        assert up["running"] and up["kafka_bootstrap"] != stack.kafka_bootstrap
        assert json.loads(_mailstream("devstack", "up", *chosen).stdout) == up
        assert json.loads(_mailstream("devstack", "status", *chosen).stdout) == up
        os.kill(up["elasticsearch_pid"], signal.SIGKILL)
        _gone([up["elasticsearch_pid"]])
        assert _mailstream("devstack", "status", *chosen).returncode == 1
        mended = json.loads(_mailstream("devstack", "up", *chosen).stdout)
        assert mended["kafka_pid"] == up["kafka_pid"]  # what ran was left alone
        assert mended["elasticsearch_url"] == up["elasticsearch_url"]
    finally:
        down = _mailstream("devstack", "down", "--remove", *chosen)
    assert json.loads(down.stdout) == {"name": "one", "stopped": True}
    _gone([mended["kafka_pid"], mended["elasticsearch_pid"]])
    assert json.loads(_mailstream("devstack", "down", *chosen).stdout)["stopped"] is False
    assert _mailstream("devstack", "status", *chosen).returncode == 1
    base.rmdir()  # nothing is left in it


def test_no_server_outlives_a_killed_owner() -> None:
    script = (
        "import sys, time; from devstack.stack import start_stack\n"
        "with start_stack(provider='maven', brief=True) as s:\n"
        "    print(s.kafka.pid, s.elasticsearch.pid, s.kafka.directory.parent, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    *pids, directory = process.stdout.readline().decode().split()
    process.kill()
    process.wait()
    process.stdout.close()
    _gone([int(pid) for pid in pids])
    deadline = time.monotonic() + 60
    while Path(directory).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(directory).exists()


def _gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < deadline, f"one of {pids} still runs"
        time.sleep(0.1)
