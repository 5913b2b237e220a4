"""The end of a topic on a real broker: what was written lately, to the partitions that are ours."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from connectors.kafka import Producer, Record, Send
from connectors.tail import LOOK_BACK_SECONDS, tail
from connectors.topic_admin import apply_topics
from schemas.headers import LIVE, is_live
from schemas.topics import Topic


async def _next(records: AsyncGenerator[Record, None]) -> str:
    async with asyncio.timeout(30):
        return (await anext(records)).key


async def test_what_is_new_and_urgent_comes_at_once_from_the_partitions_that_are_ours(
    kafka_bootstrap: str, unique_name: str
) -> None:
    await apply_topics(kafka_bootstrap, [Topic(unique_name, 2, "delete")])
    long_ago = int((time.time() - LOOK_BACK_SECONDS - 60) * 1000)
    ours = {0}

    def send(key: str, partition: int, *, live: bool, written_at: int | None = None) -> Send:
        headers = (LIVE,) if live else ()
        return Send(unique_name, key, b"x", partition, headers, written_at=written_at)

    async with Producer(kafka_bootstrap) as producer:
        await producer.send([send("old", 0, live=True, written_at=long_ago)])
        await producer.send([send(f"backfill {number}", 0, live=False) for number in range(2_000)])
        # Written before anybody looked, as while a partition changes hands.
        await producer.send([send("a moment ago", 0, live=True), send("not ours yet", 1, live=True)])
        async with aclosing(tail(kafka_bootstrap, unique_name, lambda: ours, is_live)) as records:
            assert await _next(records) == "a moment ago"
            await producer.send([send("copied", 0, live=True, written_at=long_ago)])
            await producer.send([send("backfill", 0, live=False), send("now", 0, live=True)])
            assert await _next(records) == "now"
            ours.add(1)
            assert await _next(records) == "not ours yet"
            # The partition that was ours before goes on where it was.
            await producer.send([send("then", 0, live=True)])
            assert await _next(records) == "then"
