"""How time and memory grow: with mail, with the size of attachments, with workers and partitions.

    python -m benchmarks.growth [--base 125] [--texts FILE] [--json]

1, 4 and 16 times ``--base`` real mails, each made distinct, go through the whole pipeline (ENCODER=hash: the
model's time is a constant a chunk); texts of 1 KB to 50 MB through the attachment engine; 4 times the base
through 1 to 3 workers of each kind over 1 to 6 partitions. An exponent is the slope of log(time) over
log(size), fitted by least squares.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.costs import Meter
from benchmarks.deployment import deployment
from benchmarks.pages import Picture, machine, table, write_page
from devstack.gmail.mailfiles import MailBytes, RawMail, read_mail
from devstack.stack import Stack, start_stack
from tests.pipelines import emptied

NAME = "growth"
MAILBOX = "grown@example.com"
FACTORS = (1, 4, 16)
SIZES_BYTES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)
ATTACHMENTS_BYTES = 100_000_000  # of each size, but no more than MOST_ATTACHMENTS and no fewer than two
MOST_ATTACHMENTS = 200
FLEETS = ((1, 1), (1, 6), (2, 6), (3, 6))  # workers of each kind, partitions
TIMEOUT_SECONDS = 900.0
# What must hold: of time; and of the memory of the largest run against that of the one before it.
MOST_EXPONENT, MOST_MEMORY = 1.05, 1.1


def exponent(points: list[tuple[float, float]]) -> float:
    """The slope of log(y) over log(x)."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def distinct(mails: list[bytes], count: int) -> list[RawMail]:
    """So many mails, each with a line of its own at its end."""
    repeated = itertools.islice(itertools.cycle(mails), count)
    return [MailBytes(mail + f"\nmail {number}\n".encode()) for number, mail in enumerate(repeated)]


