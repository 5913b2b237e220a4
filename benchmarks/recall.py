"""Recall of the attachment engine against Tika's text, file by file.

    python -m benchmarks recall --corpus DIR [--json]

Tika (with OCR) and kreuzberg, as a second opinion, read every file once; their texts are kept in the user's
cache by the file's hash. Then the engine reads the corpus as the workers do, and all documents of one file
count for it, the names of embedded ones included, as Tika writes them into its text. Tokens are lower-cased
runs of word characters. ``recall`` is over the *set* of a file's tokens, ``multiset`` counts each as often as
it stands there, ``agreed`` is over the set that Tika and kreuzberg both found. Averages are over the files in
which Tika found text.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from benchmarks import tika
from cli.processes import engine
from cli.settings import settings
from devstack.maven import cache_directory
from streams.ephemeral import EphemeralAttachmentHandler

_TOKEN = re.compile(r"\w+")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One file: recalls are None where there is nothing to recall."""

    file: str
    tokens: int
    recall: float | None
    multiset: float | None
    agreed: float | None
    seconds: float
    outcomes: str
    missing: tuple[str, ...]


class Recorded:
    """Texts that an engine found, by the sha256 of the file; kept as JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.texts: dict[str, str] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self.texts[entry["sha256"]] = entry["text"]

    def record(self, files: dict[Path, str], read: Callable[[Path], str]) -> None:
        """Read the files whose text is not there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as output:
            for file, digest in files.items():
                if digest not in self.texts:
                    self.texts[digest] = text = read(file)
                    output.write(json.dumps({"sha256": digest, "file": file.name, "text": text}) + "\n")
                    output.flush()


def tokens(text: str) -> Counter[str]:
    """Lower-cased runs of word characters, counted."""
    return Counter(_TOKEN.findall(text.lower()))


def recall(wanted: Counter[str], found: Counter[str]) -> float | None:
    """The part of the wanted that was found, each as often as it stands in the counters."""
    return (wanted & found).total() / wanted.total() if wanted else None


def once(counted: Counter[str]) -> Counter[str]:
    """The set, as a counter."""
    return Counter(counted.keys())


def read_with_kreuzberg(file: Path) -> str:
    """What kreuzberg reads without OCR; empty where it reads nothing."""
    from kreuzberg import ExtractionConfig, extract_bytes_sync

    content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    try:
        config = ExtractionConfig(use_cache=False)
        return str(extract_bytes_sync(file.read_bytes(), content_type, config=config).content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - its panics are no Exception
        return ""


def record(files: dict[Path, str], tika_text: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Tika's and kreuzberg's texts by sha256, read where they are not recorded."""
    reference = Recorded(tika_text)
    if any(digest not in reference.texts for digest in files.values()):
        with tika.server() as running:
            reference.record(
                files, lambda file: tika.read_text(running.address, file.read_bytes(), file.name)
            )
    second = Recorded(tika_text.with_name(f"kreuzberg-for-{tika_text.name}"))
    second.record(files, read_with_kreuzberg)
    return reference.texts, second.texts


async def run_engine(files: list[Path], ocr: bool) -> tuple[dict[Path, Any], dict[Path, float], float]:
    """Results and seconds by file, and the seconds of all together."""
    config = settings()
    results: dict[Path, Any] = {}
    seconds: dict[Path, float] = {}
    waiting = iter(files)

    async def work(handler: EphemeralAttachmentHandler) -> None:
        for file in waiting:
            started = time.monotonic()
            results[file] = await handler.process_attachment(
                file.read_bytes(), None, filename=file.name, ocr=ocr
            )
            seconds[file] = time.monotonic() - started

    async with engine(config) as handler:
        started = time.monotonic()
        await asyncio.gather(*(work(handler) for _ in range(config.parser_processes)))
        return results, seconds, time.monotonic() - started


def compare(name: str, result: Any, seconds: float, reference: str, second: str) -> Row:
    """One file's row."""
    documents = list(result.walk())
    # Tika writes the names of embedded files into its text.
    names = [document.metadata.filename or "" for document in documents[1:]]
    found = tokens("\n".join([*names, *(document.text for document in documents)]))
    wanted, other = tokens(reference), tokens(second)
    missing = sorted(wanted.keys() - found.keys(), key=lambda token: -wanted[token])
    outcomes = Counter(document.outcome.value for document in documents)
    return Row(
        file=name,
        tokens=len(wanted),
        recall=recall(once(wanted), once(found)),
        multiset=recall(wanted, found),
        agreed=recall(once(wanted) & once(other), once(found)),
        seconds=round(seconds, 3),
        outcomes=", ".join(f"{outcome} {count}" for outcome, count in outcomes.items()),
        missing=tuple(missing[:_SHOWN]),
    )


def average(values: list[float | None]) -> float | None:
    """Over those that are there."""
    there = [value for value in values if value is not None]
    return round(fmean(there), 4) if there else None


@click.command()
@click.option("--corpus", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--tika-text", type=click.Path(path_type=Path), help="Where Tika's texts are kept.")
@click.option("--match", default="*", show_default=True, help="Only files with such names (a glob).")
@click.option("--ocr/--no-ocr", default=True, show_default=True, help="Whether the engine may read scans.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(corpus: Path, tika_text: Path | None, match: str, ocr: bool, as_json: bool) -> None:
    """Recall of Tika's tokens, per file and averaged.

    Example: python -m benchmarks recall --corpus documents/
    """
    hashes = {
        file: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(corpus.rglob(match))
        if file.is_file()
    }
    texts, second = record(hashes, tika_text or cache_directory() / f"tika-{tika.VERSION}-text.jsonl")
    results, seconds, elapsed = asyncio.run(run_engine(list(hashes), ocr))
    rows = [
        compare(str(file.relative_to(corpus)), results[file], seconds[file], texts[digest], second[digest])
        for file, digest in hashes.items()
    ]
    summary = {
        "files": len(rows),
        "files_with_text": sum(row.tokens > 0 for row in rows),
        **{name: average([getattr(row, name) for row in rows]) for name in ("recall", "multiset", "agreed")},
        "seconds": round(elapsed, 1),
        "files_per_second": round(len(rows) / elapsed, 2),
        "ocr": ocr,
    }
    if as_json:
        print(json.dumps({**summary, "rows": [asdict(row) for row in rows]}, ensure_ascii=False))
        return
    print(f"{'recall':>6} {'multi':>6} {'agreed':>6} {'tokens':>7} {'s':>7}  file: outcomes; missing")
    for row in sorted(rows, key=lambda row: (row.recall is None, row.recall)):
        numbers = (
            f"{value:6.3f}" if value is not None else "     -"
            for value in (row.recall, row.multiset, row.agreed)
        )
        lost = f"; missing {' '.join(row.missing)}" if row.missing else ""
        print(*numbers, f"{row.tokens:7} {row.seconds:7.2f}  {row.file}: {row.outcomes}{lost}")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
