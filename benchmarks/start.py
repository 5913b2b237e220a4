"""How long `mailstream --help` and a whole `mailstream search` take, beside importing sentence-transformers.

    python -m benchmarks start [--rounds 5] [--write]

The search asks a running Elasticsearch with a few hundred messages, by words and by meaning: its time is that
of the whole command, from starting Python to the printed hits. The commands take turns. Seconds are medians.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import command, pages
from benchmarks.retrieval import fill
from connectors.elasticsearch import Index
from connectors.encoder import open_encoder
from devstack.stack import start_stack

MESSAGES = 300
TOPICS = ("invoice", "penalty for late delivery", "quality report of the pump", "holiday", "contract")
MAILSTREAM = str(Path(sys.executable).with_name("mailstream"))
IMPORT = "import of sentence-transformers"
COMMANDS = {
    IMPORT: [sys.executable, "-c", "import sentence_transformers"],
    "mailstream --help": [MAILSTREAM, "--help"],
    "mailstream search": [MAILSTREAM, "search", "penalty for late delivery"],
    "mailstream search --mode keyword": [MAILSTREAM, "search", "penalty", "--mode", "keyword"],
}


async def _fill(url: str) -> None:
    documents = [
        {
            "id": str(number),
            "title": TOPICS[number % len(TOPICS)],
            "text": f"About {TOPICS[number % 3]} {number}.",
        }
        for number in range(MESSAGES)
    ]
    async with Index.open(url) as index:
        await index.ensure()
        await fill(index, open_encoder("minilm"), documents)


def measure(url: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds, and median processor seconds, by command."""
    environment = {**os.environ, "ELASTICSEARCH_URL": url}
    # As installed programs run: with their bytecode kept.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, asked in COMMANDS.items():
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(asked, env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            if number:  # the first time, files come from the disk and bytecode is written
                times[name].append((seconds, spent))
    return {
        name: (statistics.median(wall for wall, _ in taken), statistics.median(spent for _, spent in taken))
        for name, taken in times.items()
    }


def rows(times: Mapping[str, tuple[float, float]]) -> list[Sequence[object]]:
    """One line a command."""
    base = times[IMPORT]
    return [
        (f"`{name}`" if name != IMPORT else name, f"{wall:.2f}", f"{wall / base[0]:.3f}", f"{spent:.2f}")
        for name, (wall, spent) in times.items()
    ]


def main() -> None:
    """Measure, print, and write where that is asked for."""
    parser = command.parser(__doc__, "start")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    about = f"{options.rounds} rounds, {pages.machine()}."
    with start_stack() as stack:
        asyncio.run(_fill(stack.elasticsearch_url))
        times = measure(stack.elasticsearch_url, options.rounds)
    table = pages.table(("", "s", "of the import", "processor s"), rows(times))
    print(table)
    if options.write:
        picture = pages.Picture(1)
        seconds = {name: wall for name, (wall, _) in times.items()}
        picture.bars(0, "the dashed line is a tenth of the import", seconds, "s", seconds[IMPORT] / 10)
        picture.save("start")
        said = (
            "The whole command, from starting Python to the printed hits, on an Elasticsearch with"
            f" {MESSAGES} messages. The model is loaded by a process of its own while"
            " Elasticsearch's client is imported."
        )
        parts = [f"`python -m benchmarks start --write`: {about}", table, said]
        pages.write_page("start", "Start", parts)
    if options.json:
        command.print_json({name: wall for name, (wall, _) in times.items()})


if __name__ == "__main__":
    main()
