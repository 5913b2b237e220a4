"""The end of a topic, whatever still stands before it: for readers that are behind with something urgent."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from connectors.broker import Broker
from connectors.errors import UnavailableError
from connectors.kafka import Record, as_record, consumer
from schemas.headers import Headers

log = logging.getLogger(__name__)

# A new owner of a partition begins this far back: what was written while it changed hands.
LOOK_BACK_SECONDS = 120.0
# Whoever is not behind comes to a record within this time, by the usual way.
GRACE_SECONDS = 0.1
POLL_MILLISECONDS = 200
RETRY_SECONDS = 5.0
# Records may be large, and most are looked at for their headers only.
MAX_POLL_RECORDS = 100


async def tail(
    kafka: Broker | str, topic: str, owned: Callable[[], Collection[int]], wanted: Callable[[Headers], bool]
) -> AsyncGenerator[Record, None]:
    """Records that were written lately to the partitions that ``owned`` names at the time, as ``ahead``.

    For ever, and without any promise: a record may be left out, or come twice. Kafka's failures are waited
    out; whoever reads the topic for good knows of them, too.
    """
    while True:
        try:
            async with consumer(
                kafka,
                enable_auto_commit=False,
                auto_offset_reset="latest",
                fetch_max_wait_ms=POLL_MILLISECONDS,
                max_poll_records=MAX_POLL_RECORDS,
            ) as client:
                while True:
                    await _follow(client, {TopicPartition(topic, partition) for partition in owned()})
                    found = await client.getmany(timeout_ms=POLL_MILLISECONDS)
                    records = [
                        replace(as_record(record), ahead=True)
                        for some in found.values()
                        for record in some
                        # What is older has waited already, or is a copy.
                        if record.timestamp > _since() and wanted(tuple(record.headers))
                    ]
                    if records:
                        await asyncio.sleep(GRACE_SECONDS)
                    for record in records:
                        yield record
        except (KafkaError, UnavailableError) as error:
            log.warning("the end of %s cannot be read: %s", topic, error)
            await asyncio.sleep(RETRY_SECONDS)


async def _follow(client: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
    if partitions == client.assignment():
        if not partitions:
            await asyncio.sleep(POLL_MILLISECONDS / 1000)
        return
    new = partitions - client.assignment()
    kept = {partition: await client.position(partition) for partition in partitions - new}
    client.assign(list(partitions))
    for partition, position in kept.items():
        client.seek(partition, position)
    if new:
        for partition, start in (await client.offsets_for_times(dict.fromkeys(new, _since()))).items():
            if start is not None:
                client.seek(partition, start.offset)
            else:
                await client.seek_to_end(partition)


def _since() -> int:
    return int((time.time() - LOOK_BACK_SECONDS) * 1000)
