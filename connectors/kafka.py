"""Kafka, spoken through aiokafka: confirmed sends, tables read to their end.

The Faust apps consume (``streams.apps``), ``topic_admin.py`` makes and mends the topics, ``lag.py`` tells how
far groups are behind; everything else that touches Kafka is here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from connectors import tracing
from connectors.broker import Broker, broker
from connectors.errors import ConfigurationError, TopicMissingError, UnavailableError
from schemas.events import Event
from schemas.headers import Headers, unreadable_version
from schemas.identity import partition_for
from schemas.topics import DOCUMENTS

# aiokafka checks a record's size before compression; the broker checks the batch after it.
MAX_REQUEST_BYTES = DOCUMENTS.max_message_bytes or 1024 * 1024
REQUEST_TIMEOUT_SECONDS = 30
# aiokafka has one request under way a broker, and partitions that are not in it wait for its end: how long a
# broker keeps one where there is nothing new, for readers that are to be prompt.
FETCH_WAIT_MILLISECONDS = 250
# A page of changes of one mailbox, which go to one partition, fits a batch: each batch is a round trip, and
# aiokafka's own 16 KiB hold fifty of them.
BATCH_BYTES = 256 * 1024
# How old a table may be that is asked for every event: a purge is honoured, and a label known, within this.
REFRESH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Send:
    """One record to be written. ``partition`` None: by the key's murmur2, as every Kafka client does.

    ``event`` makes one out of an event, with the headers that say what it is; bytes that were read and are
    written again take theirs along (``schemas.headers.kept``).
    """

    topic: str
    key: str
    value: bytes | None  # None is a tombstone
    partition: int | None = None
    headers: Headers = ()
    trace: Headers = ()  # the span it belongs to; that in which it is sent, if none is given
    written_at: int | None = None  # milliseconds since 1970; None: now

    @classmethod
    def event(
        cls, topic: str, key: str, event: Event, partition: int | None = None, trace: Headers = ()
    ) -> Self:
        """An event as a record."""
        return cls(topic, key, event.encode(), partition, event.schema_headers(), trace)


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read: bytes, decoded by whoever knows what they are."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes | None
    written_at: int | None = None  # milliseconds since 1970; None where nobody asked for it
    headers: Headers = ()
    ahead: bool = False  # read before its turn, in which it comes again


def _partition(key: bytes, partitions: Sequence[int], _available: Sequence[int]) -> int:
    # As aiokafka does it, which hashes a key in Python each time: a mailbox's events all have the same one.
    return partitions[partition_for(key.decode(), len(partitions))]


class Producer:
    """An idempotent producer (acks=all). A send that returned is on the broker."""

    def __init__(self, kafka: Broker | str) -> None:
        self._broker = broker(kafka)
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._broker.address,
            **self._broker.options(),
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=5,
            max_batch_size=BATCH_BYTES,
            partitioner=_partition,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_SECONDS * 1000,
        )
        try:
            await producer.start()
        except KafkaError as error:
            await producer.stop()
            raise await self._broker.absence(error) from error
        self._producer = producer
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            with suppress(KafkaError):
                await self._producer.stop()

    async def send(self, records: Sequence[Send]) -> None:
        """Write all records and wait until the broker has confirmed each.

        Raises UnavailableError; some of the records may have been written then. Safe to repeat.
        """
        assert self._producer is not None, "the producer is used inside its context"
        try:
            futures = [
                await self._producer.send(
                    record.topic,
                    record.value,
                    record.key.encode(),
                    partition=record.partition,
                    timestamp_ms=record.written_at,
                    headers=[*record.headers, *(record.trace or tracing.headers())],
                )
                for record in records
            ]
            await asyncio.gather(*futures)
        except KafkaError as error:
            raise UnavailableError(f"Kafka did not confirm a record: {error}") from error

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises ConfigurationError when there is no such topic."""
        assert self._producer is not None, "the producer is used inside its context"
        try:
            partitions = await self._producer.partitions_for(topic)
        except KafkaError as error:
            raise ConfigurationError(
                f"topic {topic} cannot be read ({error}): run `mailstream topics apply`"
            ) from error
        return len(partitions)


@asynccontextmanager
async def consumer(kafka: Broker | str, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer, stopped at the end. ``options`` are aiokafka's."""
    server = broker(kafka)
    client = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=server.address,
        **server.options(),
        max_partition_fetch_bytes=MAX_REQUEST_BYTES,
        **options,
    )
    async with _started(client, client.stop, server):
        yield client


@asynccontextmanager
async def _started(client: Any, stop: Callable[[], Awaitable[None]], server: Broker) -> AsyncIterator[None]:
    try:
        await client.start()
    except KafkaError as error:
        await stop()
        raise await server.absence(error) from error
    try:
        yield
    finally:
        with suppress(KafkaError):
            await stop()


