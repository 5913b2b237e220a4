"""A storm of label changes over documents of different sizes: what do labels cost beside the text?

python -m benchmarks.labels [--changes 10000] [--chunks 0 1 100]

A document without chunks stands for the alternative, labels in small documents of their own.
"""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks import command, pages
from connectors.elasticsearch import Index
from connectors.kafka import Record
from devstack.stack import start_stack
from schemas import mapping
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    ContentRegister,
    LabelRegister,
    LabelsRegister,
    MessageContent,
    content_version,
)
from streams.index import Indexer
from tests.standins import NoLetters, records_of

BATCH_RECORDS, BATCHES_IN_FLIGHT = 200, 4
WORDS_PER_CHUNK = 125  # the chunker's window less its overlap
VECTORS_AT_MOST = 5_000


class GivenVectors:
    """Vectors that cost nothing: the index is measured, not the model."""

    name = "given"

    def __init__(self) -> None:
        vectors: NDArray[np.float32] = (
            np.random.default_rng(1).normal(size=(4096, mapping.VECTOR_DIMENSIONS)).astype(np.float32)
        )
        self._vectors: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._next = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._next += len(texts)
        chosen: NDArray[np.float32] = self._vectors[(np.arange(len(texts)) + self._next) % len(self._vectors)]
        return chosen


def _owner(message: int) -> dict[str, str]:
    return {"mailbox_id": "box", "message_id": f"m{message}"}


def _content(message: int, chunks: int) -> ContentRegister:
    text = " ".join(f"word{number % 997}" for number in range(WORDS_PER_CHUNK * chunks))
    return ContentRegister(
        **_owner(message),
        version=content_version(1, Outcome.TEXT, str(message)),
        message=MessageContent(text=text),
    )


def _change(number: int, messages: int) -> LabelRegister:
    return LabelRegister(
        **_owner(number % messages),
        epoch=1,
        history_id=10 + number,
        label_id="UNREAD",
        present=number // messages % 2 == 0,
    )


async def _storm(index: Index, indexer: Indexer, chunks: int, changes: int) -> dict[str, float]:
    messages = min(1_000, VECTORS_AT_MOST // max(chunks, 1))
    registers: list[AnyRegister] = []
    for message in range(messages):
        registers.append(LabelsRegister(**_owner(message), epoch=1, history_id=5, label_ids=("INBOX",)))
        registers.append(_content(message, chunks))
    started = time.perf_counter()
    for start in range(0, len(registers), 50):
        await indexer.handle(records_of(registers[start : start + 50]))
    await index.refresh()
    indexed_seconds = time.perf_counter() - started
    records = records_of(_change(number, messages) for number in range(changes))
    slots = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def handle(batch: list[Record]) -> None:
        async with slots:
            await indexer.handle(batch)

    started = time.perf_counter()
    # Side by side go batches of different messages, as the worker sees to it.
    per_turn = (
        BATCH_RECORDS * BATCHES_IN_FLIGHT if messages >= BATCH_RECORDS * BATCHES_IN_FLIGHT else messages
    )
    for turn in range(0, changes, per_turn):
        part = records[turn : turn + per_turn]
        batches = [part[start : start + BATCH_RECORDS] for start in range(0, len(part), BATCH_RECORDS)]
        await asyncio.gather(*map(handle, batches))
    await index.refresh()
    seconds = time.perf_counter() - started
    return {"messages": messages, "indexed_per_second": messages / indexed_seconds, "seconds": seconds}


async def _measure(url: str, chunk_counts: Sequence[int], changes: int) -> None:
    rows = []
    for chunks in chunk_counts:
        command.progress(f"{chunks} chunks a document")
        mapping.INDEX_PREFIX, mapping.WRITE_ALIAS = f"storm-{chunks}-v", f"storm-{chunks}-write"
        mapping.READ_ALIAS = f"storm-{chunks}-read"
        async with Index.open(url) as index:
            await index.ensure()
            indexer = Indexer(index, GivenVectors(), NoLetters(), mapping.MAX_CHUNKS)  # type: ignore[arg-type]
            result = await _storm(index, indexer, chunks, changes)
            await index._client.indices.delete(index=mapping.index_name())
        rows.append(
            (
                *(chunks, f"{result['messages']:,}", f"{result['indexed_per_second']:.0f}", f"{changes:,}"),
                *(f"{result['seconds']:.1f}", f"{changes / result['seconds']:.0f}"),
            )
        )
    head = (
        "chunks a document",
        "documents",
        "first indexing, documents/s",
        "changes",
        "seconds",
        "changes/s",
    )
    print(pages.table(head, rows))


def main() -> None:
    """Measure and print."""
    parser = command.parser(__doc__)
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, nargs="+", default=[0, 1, 100])
    arguments = parser.parse_args()
    with start_stack() as stack:
        asyncio.run(_measure(stack.elasticsearch_url, arguments.chunks, arguments.changes))


if __name__ == "__main__":
    main()
