"""More partitions for topics in which order matters: who must be waited for, and then doing it.

``docs/GROWTH.md`` says the procedures. Every step may be repeated: after a crash the command is given again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from connectors.broker import Broker
from connectors.errors import ConfigurationError, MailstreamError, UnavailableError
from connectors.kafka import (
    Producer,
    Record,
    Send,
    administrator,
    as_record,
    consumer,
    mapped_reads,
)
from connectors.lag import LagMeter
from connectors.topic_admin import create, describe, grow
from schemas import topics
from schemas.identity import partition_for
from schemas.registers import split_key
from schemas.topics import Topic

BATCH_MILLISECONDS, BATCH_RECORDS = 500, 500
BEGIN_SECONDS = 30.0


class NotDrainedError(MailstreamError):
    """Somebody has not read all that stands in a topic, or still writes to it: it must not grow now."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer group that has committed offsets in some topics."""

    group: str
    members: int
    behind: int  # records that it has not committed
    topics: frozenset[str]
    assigned: frozenset[str]  # the topics that its members read now


@dataclass(slots=True)
class Grown:
    """What was done, and which groups must look out."""

    topics: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)  # groups that have members: no offset is set for them


async def grow_topics(kafka: Broker | str, partitions: int, ignored: Collection[str]) -> Grown:
    """Give the topics that order mailboxes that many partitions, when everything in them has been read.

    Groups without members begin at the first record of a new partition, whatever they begin with otherwise.
    ``ignored`` are groups that nobody waits for.

    Raises NotDrainedError, ConfigurationError and UnavailableError.
    """
    drained = [topic for topic in topics.ALL if topic.growth == "drained"]
    async with administrator(kafka) as admin, LagMeter.open(kafka) as meter:
        found = await describe(admin, [topic.name for topic in drained])
        if missing := [topic.name for topic in drained if topic.name not in found]:
            raise ConfigurationError(f"{', '.join(missing)} does not exist: run `mailstream topics apply`")
        if partitions < max(there.partitions for there in found.values()):
            raise ConfigurationError("a topic never has fewer partitions than before")
        growing = [topic.name for topic in drained if found[topic.name].partitions < partitions]
        # All of them, not only those that are left to grow: a grow that was interrupted is gone on with.
        readers = [
            reader for reader in await _readers(admin, meter, found.keys()) if reader.group not in ignored
        ]
        for reader in readers:
            if reader.members and reader.group in (topics.SOURCE_GROUP, topics.EXTRACT_GROUP):
                raise NotDrainedError(f"{reader.group} runs: stop sources and extract workers first")
            if reader.behind:
                raise NotDrainedError(
                    f"{reader.group} has {reader.behind} records before it: wait until it has read them, or"
                    f" leave it out of account with --ignore {reader.group}"
                )
        for name in growing:
            await grow(admin, name, partitions)
        for reader in readers:
            if not reader.members:
                all_of = [TopicPartition(name, n) for name in reader.topics for n in range(partitions)]
                await _begin(kafka, reader.group, all_of)
        return Grown(growing, [reader.group for reader in readers if reader.members])


async def _readers(admin: AIOKafkaAdminClient, meter: LagMeter, names: Iterable[str]) -> list[Reader]:
    """Every group that has committed offsets in these topics."""
    names = set(names)
    readers = []
    try:
        for group in sorted(entry[0] for entry in await admin.list_consumer_groups()):
            committed = {tp.topic for tp in await meter.committed(group) if tp.topic in names}
            if not committed:
                continue
            [answer] = await admin.describe_consumer_groups([group])
            members = [member for entry in answer.groups for member in entry[5]]
            assigned = {name for *_, assignment in members for name in _topics(assignment)}
            behind = await meter.lag(group, sorted(committed))
            readers.append(Reader(group, len(members), behind, frozenset(committed), frozenset(assigned)))
    except KafkaError as error:
        raise UnavailableError(f"Kafka does not tell its consumer groups: {error}") from error
    return readers


def _topics(assignment: bytes) -> list[str]:
    """The topics of a member's assignment; none while the group is being shared out."""
    if not assignment:
        return []
    return [name for name, _ in ConsumerProtocolMemberAssignment.decode(assignment).assignment]


