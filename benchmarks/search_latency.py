"""How long a search takes: ``python -m benchmarks.search_latency [--documents 1000 10000 100000] [--json]``.

Fills a real Elasticsearch with messages of random words and given (random) vectors, then asks the same
questions in turn: a bare kNN request (the one that the hybrid search makes: for this caller, with as many
candidates), the smallest one (ten of anybody's), and whole searches (filters, lists, fusion, places,
snippets) in each mode. The vectors of the questions are given too: what the model takes is not the index's.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from elasticsearch import AsyncElasticsearch

from benchmarks import command
from benchmarks.pages import Picture, machine, table, write_page
from connectors.elasticsearch import Index, Write
from devstack.stack import start_stack
from schemas.identity import document_id, message_key
from schemas.mapping import VECTOR_DIMENSIONS
from schemas.words import stemmed
from search.access import Access
from search.query import Query
from search.results import Mode
from search.retrieval import CANDIDATES, KNN_CANDIDATES, Retrieval

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "search_latency"
BATCH = 500
MAILBOXES = 10
WORDS = 30_000
WORDS_EACH = 60
QUESTIONS, WARM_QUESTIONS = 100, 100  # the virtual machine compiles what is asked again and again
SETTLE_SECONDS = 300.0


class GivenVectors:
    """An encoder without a model: around one of a few topics, as texts are."""

    name = "given"

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._topics = self._random.standard_normal((200, VECTOR_DIMENSIONS))

    def encode(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """See ``Encoder``."""
        topics = self._topics[self._random.integers(len(self._topics), size=len(texts))]
        vectors = topics + self._random.standard_normal(topics.shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)


def _writes(count: int, encoder: GivenVectors, chance: random.Random) -> Iterator[list[Write]]:
    vocabulary = [f"w{number:x}q" for number in range(WORDS)]
    weights = [1 / (rank + 10) for rank in range(WORDS)]  # a few words everywhere, most of them rare
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        vectors = encoder.encode([""] * len(numbers))
        writes = []
        for number, vector in zip(numbers, vectors, strict=True):
            text = " ".join(chance.choices(vocabulary, weights, k=WORDS_EACH))
            subject = " ".join(text.split()[:6])
            mailbox_id, message_id = f"m{number % MAILBOXES}", str(number)
            fields = mail_fields(mailbox_id, message_id, number, worded(subject, text)) | {
                "rfc_message_id": f"<{number}@example.com>",
                "chunks": [{"ordinal": 0, "text": text, "vector": vector}],
            }
            writes.append(Write(document_id(mailbox_id, message_id), fields))
        yield writes


def worded(subject: str, text: str) -> dict[str, Any]:
    """The fields of a message that hold words."""
    return {
        "subject": subject,
        "text": text,
        "subject_stems": stemmed(subject),
        "text_stems": stemmed(text),
    }


def mail_fields(mailbox_id: str, message_id: str, number: int, words: Mapping[str, Any]) -> dict[str, Any]:
    """A message's document as the index worker writes it, without its chunk."""
    return {
        "kind": "message",
        "mailbox_id": mailbox_id,
        "message_id": message_id,
        "message_key": message_key(mailbox_id, message_id),
        "part_path": "",
        "live": True,
        "sender": f"person{number % 997}@example.com",
        "sent_at": 1_700_000_000_000 + number * 60_000,
        "label_ids": ["INBOX"],
        "chunk_count": 1,
        **words,
    }


async def measure(url: str, documents: int) -> dict[str, float]:
    """Median milliseconds of each kind of request, and how they compare."""
    chance = random.Random(7)
    encoder = GivenVectors(7)
    async with Index.open(url) as index:
        await index.ensure()
        started = time.monotonic()
        done = 0
        for writes in _writes(documents, encoder, chance):
            failed = [result for result in await index.write(writes) if result is not None]
            if failed:
                raise failed[0]
            done += len(writes)
            command.progress(f"indexed {done} of {documents}")
        await index.refresh()
        filled = time.monotonic() - started
        await settled(url)
        times = await _timed(index, encoder, chance)
    bare, smallest, hybrid = times["bare"], times["smallest"], times["hybrid"]
    return {
        "documents": documents,
        "fill_seconds": round(filled, 1),
        "bare_knn_ms": round(statistics.median(bare) * 1000, 1),
        "smallest_knn_ms": round(statistics.median(smallest) * 1000, 1),
        **{f"{mode}_ms": round(statistics.median(times[mode]) * 1000, 1) for mode in Mode},
        "hybrid_p95_ms": round(statistics.quantiles(hybrid, n=20)[-1] * 1000, 1),
        "ratio": round(statistics.median(hybrid) / statistics.median(bare), 2),
        "ratio_to_smallest": round(statistics.median(hybrid) / statistics.median(smallest), 2),
    }


