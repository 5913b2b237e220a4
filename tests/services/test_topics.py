"""``mailstream topics`` against the real broker: made, compared, mended, never made smaller."""

import asyncio
import json
import time
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from devstack.stack import Stack
from schemas import topics
from tests.commands import command
from tests.pipelines import emptied

DAY = topics.DAY_MILLISECONDS


def _alter(bootstrap: str, topic: str, **entries: str) -> None:
    """Set exactly these entries on a topic, as somebody at the broker may."""
    configs = {name.replace("_", "."): value for name, value in entries.items()}

    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
        finally:
            await admin.close()

    asyncio.run(alter())
    # The controller has it; the broker that is asked hears of it a moment later.
    deadline = time.monotonic() + 30
    while {name: _entry(bootstrap, topic, name) for name in configs} != configs:
        assert time.monotonic() < deadline, f"{topic} is not as it was set"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def environment(stack: Stack) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP": emptied(stack).kafka_bootstrap, "TOPIC_PARTITIONS": "2"}


def _diff(environment: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
    code, output, errors = command(environment, "topics", "diff", "--json")
    assert errors == ""
    return code, [json.loads(line) for line in output.splitlines()]


def test_topics_are_made_once(environment: dict[str, str]) -> None:
    code, missing = _diff(environment)
    assert code == 1
    assert {each["topic"] for each in missing} == {topic.name for topic in topics.ALL}
    assert {each["action"] for each in missing} == {"create"}
    created = f"created: {', '.join(topic.name for topic in topics.ALL)}\n"
    assert command(environment, "topics", "apply") == (0, created, "")
    assert command(environment, "topics", "apply") == (0, "all topics are as they should be\n", "")
    assert _diff(environment) == (0, [])


def test_what_differs_is_told_and_mended(environment: dict[str, str]) -> None:
    bootstrap, changes, documents = environment["KAFKA_BOOTSTRAP"], topics.CHANGES.name, topics.DOCUMENTS.name
    _alter(bootstrap, changes, retention_ms="3600000", segment_ms="60000")
    _alter(bootstrap, documents, max_message_bytes=str(32 * topics.MEBIBYTE), cleanup_policy="compact")
    code, differences = _diff(environment)
    assert code == 1
    assert {(each["topic"], each["what"], each["action"]) for each in differences} == {
        (changes, "retention.ms", "set"),
        (documents, "max.message.bytes", "leave"),
        (documents, "compression.type", "set"),
        (documents, "max.compaction.lag.ms", "set"),
    }
    code, output, errors = command(environment, "topics", "apply")
    assert (code, errors) == (0, "")
    assert f"{changes}: retention.ms is now {14 * DAY}, was 3600000" in output
    assert f"left: {documents}: max.message.bytes is {32 * topics.MEBIBYTE}" in output
    code, differences = _diff(environment)
    assert [(each["topic"], each["what"], each["action"]) for each in differences] == [
        (documents, "max.message.bytes", "leave")
    ], "what has more room than asked stays so, and is told"
    # the request that mends replaces all entries of a topic: somebody else's must have been said again
    _alter(bootstrap, documents, **_underscored(topics.DOCUMENTS.config()))
    assert _diff(environment) == (0, [])
    assert _entry(bootstrap, changes, "segment.ms") == "60000"


def _underscored(entries: dict[str, str]) -> dict[str, str]:
    return {name.replace(".", "_"): value for name, value in entries.items()}


def _entry(bootstrap: str, topic: str, name: str) -> str:
    async def describe() -> str:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        finally:
            await admin.close()
        [resource] = answer.resources
        return next(str(entry[1]) for entry in resource[4] if entry[0] == name)

    return asyncio.run(describe())


def test_partitions_grow_where_they_may(environment: dict[str, str]) -> None:
    more = {**environment, "TOPIC_PARTITIONS": "3"}
    code, output, errors = command(more, "topics", "apply")
    assert code == 1
    assert f"{topics.DEFERRED.name}: has now 3 partitions, had 2" in output
    assert "mailstream topics copy --partitions 3" in errors
    assert "mailstream topics grow --partitions 3" in errors
    assert len(errors.splitlines()) == 1
    code, differences = _diff(more)
    assert {(each["topic"], each["found"], each["action"]) for each in differences} == {
        (topic.name, "2", "refuse")
        for topic in (topics.SYNC_REQUESTS, topics.CHANGES, topics.BACKFILL, topics.DOCUMENTS)
    }
    code, differences = _diff(environment)
    assert {(each["topic"], each["found"], each["action"]) for each in differences} == {
        (topic.name, "3", "leave") for topic in (topics.DEFERRED, topics.OBSERVATIONS)
    }, "fewer are asked for than there are"
    assert command(environment, "topics", "apply")[0] == 0
    assert _diff(environment)[1] == differences, "nothing is made smaller"