async def _begin(kafka: Broker | str, group: str, partitions: Collection[TopicPartition]) -> None:
    """Commit the start of those partitions for which a group without members has committed nothing.

    Nothing stands in them yet: it has read all there was.
    """
    async with consumer(kafka, group_id=group, enable_auto_commit=False) as client:
        client.assign(list(partitions))
        deadline = time.monotonic() + BEGIN_SECONDS
        while True:
            try:
                new = [tp for tp in partitions if await client.committed(tp) is None]
                if new:
                    await client.commit(await client.beginning_offsets(new))
                return
            except KafkaError as error:  # the brokers hear of the new partitions one after the other
                if not error.retriable or time.monotonic() > deadline:
                    raise UnavailableError(f"no offsets were set for {group}: {error}") from error
            await asyncio.sleep(0.2)


async def copy_documents(
    kafka: Broker | str, target: Topic, replication: int, progress: Callable[[int, int], None]
) -> int:
    """Copy ``mail.documents`` to another topic, to its end as it stands now; returns how many records.

    Goes on where it stopped the last time. A message's registers share a partition there as here, and stand
    in the same order; keys, values, headers and times are the same.

    Raises ConfigurationError and UnavailableError.
    """
    source = topics.DOCUMENTS
    if target.name == source.name:
        raise ConfigurationError(f"{target.name} is the topic that is to be copied")
    async with administrator(kafka) as admin:
        wanted = NewTopic(target.name, target.partitions, replication, topic_configs=target.config())
        await create(admin, [wanted])
        there = (await describe(admin, [target.name]))[target.name].partitions
    if there != target.partitions:
        raise ConfigurationError(f"{target.name} has {there} partitions already: copy to another name")
    copied = 0
    options = {"group_id": f"mailstream-copy-{target.name}", "enable_auto_commit": False}
    async with (
        LagMeter.open(kafka) as meter,
        consumer(kafka, auto_offset_reset="earliest", **options) as client,
        Producer(kafka) as producer,
    ):
        ends = await meter.ends([source.name])
        client.assign(list(ends))
        with mapped_reads(source.name):
            while True:
                positions = {tp: await client.position(tp) for tp in ends}
                progress(sum(min(positions[tp], end) for tp, end in ends.items()), sum(ends.values()))
                if all(positions[tp] >= end for tp, end in ends.items()):
                    return copied
                batches = await client.getmany(timeout_ms=BATCH_MILLISECONDS, max_records=BATCH_RECORDS)
                for records in batches.values():
                    await producer.send([_moved(as_record(record), target) for record in records])
                    copied += len(records)
                if batches:
                    await client.commit({tp: some[-1].offset + 1 for tp, some in batches.items()})


def _moved(record: Record, target: Topic) -> Send:
    owner, _ = split_key(record.key)
    return Send(
        target.name,
        record.key,
        record.value,
        partition_for(owner, target.partitions),
        record.headers,
        written_at=record.written_at,
    )


async def other_documents(kafka: Broker | str) -> list[str]:
    """Topics that hold documents beside the one in use: outgrown ones, and copies that are being made."""
    async with administrator(kafka) as admin:
        try:
            names = await admin.list_topics()
        except KafkaError as error:
            raise UnavailableError(f"Kafka does not list its topics: {error}") from error
    first = topics.DOCUMENTS_NAME
    those = (name for name in names if name == first or name.startswith(f"{first}."))
    return sorted(name for name in those if name != topics.DOCUMENTS.name)


async def drop_documents(kafka: Broker | str, name: str) -> None:
    """Delete a topic of documents that is not in use. Raises ConfigurationError, NotDrainedError."""
    if name not in await other_documents(kafka):
        raise ConfigurationError(f"{name} is no topic of documents beside {topics.DOCUMENTS.name}")
    async with administrator(kafka) as admin, LagMeter.open(kafka) as meter:
        for reader in await _readers(admin, meter, [name]):
            if name in reader.assigned:
                raise NotDrainedError(f"{reader.group} still reads {name}: have it moved first")
        try:
            await admin.delete_topics([name])
        except KafkaError as error:
            raise UnavailableError(f"topic {name} was not deleted: {error}") from error