async def settled(url: str) -> None:
    """Wait until the server merges no more segments: it would be measured, too."""
    async with AsyncElasticsearch(url) as client:
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            merges = (await client.indices.stats(metric="merge"))["_all"]["total"]["merges"]
            if not merges["current"]:
                return
            await asyncio.sleep(1)
    raise TimeoutError(f"the server still merges after {SETTLE_SECONDS:.0f} s")


async def _timed(index: Index, encoder: GivenVectors, chance: random.Random) -> dict[str, list[float]]:
    retrieval, access = Retrieval(index, encoder), Access.only([f"m{n}" for n in range(5)])
    spent: dict[str, list[float]] = {name: [] for name in ("smallest", "bare", *Mode)}
    for number in range(WARM_QUESTIONS + QUESTIONS):
        text = " ".join(f"w{chance.randrange(20, 3_000):x}q" for _ in range(3))
        [vector] = encoder.encode([text])
        asked = {"field": "chunks.vector", "query_vector": vector.tolist(), "num_candidates": KNN_CANDIDATES}
        allowed = {"bool": {"filter": access.clauses()}}
        times = [time.perf_counter()]
        await index.search({"knn": {**asked, "k": 10}, "size": 10, "source_includes": ["subject"]})
        times.append(time.perf_counter())
        await index.search(
            {
                "knn": {**asked, "k": CANDIDATES, "filter": allowed},
                "size": CANDIDATES,
                "source_includes": ["subject"],
            }
        )
        times.append(time.perf_counter())
        for mode in Mode:
            results = await retrieval.search(Query.plain(text), access, mode=mode)
            times.append(time.perf_counter())
            assert results.hits
        if number >= WARM_QUESTIONS:
            for name, (start, end) in zip(spent, pairwise(times), strict=True):
                spent[name].append(end - start)
    return spent


def _write(found: list[dict[str, float]], before: str) -> None:
    picture = Picture(1)
    names = {"smallest_knn_ms": "ten nearest of anybody's", "bare_knn_ms": "bare kNN, filtered"}
    names |= {f"{mode}_ms": f"a whole {mode} search" for mode in Mode}
    lines = {said: [(row["documents"], row[name]) for row in found] for name, said in names.items()}
    picture.lines(0, "a search over documents", lines, ("documents", "ms, median"), logarithmic=True)
    picture.save(NAME)
    listed = " ".join(str(row["documents"]) for row in found)
    columns = [*names, "hybrid_p95_ms"]
    parts = [
        f"`python -m benchmarks.search_latency --documents {listed}`, {before}. Milliseconds, median of"
        f" {QUESTIONS} questions; the model's time is left out.",
        table(
            ("documents", *names.values(), "hybrid, p95", "hybrid against bare kNN (≤ 3)"),
            [
                (f"{row['documents']:,}", *(row[column] for column in columns), f"{row['ratio']} ×")
                for row in found
            ],
        ),
    ]
    write_page(NAME, "Search", parts)


def main() -> None:
    """Measure and print."""
    parser = command.parser(__doc__, NAME)
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000])
    options = parser.parse_args()
    before, found = machine(), []
    for documents in options.documents:
        with start_stack() as stack:
            found.append(asyncio.run(measure(stack.elasticsearch_url, documents)))
        for name, value in found[-1].items():
            print(f"{name:20}{value:>12,}", flush=True)
    if options.write:
        _write(found, before)
    if options.json:
        command.print_json(found[-1])


if __name__ == "__main__":
    main()
