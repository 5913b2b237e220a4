"""Batches side by side: never two with one owner, acks in offset order, nothing acked past a failure."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP
from prometheus_client import REGISTRY

from connectors.kafka import Record
from streams.settle import (
    BUFFERED_EVENTS,
    POLLED_EVENTS,
    Ahead,
    BatchLimits,
    SettlingConsumer,
    _Lanes,
    settle_batches,
)

LIMITS = BatchLimits(records=10, size_bytes=1_000, in_flight=3)


@dataclass
class Stream:
    """Stands for Faust's: gives the events of two partitions, remembers the acks, then stays open."""

    keys: list[str]
    acked: list[tuple[int, int]] = field(default_factory=list)

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        for number, key in enumerate(self.keys):
            yield self._event(number % 2, number // 2, key)
            for _ in range(3):  # the loop has other work between two of Faust's
                await asyncio.sleep(0)
        await asyncio.Event().wait()

    def _event(self, partition: int, offset: int, key: str) -> Any:
        message = SimpleNamespace(
            topic="t",
            partition=partition,
            offset=offset,
            key=key.encode(),
            value=b"x" * 20,
            timestamp=None,
            headers=(),
        )
        return SimpleNamespace(message=message, ack=lambda: self.acked.append((partition, offset)))


async def _settle(stream: Stream, handle: Any, limits: BatchLimits = LIMITS) -> None:
    async with asyncio.timeout(20):
        await settle_batches(stream, handle, limits, lambda record: record.key, "index")


async def test_batches_overlap_and_owners_do_not_meet() -> None:
    stream = Stream([f"k{number * 7 % 11}" for number in range(200)])
    under_way: set[str] = set()
    most_batches = batches = 0

    async def handle(records: list[Record]) -> None:
        nonlocal batches, most_batches
        batches += 1
        most_batches = max(most_batches, batches)
        owners = {record.key for record in records}
        assert not owners & under_way
        under_way.update(owners)
        assert len(records) <= LIMITS.records
        await asyncio.sleep(0.02 * (1 + len(stream.acked) % 3))
        under_way.difference_update(owners)
        batches -= 1

    task = asyncio.create_task(_settle(stream, handle))
    while len(stream.acked) < 200 and not task.done():  # noqa: ASYNC110 - an ack wakes nobody
        await asyncio.sleep(0.01)
    task.cancel()
    assert sorted(stream.acked) == [(p, offset) for p in (0, 1) for offset in range(100)]
    for partition in (0, 1):
        offsets = [offset for p, offset in stream.acked if p == partition]
        assert offsets == sorted(offsets)
    assert 1 < most_batches <= LIMITS.in_flight


async def test_nothing_behind_a_failure_is_acked() -> None:
    stream = Stream([f"k{number}" for number in range(100)])

    async def handle(records: list[Record]) -> None:
        await asyncio.sleep(0)
        if any((record.partition, record.offset) == (0, 12) for record in records):
            await asyncio.sleep(0.05)  # the batches behind it end first
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        await _settle(stream, handle)
    assert all(offset < 12 for partition, offset in stream.acked if partition == 0)


async def test_an_event_larger_than_a_batch_goes_alone() -> None:
    stream = Stream(["a", "b", "c"])
    sizes: list[int] = []

    async def handle(records: list[Record]) -> None:
        sizes.append(len(records))
        if sum(sizes) == 3:
            raise RuntimeError("done")

    with pytest.raises(RuntimeError, match="done"):
        await _settle(stream, handle, BatchLimits(records=10, size_bytes=5, in_flight=1))
    assert sizes == [1, 1, 1]


async def test_urgent_events_go_first_and_what_is_read_ahead_is_acked_in_its_turn() -> None:
    """A hundred slow events of one partition, an urgent one at its end, and a lane full of others."""
    stream = Stream([f"k{number}" for number in range(200)])
    limits = BatchLimits(records=10, size_bytes=1_000, in_flight=2)
    handled: list[tuple[str, int]] = []
    gate = asyncio.Event()

    async def lately() -> AsyncGenerator[Record, None]:
        yield Record("t", 0, 99, "k198", b"x")
        yield Record("t", 0, 0, "k0", b"x")  # its turn has come: to be left alone
        await asyncio.Event().wait()

    def urgent(record: Record) -> bool:
        return record.key == "k198"

    async def handle(records: list[Record]) -> None:
        if not any(map(urgent, records)):
            await gate.wait()
        handled.extend((record.key, record.offset) for record in records)
        if records[0].key == "k198":
            gate.set()

    async def settle() -> None:
        ahead = Ahead(urgent, lately)
        await settle_batches(stream, handle, limits, lambda record: record.key, "index", ahead)

    task = asyncio.create_task(settle())
    async with asyncio.timeout(20):
        while len(stream.acked) < 200 and not task.done():  # noqa: ASYNC110 - an ack wakes nobody
            await asyncio.sleep(0.01)
    task.cancel()
    assert handled[0] == ("k198", 99)
    assert handled.count(("k198", 99)) == 2  # once more in its turn, which is when it is acked
    assert len(handled) == 201
    assert [offset for partition, offset in stream.acked if partition == 0] == list(range(100))


def test_a_full_buffer_of_one_topic_stops_its_partitions_and_no_other_topic() -> None:
    backfill, changes = [TP("backfill", 0), TP("backfill", 1)], [TP("changes", 0)]
    consumer = object.__new__(SettlingConsumer)
    consumer.app = SimpleNamespace(in_recovery=False)  # type: ignore[assignment]
    consumer._active_partitions = {*backfill, *changes}
    consumer._buffered_partitions = set()
    consumer.assignment = lambda: {*backfill, *changes}  # type: ignore[method-assign]
    consumer.on_buffer_full(backfill[0])
    assert consumer._active_partitions == set(changes)
    consumer.on_buffer_drop(backfill[0])
    assert consumer._active_partitions == {*backfill, *changes}
    # What a single poll brings after that finds room.
    assert BUFFERED_EVENTS - int(BUFFERED_EVENTS / 1.25) >= POLLED_EVENTS


async def test_a_topic_with_news_does_not_wait_until_another_has_nothing_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backfill, changes = TP("backfill", 0), TP("changes", 0)
    there = {backfill: [b"b1", b"b2", b"b3"], changes: []}

    async def getmany(self: Any, partitions: set[Any] | None, _: float) -> dict[Any, list[bytes]]:
        """As aiokafka does it: one partition after the other, a poll's worth at a time."""
        for tp, records in there.items():
            if records and (partitions is None or tp in partitions):
                return {tp: [records.pop(0)]}
        return {}

    monkeypatch.setattr(Consumer, "_getmany", getmany)
    consumer = object.__new__(SettlingConsumer)
    assert await consumer._getmany({backfill, changes}, 1.0) == {backfill: [b"b1"]}
    there[changes] += [b"c1", b"c2"]
    polled = [await consumer._getmany({backfill, changes}, 1.0) for _ in range(5)]
    assert polled == [{changes: [b"c1"]}, {backfill: [b"b2"]}, {changes: [b"c2"]}, {backfill: [b"b3"]}, {}]
    assert await consumer._getmany(None, 1.0) == {}, "Faust asks for all of them"


async def test_what_is_written_together_is_worked_on_together() -> None:
    batches: list[int] = []

    async def handle(records: list[Record]) -> None:
        batches.append(len(records))

    stream = Stream(["one", "one"])
    task = asyncio.create_task(_settle(stream, handle))
    async with asyncio.timeout(20):
        while len(stream.acked) < 2:  # noqa: ASYNC110 - an ack wakes nobody
            await asyncio.sleep(0.01)
    task.cancel()
    assert batches == [2]


async def test_the_oldest_open_event_and_the_seconds_of_each_are_measured() -> None:
    def seconds() -> float:
        return REGISTRY.get_sample_value("stage_seconds_count", {"stage": "test"}) or 0.0

    lanes = _Lanes("test")
    message = SimpleNamespace(
        topic="t", partition=0, offset=1, key=b"k", value=b"", timestamp=time.time() - 90, headers=()
    )
    entry = lanes.append(SimpleNamespace(message=message, ack=lambda: None))
    oldest = REGISTRY.get_sample_value("stage_oldest_seconds", {"stage": "test"})
    assert oldest is not None
    assert 90 <= oldest < 100
    lanes.finish(entry)
    assert REGISTRY.get_sample_value("stage_oldest_seconds", {"stage": "test"}) == 0
    assert seconds() == 1
