"""How far consumer groups are behind. The source tells the metrics: it is seen when no worker runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from connectors.broker import Broker
from connectors.errors import MailstreamError, UnavailableError
from connectors.kafka import REQUEST_TIMEOUT_SECONDS, administrator, consumer, partitions_of
from connectors.metrics import consumer_lag_gauge
from schemas import topics

log = logging.getLogger(__name__)

MEASURE_SECONDS = 10.0


async def measure_lag(kafka: Broker | str) -> None:
    """Go on until cancelled. While Kafka does not tell, the last numbers stand."""
    while True:
        try:
            async with LagMeter.open(kafka) as meter:
                while True:
                    for stage, (group, names) in topics.STAGES.items():
                        for name in names:
                            lag = await meter.lag(group, [name])
                            consumer_lag_gauge.labels(stage=stage, topic=name).set(lag)
                    await asyncio.sleep(MEASURE_SECONDS)
        except MailstreamError as error:
            log.warning("the stages' lag is unknown: %s", error)
            await asyncio.sleep(MEASURE_SECONDS)


class LagMeter:
    """How far consumer groups are behind."""

    def __init__(self, admin: AIOKafkaAdminClient, client: AIOKafkaConsumer) -> None:
        self._admin = admin
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: Broker | str) -> AsyncIterator[LagMeter]:
        """A meter with connections of its own."""
        async with administrator(kafka) as admin, consumer(kafka, enable_auto_commit=False) as client:
            yield cls(admin, client)

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """Records of ``topics`` that ``group`` has not committed; all that are there if it committed none.

        In a compacted topic the offsets that compaction removed count too.
        """
        committed = await self._committed(group)
        return self._behind(committed, await self.ends(topics), await self._starts(topics))

    async def behind(self, group: str, ends: Mapping[TopicPartition, int]) -> int:
        """Records before ``ends`` that ``group`` has not committed."""
        names = sorted({tp.topic for tp in ends})
        return self._behind(await self._committed(group), ends, await self._starts(names))

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """The offset of the next record that ``group`` will handle, of each partition it has come to."""
        known = await self._committed(group)
        return {tp: entry.offset for tp, entry in known.items() if entry.offset >= 0}

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Where each partition of ``topics`` ends now."""
        return await self._offsets(self._client.end_offsets, topics)

    async def _starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return await self._offsets(self._client.beginning_offsets, topics)

    async def _offsets(self, ask: Callable[..., Any], topics: Sequence[str]) -> dict[TopicPartition, int]:
        try:
            found: dict[TopicPartition, int] = await ask(await partitions_of(self._client, topics))
        except KafkaError as error:
            raise UnavailableError(f"Kafka does not tell the lag: {error}") from error
        return found

    def _behind(
        self,
        committed: Mapping[TopicPartition, Any],
        ends: Mapping[TopicPartition, int],
        starts: Mapping[TopicPartition, int],
    ) -> int:
        waiting = 0
        for tp, end in ends.items():
            known = committed.get(tp)
            # What retention has removed waits for nobody.
            start = max(known.offset if known is not None else 0, starts[tp])
            waiting += max(0, end - start)
        return waiting

    async def _committed(self, group: str) -> dict[TopicPartition, Any]:
        """The group's offsets. A broker that has just started, or restarted, looks for its groups first."""
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while True:
            try:
                offsets: dict[TopicPartition, Any] = await self._admin.list_consumer_group_offsets(group)
                return offsets
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise UnavailableError(f"Kafka does not tell the lag: {error}") from error
            await asyncio.sleep(0.2)

    async def records(self, topic: str) -> int:
        """Records that stand in a topic, those that compaction removed counted too."""
        ends, starts = await self.ends([topic]), await self._starts([topic])
        return sum(ends[tp] - starts[tp] for tp in ends)
