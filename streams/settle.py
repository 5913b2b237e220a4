"""The delivery rule: an offset is committed only after its event's work stands, in offset order.

Faust's ordinary agent loop loses the message whose body raises, and so do several of its other forms
(measured, see ARCHITECTURE.md). What is used here instead: ``noack().events()``, an ack after success and in
offset order, a supervisor that lets the process die, and a consumer that counts gaps right. Nothing but this
file and ``apps`` imports faust.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import faust
from faust.auth import Credentials, SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from mode.supervisors import CrashingSupervisor

from connectors.broker import Broker, broker
from connectors.kafka import FETCH_WAIT_MILLISECONDS, Record
from connectors.metrics import stage_oldest_gauge, stage_seconds_histogram

# A dead member's partitions move after this long: short enough not to be missed, long enough for a
# garbage collection or a busy disk.
SESSION_TIMEOUT_SECONDS = 12.0
HEARTBEAT_SECONDS = 3.0
COMMIT_INTERVAL_SECONDS = 1.0
# What one poll hands out at most: other topics wait that long, seconds where two processors are busy.
POLLED_EVENTS = 16
# Those of a topic that wait in the process: ids, or documents of up to 16 MiB. Where several topics are read,
# a full buffer of one must not keep Faust from the others: it stops asking for more at four fifths, and what
# one poll brings finds room in the rest.
BUFFERED_EVENTS = 5 * POLLED_EVENTS
FULL_POLL_SECONDS = 0.02
# Events come one by one; those of one message, which are written together, are worked on together.
GATHER_SECONDS = 0.01
# Faust polls again when what it got has found room; behind a lane full of scans that is minutes. A consumer
# that does not poll for this long is thought dead and leaves its group, and its work would begin again.
POLL_INTERVAL_SECONDS = 3600.0


class _PromptThread(AIOKafkaConsumerThread):
    """Faust's thread around its client, with a shorter wait: by itself a second and a half."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        client = super()._create_worker_consumer(transport)
        client._fetch_max_wait_ms = FETCH_WAIT_MILLISECONDS
        return client


class SettlingConsumer(Consumer):
    """Faust's consumer with two mistakes of 0.15.3 mended, and without four of its waits."""

    _served = ""  # the topic that the last records were of

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _PromptThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[Any] | None, timeout: float) -> Any:  # noqa: ASYNC109
        """Topics take turns: aiokafka hands out all that it has of one partition, a backfill's thousands,
        before it comes to the next."""
        partitions = active_partitions or set()
        others = {tp for tp in partitions if tp.topic != self._served}
        records = await super()._getmany(others, 0.0) if self._served and others else {}
        if not records:
            records = await super()._getmany(active_partitions, timeout)
        self._served = next((tp.topic for tp in records), "")
        return records

    def on_buffer_full(self, tp: Any) -> None:
        """A topic's partitions share its buffer: ask for none of them."""
        for other in self._of_same_topic(tp):
            super().on_buffer_full(other)

    def on_buffer_drop(self, tp: Any) -> None:
        """There is room again for all of them."""
        for other in self._of_same_topic(tp):
            super().on_buffer_drop(other)

    def _of_same_topic(self, tp: Any) -> list[Any]:
        return [other for other in self.assignment() if other.topic == tp.topic]

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's own
        # Where no partition may be asked for, Faust sleeps a second, however soon there is room again.
        while self.flow_active and self._buffered_partitions and not self._get_active_partitions():
            if self.should_stop:
                break
            await asyncio.sleep(FULL_POLL_SECONDS)
        return await super()._wait_next_records(timeout)

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        # Faust counts the message after a gap as part of the gap, so that its offset is committed whether or
        # not it was acked. ``offset_to`` is that message's offset.
        await super()._add_gap(tp, offset_from, offset_to - 1)

    def ack(self, message: Any) -> bool:
        """Count the message as done. False when it was counted before, or came before a rebalance."""
        # After a rebalance Faust acks what it skips from the generation before; the same offsets come again
        # and would pass for done. An ack counts in the generation that delivered the message, in no other.
        if message.generation_id != self.app.consumer_generation_id:
            return False
        return bool(super().ack(message))


