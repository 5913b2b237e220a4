"""How far the stages behind the source have come, and what of a mailbox stands in the index."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from connectors.broker import Broker
from connectors.elasticsearch import Index, Server
from connectors.errors import ConfigurationError, UnavailableError
from connectors.kafka import read_partition
from connectors.lag import LagMeter
from schemas import topics
from schemas.events import ChangeKind, MessageChange

log = logging.getLogger(__name__)

# How often the stages are asked whether they have come so far: a tenth of the wait until then.
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 1.0, 10.0
_SAY_SECONDS = 60.0


class Downstream(Protocol):
    """What a comparison needs to know of the other end."""

    async def consumed(self, partition: int) -> None:
        """Wait until what has been emitted until now for the mailboxes of a partition is in the index."""

    async def messages(self, mailbox_id: str) -> dict[str, frozenset[str]]:
        """The messages that the index shows, with their labels."""

    async def announced(self, mailbox_id: str, partition: int, listed_at: int | None = None) -> set[str]:
        """The messages that are there by what stands in the topics of changes, indexed or not.

        With ``listed_at``: only those that the listing which began at that historyId has emitted.
        """


class IndexDownstream:
    """Asks the consumer groups and Elasticsearch."""

    def __init__(self, kafka: Broker | str, meter: LagMeter, index: Index) -> None:
        self._kafka = kafka
        self._meter = meter
        self._index = index

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: Broker | str, elasticsearch: Server | str) -> AsyncIterator[IndexDownstream]:
        """Connections of its own."""
        async with LagMeter.open(kafka) as meter, Index.open(elasticsearch) as index:
            yield cls(kafka, meter, index)

    async def consumed(self, partition: int) -> None:
        """Wait for extract, then for what extract has written until then. Raises UnavailableError."""
        changes = (topics.CHANGES.name, topics.BACKFILL.name)
        await self._passed(topics.EXTRACT_GROUP, changes, [partition])
        await self._passed(topics.INDEX_GROUP, (topics.DOCUMENTS.name,), None)
        try:
            await self._index.refresh()
        except ConfigurationError as error:
            raise UnavailableError(str(error)) from error

    async def _passed(self, group: str, names: Iterable[str], partitions: list[int] | None) -> None:
        wanted = {
            tp: end
            for tp, end in (await self._meter.ends(tuple(names))).items()
            if partitions is None or tp.partition in partitions
        }
        waited_seconds, said_seconds = 0.0, 0.0
        while True:
            behind = await self._meter.behind(group, wanted)
            if not behind:
                return
            if waited_seconds - said_seconds >= _SAY_SECONDS:
                log.info("waiting for %s: %d events behind", group, behind)
                said_seconds = waited_seconds
            poll_seconds = min(max(_POLL_SECONDS, waited_seconds / 10), _LONGEST_POLL_SECONDS)
            await asyncio.sleep(poll_seconds)
            waited_seconds += poll_seconds

    async def messages(self, mailbox_id: str) -> dict[str, frozenset[str]]:
        """The live messages of a mailbox. Raises UnavailableError."""
        query = {
            "bool": {
                "filter": [
                    {"term": {"mailbox_id": mailbox_id}},
                    {"term": {"kind": "message"}},
                    {"term": {"live": True}},
                ]
            }
        }
        try:
            return {
                document["message_id"]: frozenset(document.get("label_ids", ()))
                async for document in self._index.scan(query, ["message_id", "label_ids"])
            }
        except ConfigurationError as error:  # it is the index worker that makes the index
            raise UnavailableError(str(error)) from error

    async def announced(self, mailbox_id: str, partition: int, listed_at: int | None = None) -> set[str]:
        """Reads what the two topics hold of the partition. Raises UnavailableError."""
        seen: dict[str, tuple[int, int]] = {}
        deleted: dict[str, tuple[int, int]] = {}
        for topic in (topics.CHANGES.name, topics.BACKFILL.name):
            async for record in read_partition(self._kafka, topic, partition):
                if record.key != mailbox_id:
                    continue
                try:
                    change = MessageChange.decode(record.value or b"", record.headers)
                except ValueError:
                    continue  # extract has written a dead letter of it
                at = (change.epoch, change.history_id)
                if change.kind is ChangeKind.DELETE:
                    deleted[change.message_id] = max(deleted.get(change.message_id, at), at)
                elif listed_at is None or _is_of_listing(change, listed_at):
                    seen[change.message_id] = max(seen.get(change.message_id, at), at)
        return {message_id for message_id, at in seen.items() if at > deleted.get(message_id, (-1, -1))}


def _is_of_listing(change: MessageChange, listed_at: int) -> bool:
    is_listed = change.origin == "listing" and change.kind is ChangeKind.UPSERT
    return is_listed and change.history_id == listed_at
