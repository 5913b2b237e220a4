"""A broker that compacts within seconds, so that tests see what compaction leaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from connectors.kafka import Producer, Send
from schemas.topics import Topic

WAIT_SECONDS = 120.0
_SOON = {
    "segment.ms": "500",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
    "max.compaction.lag.ms": "1000",
    "file.delete.delay.ms": "1000",
}


async def compact_soon(bootstrap: str, topics: Sequence[Topic]) -> None:
    """Have the real broker compact these topics as soon as it may."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic.name, configs={**topic.config(), **_SOON})
                for topic in topics
            ]
        )
    finally:
        await admin.close()


async def compacted(
    bootstrap: str, topics: Sequence[Topic], is_done: Callable[[], Awaitable[object]]
) -> None:
    """Wait until the broker has compacted far enough. Segments are closed when the next record comes."""
    deadline = time.monotonic() + WAIT_SECONDS
    async with Producer(bootstrap) as producer:
        while not await is_done():
            assert time.monotonic() < deadline, "the broker does not compact"
            for topic in topics:
                for number in range(await producer.partitions(topic.name)):
                    await producer.send([Send(topic.name, "x/tick", None, number)])
            await asyncio.sleep(2)
