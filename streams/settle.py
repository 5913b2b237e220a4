"""The delivery rule: an offset is committed only after its event's work stands, in offset order.

Faust's ordinary agent loop loses the message whose body raises, and so do several of its other forms
(measured, see ARCHITECTURE.md). What is used here instead: ``noack().events()``, an ack after success and in
offset order, a supervisor that lets the process die, and a consumer that counts gaps right. Nothing but this
file and ``apps`` imports faust.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import faust
from faust.transport.drivers.aiokafka import Consumer
from mode.supervisors import CrashingSupervisor

from connectors.kafka import Record

# A dead member's partitions move after this long: short enough not to be missed, long enough for a
# garbage collection or a busy disk.
SESSION_TIMEOUT_SECONDS = 12.0
HEARTBEAT_SECONDS = 3.0
COMMIT_INTERVAL_SECONDS = 1.0
# Records that Faust fetches ahead of us for a partition: they are ids, or documents of up to 16 MiB.
PREFETCHED_EVENTS = 64
# Faust polls again when what it got has found room; behind a lane full of scans that is minutes. A consumer
# that does not poll for this long is thought dead and leaves its group, and its work would begin again.
POLL_INTERVAL_SECONDS = 3600.0


class SettlingConsumer(Consumer):
    """Faust's consumer with two mistakes of 0.15.3 mended."""

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


def create_app(name: str, bootstrap: str, data_directory: Path) -> faust.App:
    """A Faust app that only consumes, under the rule above. ``name`` is also its consumer group."""
    data_directory.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        name,
        broker=f"kafka://{bootstrap}",
        datadir=str(data_directory),
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
        stream_buffer_maxsize=PREFETCHED_EVENTS,
        stream_recovery_delay=0.0,
        broker_session_timeout=SESSION_TIMEOUT_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_commit_interval=COMMIT_INTERVAL_SECONDS,
        broker_max_poll_records=PREFETCHED_EVENTS,
        broker_max_poll_interval=POLL_INTERVAL_SECONDS,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    app.transport.Consumer = SettlingConsumer  # type: ignore[misc]
    return app


class _Lane:
    """The events of one partition in offset order: acks run behind the first that is not done."""

    def __init__(self) -> None:
        self._events: deque[tuple[Any, asyncio.Task[None]]] = deque()

    def append(self, event: Any, task: asyncio.Task[None]) -> None:
        self._events.append((event, task))

    def ack_finished(self) -> None:
        while self._events and self._events[0][1].done():
            event, task = self._events[0]
            if task.cancelled() or task.exception() is not None:
                return
            self._events.popleft()
            event.ack()


async def settle_each(stream: Any, handle: Callable[[Record], Awaitable[None]], in_flight: int) -> None:
    """Handle events side by side, at most ``in_flight`` of them unfinished or waiting for an earlier one.

    What ``handle`` raises stops the worker, with the event and all behind it un-acked.
    """
    lanes: dict[tuple[str, int], _Lane] = {}
    slots = asyncio.Semaphore(in_flight)

    def finished(lane: _Lane, _: object) -> None:
        slots.release()
        lane.ack_finished()

    async def read(group: asyncio.TaskGroup) -> None:
        async for event in _events(stream):
            await slots.acquire()
            record = _record(event)
            lane = lanes.setdefault((record.topic, record.partition), _Lane())
            task = group.create_task(_awaited(handle(record)))
            lane.append(event, task)
            task.add_done_callback(partial(finished, lane))

    await _in_group(read)


async def settle_batches(
    stream: Any, handle: Callable[[list[Record]], Awaitable[None]], max_records: int, max_bytes: int
) -> None:
    """Handle events in batches of what has arrived: one when it is quiet, ``max_records`` under load.

    What ``handle`` raises stops the worker, with the whole batch and all behind it un-acked.
    """
    arrived: asyncio.Queue[Any] = asyncio.Queue(max_records)

    async def read(group: asyncio.TaskGroup) -> None:
        worker = group.create_task(work())
        async for event in _events(stream):
            await arrived.put(event)
        worker.cancel()

    async def work() -> None:
        while True:
            events = [await arrived.get()]
            size_bytes = len(events[0].message.value or b"")
            while len(events) < max_records and size_bytes < max_bytes and not arrived.empty():
                events.append(arrived.get_nowait())
                size_bytes += len(events[-1].message.value or b"")
            await handle([_record(event) for event in events])
            for event in events:
                event.ack()

    await _in_group(read)


async def _in_group(read: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            await read(group)
    except BaseExceptionGroup as errors:
        # The first error is the reason; the others were cancelled because of it.
        raise errors.exceptions[0] from None


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _events(stream: Any) -> AsyncIterable[Any]:
    events: AsyncIterable[Any] = stream.noack().events()
    return events


def _record(event: Any) -> Record:
    message = event.message
    return Record(
        message.topic,
        message.partition,
        message.offset,
        (message.key or b"").decode("utf-8", "replace"),
        message.value,
    )