def mail_run(
    stack: Stack, mails: list[bytes], count: int, workers: int = 1, partitions: int = 6
) -> dict[str, Any]:
    """Seconds until so many mails are searchable, and the most memory of each process meanwhile."""
    emptied(stack)
    also = {"TOPIC_PARTITIONS": str(partitions)}
    start = ["source", "push", "slow"]
    for kind in ("extract", "index"):
        start += [kind, *(f"{kind}-{number}" for number in range(2, workers + 1))]
    mail = {f"{number}{MAILBOX}": distinct(mails[number::4], count // 4) for number in range(4)}

    async def run() -> float:
        before = await ready.searchable(0, TIMEOUT_SECONDS)
        started = time.monotonic()
        await ready.add(*mail)
        await ready.searchable(before.messages + count // 4 * 4, TIMEOUT_SECONDS)
        return time.monotonic() - started

    with deployment(mail, stack, encoder="hash", start=start, also=also) as ready:
        with Meter(
            {k: pid for k, pid in ready.processes.items() if k not in ("Kafka", "Elasticsearch")}
        ) as meter:
            seconds = asyncio.run(run())
    memory = {name: round(mib) for name, mib in meter.costs.memory_mib.items()}
    found = {
        "messages": count,
        "size_bytes": sum(len(entry.read()) for box in mail.values() for entry in box),
        "workers": workers,
        "partitions": partitions,
        "seconds": round(seconds, 2),
        "memory_mib": memory,
    }
    print(found, flush=True)
    return found


def attachment_run(size_bytes: int, texts: list[bytes]) -> dict[str, Any]:
    """Seconds for one attachment of that size, in a process of its own."""
    count = min(max(ATTACHMENTS_BYTES // size_bytes, 2), MOST_ATTACHMENTS)
    with tempfile.NamedTemporaryFile() as file:
        whole = b"\n".join(texts)
        file.write((whole * (size_bytes // len(whole) + 1))[:size_bytes])
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.growth", "--attachment", file.name, "--count", str(count)],
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
    found: dict[str, Any] = {"size_bytes": size_bytes, **json.loads(done.stdout)}
    print(found, flush=True)
    return found


async def _read_attachment(path: Path, count: int) -> dict[str, Any]:
    import os
    import resource

    from cli.processes import engine
    from cli.settings import settings

    payload = path.read_bytes()
    async with engine(settings()) as handler:
        await handler.process_attachment(b"warm", "text/plain")
        with Meter({"engine": os.getpid()}) as meter:
            started = time.monotonic()
            for number in range(count):
                # Bytes that nobody has seen: nothing may remember them.
                await handler.process_attachment(payload + str(number).encode(), "text/plain")
            seconds = time.monotonic() - started
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parser = meter.costs.memory_mib.get("a parser of engine", 0.0)
    return {"seconds": seconds / count, "memory_mib": round(own), "parser_mib": round(parser)}


def is_good(found: dict[str, Any]) -> bool:
    """Whether what must hold does."""
    exponents: float = max(found["exponents"].values())
    memory: float = max(found["memory"].values())
    return exponents <= MOST_EXPONENT and memory <= MOST_MEMORY


def measure(base: int, mails: list[bytes]) -> dict[str, Any]:
    """All of it."""
    with start_stack() as stack:
        runs = [mail_run(stack, mails, base * factor) for factor in FACTORS]
        fleets = [mail_run(stack, mails, base * 4, *fleet) for fleet in FLEETS]
    attachments = [attachment_run(size, mails) for size in SIZES_BYTES]
    before, last = runs[-2]["memory_mib"], runs[-1]["memory_mib"]
    return {
        "mail": runs,
        "fleets": fleets,
        "attachments": attachments,
        "exponents": {
            "messages": round(exponent([(run["messages"], run["seconds"]) for run in runs]), 3),
            "bytes of mail": round(exponent([(run["size_bytes"], run["seconds"]) for run in runs]), 3),
            "bytes of an attachment": round(
                exponent([(run["size_bytes"], run["seconds"]) for run in attachments]), 3
            ),
        },
        "memory": {
            name: round(last[name] / before[name], 2) for name in ("source", "extract", "slow", "index")
        },
    }


def _draw(found: dict[str, Any]) -> None:
    runs, attachments, exponents = found["mail"], found["attachments"], found["exponents"]
    picture = Picture(3)
    picture.lines(
        0,
        f"time over messages: exponent {exponents['messages']}",
        {"seconds": [(run["messages"], run["seconds"]) for run in runs]},
        ("messages", "seconds"),
        logarithmic=True,
    )
    picture.lines(
        1,
        "memory over messages",
        {
            name: [(run["messages"], run["memory_mib"][name]) for run in runs]
            for name in ("source", "extract", "index")
        },
        ("messages", "MiB"),
    )
    picture.lines(
        2,
        f"time over bytes: exponent {exponents['bytes of an attachment']}",
        {"seconds": [(run["size_bytes"], run["seconds"]) for run in attachments]},
        ("bytes of an attachment", "seconds"),
        logarithmic=True,
    )
    picture.save(NAME)


def _write(found: dict[str, Any], base: int, before: str) -> None:
    _draw(found)
    runs, attachments = found["mail"], found["attachments"]
    names = ("source", "extract", "slow", "index")
    parts = [
        f"`python -m benchmarks.growth --base {base}`, {before}. The servers run on the same cores.",
        table(
            ("exponent of time in", "fitted", "asked for"),
            [(name, value, f"≤ {MOST_EXPONENT}") for name, value in found["exponents"].items()],
        ),
        table(
            ("messages", "MB", "seconds", "messages a second", *(f"{name}, MiB" for name in names)),
            [
                (
                    f"{run['messages']:,}",
                    f"{run['size_bytes'] / 1e6:.1f}",
                    run["seconds"],
                    round(run["messages"] / run["seconds"], 1),
                    *(run["memory_mib"][name] for name in names),
                )
                for run in runs
            ],
        ),
        f"Memory of the last run against the one before it (asked for: flat, here ≤ {MOST_MEMORY}): "
        + ", ".join(f"{name} {value}" for name, value in found["memory"].items())
        + ".",
        table(
            ("workers of each kind", "partitions", "messages", "seconds", "messages a second"),
            [
                (
                    *(run["workers"], run["partitions"], f"{run['messages']:,}", run["seconds"]),
                    round(run["messages"] / run["seconds"], 1),
                )
                for run in found["fleets"]
            ],
        ),
        table(
            ("bytes of an attachment", "seconds", "MB a second", "the worker, MiB", "its parser, MiB"),
            [
                (
                    *(f"{run['size_bytes']:,}", f"{run['seconds']:.4f}"),
                    f"{run['size_bytes'] / 1e6 / run['seconds']:.2f}",
                    *(run["memory_mib"], run["parser_mib"]),
                )
                for run in attachments
            ],
        ),
        "A worker never holds an attachment beyond 10 MB whole; here the benchmark does. Text is cut where"
        " the limit on characters is.",
    ]
    write_page(NAME, "Growth", parts)


def main() -> None:
    """Measure and print; fails where a figure is not good."""
    parser = command.parser(__doc__, NAME)
    parser.add_argument("--base", type=int, default=128, help="messages of the smallest run")
    parser.add_argument("--texts", type=Path, default=command.PLAIN, help="whose mail is used")
    parser.add_argument("--attachment", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attachment is not None:
        command.print_json(asyncio.run(_read_attachment(options.attachment, options.count)))
        return
    before = machine()
    mails = [mail.read() for mail in read_mail(options.texts)]
    found = measure(options.base, [mail for mail in mails if len(mail) < 20_000])
    found["good"] = is_good(found)
    if options.write:
        _write(found, options.base, before)
    print(found["exponents"], found["memory"])
    if options.json:
        command.print_json(found)
    sys.exit(not found["good"])


if __name__ == "__main__":
    main()