def create_app(name: str, kafka: Broker | str, data_directory: Path) -> faust.App:
    """A Faust app that only consumes, under the rule above. ``name`` is also its consumer group."""
    data_directory.mkdir(parents=True, exist_ok=True)
    server = broker(kafka)
    app = faust.App(
        name,
        broker=f"kafka://{server.address}",
        broker_credentials=_credentials(server),
        datadir=str(data_directory),
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFERED_EVENTS,
        stream_recovery_delay=0.0,
        broker_session_timeout=SESSION_TIMEOUT_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_commit_interval=COMMIT_INTERVAL_SECONDS,
        broker_max_poll_records=POLLED_EVENTS,
        broker_max_poll_interval=POLL_INTERVAL_SECONDS,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    app.transport.Consumer = SettlingConsumer  # type: ignore[misc]
    return app


def _credentials(server: Broker) -> Credentials | None:
    if server.uses_sasl:
        return SASLCredentials(
            mechanism=server.mechanism,
            username=server.username,
            password=server.password,
            ssl_context=server.tls(),
        )
    context = server.tls()
    return SSLCredentials(context) if context is not None else None


@dataclass(slots=True, eq=False)
class _Entry:
    """An event on its way; ``event`` None: read ahead of its turn, in which it will come again."""

    event: Any
    record: Record
    arrived: float  # by the monotonic clock
    done: bool = False
    owner: str = ""
    urgent: bool = False

    @property
    def size_bytes(self) -> int:
        return len(self.record.value or b"")


class _Lanes:
    """The events of each partition in offset order: acks run behind the first that is not done."""

    def __init__(self, stage: str) -> None:
        self._lanes: dict[tuple[str, int], deque[_Entry]] = {}
        self._last: dict[tuple[str, int], int] = {}  # offsets
        self._seconds = stage_seconds_histogram.labels(stage=stage)
        _OPEN.setdefault(stage, WeakSet()).add(self)
        stage_oldest_gauge.labels(stage=stage).set_function(lambda: _oldest_seconds(stage))

    def append(self, event: Any) -> _Entry:
        entry = _Entry(event, _record(event), time.monotonic())
        self._lane(entry).append(entry)
        self._last[entry.record.topic, entry.record.partition] = entry.record.offset
        return entry

    def has_come(self, record: Record) -> bool:
        """Whether its turn is over, or under way."""
        return record.offset <= self._last.get((record.topic, record.partition), -1)

    def heads(self) -> list[Record]:
        """Of each partition the first that is not done."""
        return [lane[0].record for lane in list(self._lanes.values()) if lane]

    def finish(self, entry: _Entry) -> None:
        entry.done = True
        self._seconds.observe(time.monotonic() - entry.arrived)
        lane = self._lane(entry)
        while lane and lane[0].done:
            lane.popleft().event.ack()

    def _lane(self, entry: _Entry) -> deque[_Entry]:
        return self._lanes.setdefault((entry.record.topic, entry.record.partition), deque())


# The lanes of each stage that has an agent at work: extract has two.
_OPEN: dict[str, WeakSet[_Lanes]] = {}


def _oldest_seconds(stage: str) -> float:
    """Asked from the thread that serves the metrics."""
    heads = [record for lanes in list(_OPEN[stage]) for record in lanes.heads()]
    written = [record.written_at for record in heads if record.written_at is not None]
    return max(time.time() - min(written) / 1000, 0.0) if written else 0.0


async def settle_each(
    stream: Any, handle: Callable[[Record], Coroutine[Any, Any, None]], in_flight: int, stage: str
) -> None:
    """Handle events side by side, at most ``in_flight`` of them unfinished or waiting for an earlier one.

    ``stage`` names the work in the metrics. What ``handle`` raises stops the worker, with the event and all
    behind it un-acked.
    """
    lanes = _Lanes(stage)
    slots = asyncio.Semaphore(in_flight)

    def finished(entry: _Entry, task: asyncio.Task[None]) -> None:
        slots.release()
        if not task.cancelled() and task.exception() is None:
            lanes.finish(entry)

    async def read(group: asyncio.TaskGroup) -> None:
        async for event in stream.noack().events():
            await slots.acquire()
            entry = lanes.append(event)
            task = group.create_task(handle(entry.record))
            task.add_done_callback(partial(finished, entry))

    await in_group(read)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is worked on at once: records and bytes of a batch, and batches side by side.

    As much as one batch may hold waits beside them; what is more stays with Faust, and so in the topic.
    """

    records: int
    size_bytes: int
    in_flight: int

    def reached(self, entries: Collection[_Entry]) -> bool:
        """Whether these are as many as one batch may hold."""
        return len(entries) >= self.records or sum(e.size_bytes for e in entries) >= self.size_bytes


@dataclass(frozen=True, slots=True)
class Ahead:
    """What need not wait for its turn. ``urgent`` tells it; ``records`` are those that were written lately,
    whatever still stands before them in the topic."""

    urgent: Callable[[Record], bool]
    records: Callable[[], AsyncGenerator[Record, None]]


async def settle_batches(
    stream: Any,
    handle: Callable[[list[Record]], Awaitable[None]],
    limits: BatchLimits,
    owner: Callable[[Record], str],
    stage: str,
    ahead: Ahead | None = None,
) -> None:
    """Handle events in batches of what has arrived: one when it is quiet, ``limits.records`` under load.

    Events of one ``owner`` are never in two batches at once: those that come while one is under way wait for
    its end. ``stage`` names the work in the metrics. What ``handle`` raises stops the worker, with its batch
    and all behind it un-acked.

    Urgent events go before others, in a batch of their own, for which there is always one place. What is read
    ahead of its turn is handled once more, and acked, when that comes: ``handle`` must allow for both.
    """
    await in_group(_Batches(stream, handle, limits, owner, _Lanes(stage), ahead).read)


@dataclass(slots=True)
class _Batches:
    """Events that wait, in two queues, and those whose owner is busy. ``changed`` is told of every change."""

    stream: Any
    handle: Callable[[list[Record]], Awaitable[None]]
    limits: BatchLimits
    owner: Callable[[Record], str]
    lanes: _Lanes
    ahead: Ahead | None
    waiting: deque[_Entry] = field(default_factory=deque)
    overtaking: deque[_Entry] = field(default_factory=deque)
    busy: set[str] = field(default_factory=set)  # owners
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    under_way: int = 0

    async def read(self, group: asyncio.TaskGroup) -> None:
        helpers = [group.create_task(self._dispatch(group))]
        if self.ahead is not None:
            helpers.append(group.create_task(self._overtake(self.ahead)))
        async for event in self.stream.noack().events():
            async with self.changed:
                await self.changed.wait_for(lambda: not self.limits.reached(self.waiting))
                entry = self.lanes.append(event)
                entry.owner = self.owner(entry.record)
                entry.urgent = self.ahead is not None and self.ahead.urgent(entry.record)
                self.waiting.append(entry)
                self.changed.notify_all()
        for helper in helpers:
            helper.cancel()

    async def _overtake(self, ahead: Ahead) -> None:
        async with aclosing(ahead.records()) as records:
            async for record in records:
                async with self.changed:
                    await self.changed.wait_for(lambda: not self.limits.reached(self.overtaking))
                    if not self.lanes.has_come(record):
                        entry = _Entry(None, record, time.monotonic(), owner=self.owner(record), urgent=True)
                        self.overtaking.append(entry)
                        self.changed.notify_all()

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while True:
            async with self.changed:
                await self.changed.wait_for(self._may_start)
                full = self.limits.reached(self.waiting)
            if not full:
                await asyncio.sleep(GATHER_SECONDS)
            async with self.changed:
                batch = self._take()
                self.changed.notify_all()
            self.under_way += 1
            group.create_task(self._work(batch))

    def _may_start(self) -> bool:
        if self.under_way < self.limits.in_flight and any(map(self._is_free, self.waiting)):
            return True
        return self.under_way <= self.limits.in_flight and any(
            e.urgent and self._is_free(e) for e in (*self.overtaking, *self.waiting)
        )

    def _is_free(self, entry: _Entry) -> bool:
        return entry.owner not in self.busy

    def _take(self) -> list[_Entry]:
        free = [entry for entry in (*self.overtaking, *self.waiting) if self._is_free(entry)]
        chosen = [entry for entry in free if entry.urgent] or free
        batch: list[_Entry] = []
        for entry in chosen:
            if self.limits.reached(batch):
                break
            batch.append(entry)
            (self.waiting if entry.event is not None else self.overtaking).remove(entry)
        self.busy.update(entry.owner for entry in batch)
        return batch

    async def _work(self, batch: list[_Entry]) -> None:
        await self.handle([entry.record for entry in batch])
        for entry in batch:
            if entry.event is not None:
                self.lanes.finish(entry)
        async with self.changed:
            self.under_way -= 1
            self.busy.difference_update(entry.owner for entry in batch)
            self.changed.notify_all()


async def in_group(read: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    """Run ``read`` with a group for what it starts; the first error of any ends all, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            await read(group)
    except BaseExceptionGroup as errors:
        # The first error is the reason; the others were cancelled because of it.
        raise errors.exceptions[0] from None


def _record(event: Any) -> Record:
    message = event.message
    return Record(
        message.topic,
        message.partition,
        message.offset,
        (message.key or b"").decode("utf-8", "replace"),
        message.value,
        int(message.timestamp * 1000) if message.timestamp is not None else None,
        tuple(dict(message.headers or ()).items()),
    )