class Log:
    """A topic, or one partition of it, read from its start: each ``read`` goes on to the end as it stands.

    Between two reads nothing is asked for: a fetch that waits for news would hold up the question where the
    end is, by half a second, because a broker answers a connection's requests in their order.
    """

    def __init__(self, client: AIOKafkaConsumer, topic: str) -> None:
        self._client = client
        self._topic = topic

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: Broker | str, topic: str, partition: int | None = None) -> AsyncIterator[Log]:
        """The log before its first record."""
        async with consumer(kafka, auto_offset_reset="earliest", enable_auto_commit=False) as client:
            assignment = await partitions_of(client, [topic])
            if partition is not None:
                assignment = [tp for tp in assignment if tp.partition == partition]
            client.assign(assignment)
            client.pause(*assignment)
            await client.seek_to_beginning(*assignment)
            yield cls(client, topic)

    async def read(self) -> AsyncIterator[Record]:
        """Every record from where the last call stopped, in the order of each partition.

        Raises UnavailableError.
        """
        client, partitions = self._client, list(self._client.assignment())
        with mapped_reads(self._topic):
            ends = await client.end_offsets(partitions)
            try:
                while behind := [tp for tp, end in ends.items() if await client.position(tp) < end]:
                    client.resume(*behind)
                    for records in (await client.getmany(timeout_ms=500)).values():
                        for record in records:
                            yield as_record(record)
            finally:
                client.pause(*partitions)


@contextmanager
def mapped_reads(topic: str) -> Iterator[None]:
    """Turn Kafka's errors into ours, where a topic is read."""
    try:
        yield
    except KafkaError as error:
        raise UnavailableError(f"topic {topic} cannot be read: {error}") from error


def as_record(record: Any) -> Record:
    """A record of aiokafka's as ours."""
    key = (record.key or b"").decode("utf-8", "replace")
    place = (record.topic, record.partition, record.offset)
    return Record(*place, key, record.value, record.timestamp, tuple(record.headers))


class Table:
    """A compacted topic held in memory: the latest value of every key, deletions applied.

    ``catch_up`` reads to the end as it stands at the call, from wherever the last call stopped.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._reading = asyncio.Lock()
        self._read_at = -math.inf  # by the monotonic clock
        self.values: dict[str, bytes] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: Broker | str, topic: str) -> AsyncIterator[Table]:
        """The table, read to its end."""
        async with Log.open(kafka, topic) as log:
            table = cls(log)
            await table.catch_up()
            yield table

    async def refresh(self) -> bool:
        """Read to the end, unless that was done within REFRESH_SECONDS; returns whether it was done now.
        Raises what ``catch_up`` raises."""
        async with self._reading:
            if time.monotonic() - self._read_at <= REFRESH_SECONDS:
                return False
            await self._read_on()
            return True

    async def catch_up(self) -> None:
        """Read to the end. Raises UnavailableError.

        What a table says is acted on: a record in a version that this program cannot read stops it, with a
        ConfigurationError.
        """
        async with self._reading:
            await self._read_on()

    async def _read_on(self) -> None:
        async for record in self._log.read():
            version = unreadable_version(record.headers, record.topic)
            if version is not None:
                raise ConfigurationError(
                    f"{record.topic} has a record in schema version {version} (partition {record.partition},"
                    f" offset {record.offset}), which this program does not read: upgrade it"
                )
            if record.value is None:
                self.values.pop(record.key, None)
            else:
                self.values[record.key] = record.value
        self._read_at = time.monotonic()


async def read_table(kafka: Broker | str, topic: str) -> dict[str, bytes]:
    """The latest value of every key of a compacted topic, once."""
    async with Table.open(kafka, topic) as table:
        return table.values


async def read_partition(kafka: Broker | str, topic: str, partition: int) -> AsyncIterator[Record]:
    """Every record of a partition from its start to its end as it stands at the call."""
    async with Log.open(kafka, topic, partition) as log:
        async for record in log.read():
            yield record


async def read_offsets(
    kafka: Broker | str, topic: str, partition: int, offsets: Iterable[int]
) -> list[Record]:
    """The records at these offsets of a partition, in their order, without those that are gone."""
    records = []
    async with consumer(kafka, auto_offset_reset="earliest", enable_auto_commit=False) as client:
        tp = TopicPartition(topic, partition)
        client.assign([tp])
        with mapped_reads(topic):
            [end] = (await client.end_offsets([tp])).values()
            for offset in sorted(set(offsets)):
                if offset >= end:
                    break
                client.seek(tp, offset)
                record = as_record(await client.getone(tp))
                # What compaction removed, or retention, is answered by the next record that is there.
                if record.offset == offset:
                    # Read again: it says nothing of when its message was heard of last.
                    records.append(replace(record, written_at=None))
    return records


@asynccontextmanager
async def administrator(kafka: Broker | str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started client for what concerns topics and groups as a whole, closed at the end."""
    server = broker(kafka)
    client = AIOKafkaAdminClient(bootstrap_servers=server.address, **server.options())
    async with _started(client, client.close, server):
        yield client


async def partitions_of(client: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """The topics' partitions. Raises TopicMissingError."""
    # aiokafka learns of the topics it is subscribed to; for the others it must be asked to look.
    await client._client.force_metadata_update()
    found = []
    for topic in topics:
        partitions = client.partitions_for_topic(topic)
        if not partitions:
            raise TopicMissingError(f"topic {topic} does not exist: run `mailstream topics apply`")
        found += [TopicPartition(topic, partition) for partition in sorted(partitions)]
    return found
