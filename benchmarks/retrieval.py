"""How well searches rank: ``python -m benchmarks.retrieval --corpus DIR [--baselines] [--json]``.

DIR holds docs.jsonl (id, title, text), queries.jsonl (id, text) and qrels.tsv (query id, document id, grade).
Every document becomes a message that goes through the project's own index worker (chunking, mapping,
embedding) into a real Elasticsearch and is searched as a person would; the queries are text, not the query
language. Queries without a judgement are left out. Nothing here depends on the corpus.
"""

import asyncio
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.baselines import plain_server
from connectors.elasticsearch import Index
from connectors.encoder import Encoder, open_encoder
from devstack.stack import start_stack
from schemas.outcomes import Outcome
from schemas.registers import AnyRegister, ContentRegister, LabelsRegister, MessageContent, content_version
from search.access import Access
from search.query import Query
from search.results import Mode
from search.retrieval import Retrieval
from streams.index import Indexer
from tests.standins import NoLetters, records_of

MAILBOX_ID = "bench"
BATCH = 64
DEPTH = 100  # results asked for; the measures below look at no more
MEASURES = ("ndcg@10", "map", "recall@100")

Runs = Mapping[str, Mapping[str, Sequence[str]]]  # by run, by query: document ids, the best first
Judgements = Mapping[str, Mapping[str, int]]  # by query, by document: the grade


@dataclass(frozen=True, slots=True)
class Corpus:
    """A judged test collection."""

    documents: Sequence[Mapping[str, str]]
    queries: Mapping[str, str]
    judgements: Judgements

    @classmethod
    def read(cls, directory: Path) -> "Corpus":
        """The three files of a directory. Raises OSError, ValueError or KeyError where they are none."""
        judgements: dict[str, dict[str, int]] = defaultdict(dict)
        for line in (directory / "qrels.tsv").read_text().splitlines():
            query, document, grade = line.split("\t")
            if grade.lstrip("-").isdecimal():  # some files begin with a line of names
                judgements[query][document] = int(grade)
        judged = {
            query for query, grades in judgements.items() if any(grade > 0 for grade in grades.values())
        }
        queries = {str(query["id"]): query["text"] for query in _lines(directory / "queries.jsonl")}
        return cls(
            [
                {"id": str(entry["id"]), "title": entry.get("title") or "", "text": entry.get("text") or ""}
                for entry in _lines(directory / "docs.jsonl")
            ],
            {query: text for query, text in queries.items() if query in judged},
            judgements,
        )


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def measured(runs: Mapping[str, Sequence[str]], judgements: Judgements) -> dict[str, float]:
    """The mean of each measure over the queries."""
    rows = [_measures(ranking, judgements[query]) for query, ranking in runs.items()]
    return {
        name: round(statistics.fmean(column), 4)
        for name, column in zip(MEASURES, zip(*rows, strict=True), strict=True)
    }


def _measures(ranking: Sequence[str], grades: Mapping[str, int]) -> tuple[float, float, float]:
    relevant = {document for document, grade in grades.items() if grade > 0}
    gain = _gain(grades.get(document, 0) for document in ranking[:10])
    ideal = _gain(sorted((grades[document] for document in relevant), reverse=True)[:10])
    hits, precision = 0, 0.0
    for place, document in enumerate(ranking, start=1):
        if document in relevant:
            hits += 1
            precision += hits / place
    found = len(relevant.intersection(ranking[:100]))
    return gain / ideal, precision / len(relevant), found / len(relevant)


def _gain(grades: Iterable[int]) -> float:
    return sum(max(grade, 0) / math.log2(place + 1) for place, grade in enumerate(grades, start=1))


async def fill(index: Index, encoder: Encoder, documents: Sequence[Mapping[str, str]]) -> None:
    """Index the documents as messages, through the index worker."""
    indexer = Indexer(index, encoder, NoLetters(), max_chunks=2_000)  # type: ignore[arg-type]
    for start in range(0, len(documents), BATCH):
        batch = documents[start : start + BATCH]
        await indexer.handle(records_of(each for document in batch for each in _registers(document)))
        command.progress(f"indexed {min(start + BATCH, len(documents))} of {len(documents)}")
    await index.refresh()


def _registers(document: Mapping[str, str]) -> list[AnyRegister]:
    owner = {"mailbox_id": MAILBOX_ID, "message_id": document["id"]}
    content = MessageContent(subject=document["title"], text=document["text"])
    version = content_version(1, Outcome.TEXT, document["id"])
    return [
        LabelsRegister(**owner, epoch=1, history_id=1, label_ids=()),
        ContentRegister(**owner, version=version, message=content),
    ]


async def searched(index: Index, encoder: Encoder, queries: Mapping[str, str]) -> Runs:
    """What each mode finds, to DEPTH."""
    retrieval = Retrieval(index, encoder)
    runs: dict[str, dict[str, list[str]]] = {mode.value: {} for mode in Mode}
    for mode in Mode:
        for query, text in queries.items():
            results = await retrieval.search(
                Query.plain(text), Access.only([MAILBOX_ID]), mode=mode, limit=DEPTH
            )
            runs[mode.value][query] = [hit.message_id for hit in results.hits]
        command.progress(f"searched {mode.value}")
    return runs


async def measure(url: str, corpus: Corpus, *, baselines: bool) -> dict[str, dict[str, float]]:
    """Every mode's measures; with ``baselines`` also the plain server's."""
    encoder = open_encoder("minilm")
    async with Index.open(url) as index:
        await index.ensure()
        await fill(index, encoder, corpus.documents)
        runs = dict(await searched(index, encoder, corpus.queries))
        if baselines:
            runs |= await plain_server(url, encoder, corpus.documents, corpus.queries, DEPTH)
    return {name: measured(run, corpus.judgements) for name, run in runs.items()}


def main() -> None:
    """Measure and print."""
    parser = command.parser(__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="directory of the three files")
    parser.add_argument("--baselines", action="store_true", help="also what a plain server finds")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    try:
        corpus = Corpus.read(options.corpus)
    except (OSError, ValueError, KeyError) as error:
        parser.error(f"{options.corpus} is no corpus: {error}")
    with start_stack() as stack:
        results = asyncio.run(measure(stack.elasticsearch_url, corpus, baselines=options.baselines))
    print(f"\n{len(corpus.documents)} documents, {len(corpus.queries)} judged queries")
    print(f"{'':16}" + "".join(f"{name:>12}" for name in MEASURES))
    for name, row in results.items():
        print(f"{name:16}" + "".join(f"{row[measure]:12.4f}" for measure in MEASURES))
    if options.json:
        command.print_json(results)


if __name__ == "__main__":
    main()
