"""Deleted messages are forgotten: after a while their contents leave ``mail.documents``, too.

A tombstone remembers where the contents stand that it took out of the index, for a message that turns out to
be seen after its deletion. That is told by records which are still under way, so once nothing has been heard
of the message for as long as any topic before this one keeps its records, the contents may go: the keys are
nulled, and compaction removes what stood under them. What is left is the deletion.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from connectors.elasticsearch import Index, Stored, Write
from connectors.errors import MailstreamError
from connectors.kafka import Producer, Send
from connectors.metrics import index_forgotten_counter
from schemas import topics
from schemas.events import now_milliseconds
from schemas.identity import MESSAGE_PATH, message_key, partition_for
from schemas.registers import CONTENT_PREFIX
from streams.fields import MessageView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

log = logging.getLogger(__name__)

SWEEP_SECONDS = 15.0
MESSAGES_AT_ONCE = 200
FIELDS = ("mailbox_id", "message_id", *MessageView.FIELDS)


async def sweep_for_ever(index: Index, producer: Producer, is_ours: Callable[[], bool]) -> None:
    """Sweep now and then while ``is_ours``. Servers that are away are waited for."""
    while True:
        try:
            if is_ours() and (forgotten := await sweep(index, producer)):
                log.info("%d deleted messages are forgotten", forgotten)
        except MailstreamError as error:
            log.warning("deleted messages are not forgotten yet, trying again: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep(index: Index, producer: Producer) -> int:
    """Forget every message whose time has come; returns how many.

    Raises UnavailableError; safe to repeat, also beside another who does the same.
    """
    partitions = await producer.partitions(topics.DOCUMENTS.name)
    forgotten = 0
    while due := await _due(index):
        done = await _forget(await index.current(), producer, partitions, due)
        forgotten += done
        if not done:
            break  # others were first, or were heard of just now
        await index.refresh()
    return forgotten


async def _due(index: Index) -> list[str]:
    answer = await index.search(
        {
            "query": {"range": {"forget_at": {"lte": now_milliseconds()}}},
            "sort": [{"forget_at": "asc"}],
            "size": MESSAGES_AT_ONCE,
            "source": False,
        }
    )
    return [hit["_id"] for hit in answer["hits"]["hits"]]


async def _forget(index: Index, producer: Producer, partitions: int, documents: Sequence[str]) -> int:
    # First nobody relies on the contents any more, then they go, then they are marked as gone: whoever dies
    # in between leaves what the next sweep finds.
    found = await index.read(documents, FIELDS)
    due = {document: stored for document, stored in found.items() if _is_due(stored)}
    detached = await _write(index, due, {"registers": {"passed_over": []}})
    await producer.send(
        [send for document in detached for send in _nulls(due[document], partitions)],
    )
    again = await index.read(detached, FIELDS)
    still = {document: stored for document, stored in again.items() if _is_due(stored)}
    done = await _write(index, still, {"forget_at": None, "parts": []})
    index_forgotten_counter.inc(len(done))
    return len(done)


def _is_due(stored: Stored) -> bool:
    forget_at = stored.source.get("forget_at")
    return forget_at is not None and forget_at <= now_milliseconds() and not MessageView.read(stored).live


async def _write(index: Index, expected: dict[str, Stored], fields: dict[str, object]) -> list[str]:
    """Compare-and-set; returns which documents were written. The others have changed meanwhile."""
    writes = [Write(document, fields, stored, partial=True) for document, stored in expected.items()]
    results = await index.write(writes)
    return [write.document_id for write, result in zip(writes, results, strict=True) if result is None]


def _nulls(stored: Stored, partitions: int) -> Iterator[Send]:
    key = message_key(stored.source["mailbox_id"], stored.source["message_id"])
    for path in (MESSAGE_PATH, *MessageView.read(stored).parts):
        name = f"{key}/{CONTENT_PREFIX}{path}"
        yield Send(topics.DOCUMENTS.name, name, None, partition_for(key, partitions))
