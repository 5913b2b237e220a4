"""Replay: an index built anew from ``mail.documents`` beside the live one, checked, and put in its place.

How far it has come stands in the committed offsets of a consumer group of its own, so that it may be stopped
at any moment and go on. Gmail is not asked for anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.broker import Broker
from connectors.elasticsearch.versions import Version, Versions
from connectors.errors import MailstreamError, UnavailableError
from connectors.kafka import Record, as_record, consumer, mapped_reads
from connectors.lag import LagMeter
from schemas import topics
from streams.gone import Gone
from streams.index import Indexer

log = logging.getLogger(__name__)

BATCH_RECORDS = 400
BATCH_BYTES = 2 * 1024 * 1024
# Partitions that are worked on side by side: registers of one message share a partition.
PARTITIONS_AT_ONCE = 3
SAMPLE_DOCUMENTS = 200
CHECK_ATTEMPTS, CHECK_PAUSE_SECONDS = 10, 1.0
# The live index takes no writes while the aliases move; its worker waits about ten seconds, then gives up.
HELD_SECONDS = 5.0
SWAP_ATTEMPTS = 10
# What must be the same in both versions, whatever else a new mapping brings.
COMPARED = ("mailbox_id", "message_id", "part_path", "live", "label_ids", "subject", "text", "filename")

Ends = Mapping[TopicPartition, int]
Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


class DifferentIndexError(MailstreamError):
    """The new index lacks what the live one shows: it is not put in its place."""


class BusyTopicError(UnavailableError):
    """More is written than the rebuild keeps up with."""


@dataclass(frozen=True, slots=True)
class Check:
    """How the new version compares with the live one. ``moving``: records that one of the two may lack."""

    live_messages: int
    messages: int
    live_documents: int
    documents: int
    sampled: int
    differing: tuple[str, ...]
    moving: int

    @property
    def passed(self) -> bool:
        """Whether every difference is explained by what is still moving."""
        lacking = max(self.live_messages - self.messages, 0)
        if not self.moving:
            lacking = max(lacking, self.live_documents - self.documents)
        return max(lacking, len(self.differing)) <= self.moving


def group_of(version: Version) -> str:
    """The consumer group whose offsets say how far the filling of a version has come."""
    return f"mailstream-reindex-{version.number:06d}-{version.uuid}"


class Replay:
    """Fills ``new`` from the topic. ``indexer`` writes to it and to nothing else."""

    def __init__(
        self,
        client: AIOKafkaConsumer,
        meter: LagMeter,
        versions: Versions,
        new: Version,
        indexer: Indexer,
        gone: Gone,
        progress: Progress,
    ) -> None:
        self._client = client
        self._meter = meter
        self._versions = versions
        self._new = new
        self._indexer = indexer
        self._gone = gone
        self._progress = progress

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        kafka: Broker | str,
        versions: Versions,
        new: Version,
        indexer: Indexer,
        gone: Gone,
        progress: Progress,
    ) -> AsyncIterator[Replay]:
        """A replay that goes on where the last one of the same version stopped."""
        options = {"group_id": group_of(new), "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        async with LagMeter.open(kafka) as meter, consumer(kafka, **options) as client:
            with mapped_reads(topics.DOCUMENTS.name):
                partitions = list(await meter.ends([topics.DOCUMENTS.name]))
                client.assign(partitions)
                for partition in partitions:
                    committed = await client.committed(partition)
                    if committed is None:
                        await client.seek_to_beginning(partition)
                    else:
                        client.seek(partition, committed)
            yield cls(client, meter, versions, new, indexer, gone, progress)

    async def run(self, live: Version | None, *, force: bool = False) -> Check | None:
        """Fill, compare with ``live``, and take its place; None where there is nothing to compare with.

        Raises DifferentIndexError (not with ``force``) and UnavailableError; may be called again after both.
        """
        await self.catch_up(await self._ends(), "filling")
        await self._versions.finish(self._new)
        # What was purged while we were filling: a batch may have been under way.
        await self._gone.refresh()
        purged = {"terms": {"mailbox_id": self._gone.purged()}}
        await self._versions.delete_documents(self._new, purged)
        check = None
        if live is not None:
            check = await self.check(live)
            if not check.passed and not force:
                raise DifferentIndexError(_said(check))
        await self._take_place(live)
        return check

    async def catch_up(self, ends: Ends, doing: str = "", deadline: float | None = None) -> bool:
        """Write everything before ``ends`` to the new version; False when ``deadline`` came first."""
        slots = asyncio.Semaphore(PARTITIONS_AT_ONCE)
        reached: dict[TopicPartition, int] = {}

        def say() -> None:
            if doing:
                self._progress(doing, sum(reached.values()) - first, sum(ends.values()) - first)

        async def follow(partition: TopicPartition, end: int) -> None:
            reached[partition] = min(await self._client.position(partition), end)
            say()
            while reached[partition] < end and (deadline is None or time.monotonic() <= deadline):
                fetched = await self._client.getmany(partition, timeout_ms=500, max_records=BATCH_RECORDS)
                if records := fetched.get(partition):
                    async with slots:
                        for batch in _batches([as_record(record) for record in records]):
                            await self._indexer.handle(batch)
                    await self._client.commit({partition: records[-1].offset + 1})
                reached[partition] = min(await self._client.position(partition), end)
                say()

        with mapped_reads(topics.DOCUMENTS.name):
            # Asked for only where it is shown: the answer comes after that of the fetch which is under way.
            first = sum((await self._client.beginning_offsets(list(ends))).values()) if doing else 0
            await _side_by_side(follow(partition, end) for partition, end in ends.items())
        return reached == dict(ends)

    async def check(self, live: Version) -> Check:
        """Compare counts and a sample, until they agree or nothing moves that could mend it."""
        old, new = self._versions.index(live), self._versions.index(self._new)
        sample = await self._versions.sample(live, SAMPLE_DOCUMENTS)
        differing = tuple(sample)
        for attempt in range(CHECK_ATTEMPTS):
            self._progress("comparing", attempt, CHECK_ATTEMPTS)
            before = await self._ends()
            await self.catch_up(before)
            await asyncio.gather(old.refresh(), new.refresh())
            messages = [await index.count(_MESSAGES) for index in (old, new)]
            documents = [await index.count(_LIVE) for index in (old, new)]
            theirs, ours = await asyncio.gather(old.read(differing, COMPARED), new.read(differing, COMPARED))
            differing = tuple(
                document
                for document in differing
                if (document in theirs) != (document in ours)
                or (document in ours and not _same(theirs[document].source, ours[document].source))
            )
            after = await self._ends()
            moving = sum(after.values()) - sum(before.values())
            moving += await self._meter.behind(topics.INDEX_GROUP, after)
            check = Check(
                messages[0], messages[1], documents[0], documents[1], len(sample), differing, moving
            )
            if (check.passed and not differing) or not moving:
                return check
            await asyncio.sleep(CHECK_PAUSE_SECONDS)
        return check

    async def _take_place(self, live: Version | None) -> None:
        """The new version is searched and written from now on, and lacks nothing that the live one showed.

        Writes to the live one are held meanwhile: what its worker has written came from records that stand in
        the topic by then, and we read those before the aliases move. Its next batch goes to the new version.
        """
        for attempt in range(SWAP_ATTEMPTS):
            self._progress("taking its place", attempt, SWAP_ATTEMPTS)
            await self.catch_up(await self._ends())
            if live is None:
                await self._versions.put_in_place(self._new, None)
                return
            async with self._versions.held(live):
                deadline = time.monotonic() + HELD_SECONDS
                if await self.catch_up(await self._ends(), deadline=deadline):
                    await self._versions.index(self._new).refresh()
                    await self._versions.put_in_place(self._new, live)
                    return
            log.info("more was written meanwhile than %.0f s are enough for: trying again", HELD_SECONDS)
        raise BusyTopicError("mail.documents grows faster than the new index: try again when it is quieter")

    async def _ends(self) -> dict[TopicPartition, int]:
        return await self._meter.ends([topics.DOCUMENTS.name])


_LIVE = {"term": {"live": True}}
_MESSAGES = {"bool": {"filter": [_LIVE, {"term": {"kind": "message"}}]}}


async def _side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first error is raised as it is, the others are cancelled because of it."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _batches(records: Sequence[Record]) -> list[list[Record]]:
    batches: list[list[Record]] = []
    size_bytes = 0
    for record in records:
        if not batches or len(batches[-1]) >= BATCH_RECORDS or size_bytes >= BATCH_BYTES:
            batches.append([])
            size_bytes = 0
        batches[-1].append(record)
        size_bytes += len(record.value or b"")
    return batches


def _same(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    return all(ours.get(name) == value for name, value in theirs.items())


def _said(check: Check) -> str:
    counts = {name: value for name, value in asdict(check).items() if name != "differing"}
    listed = ", ".join(check.differing[:5])
    return (
        f"the new index differs from the live one ({counts}{'; documents ' + listed if listed else ''}):"
        " it stays aside; `mailstream reindex` compares again, --force takes it as it is, --cancel removes it"
    )
