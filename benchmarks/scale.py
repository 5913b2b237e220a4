"""What mailboxes cost a day, and the model behind it held against a run with many of them.

python -m benchmarks.scale                              # the table of docs/SCALE.md
python -m benchmarks.scale --simulate 1000 --seconds 120

The simulation runs the real source and extract over emulated mailboxes, lets mail arrive in them at random,
and compares the requests that reach Gmail with what the model says of so many mailboxes and seconds.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import command
from benchmarks.costs import processor_seconds
from cli.pipeline import Pipeline
from cli.status import Observer
from connectors.gmail.quota import COSTS, LIMITS
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from tests.pipelines import pipeline

DAY_SECONDS = 86_400.0
SIZES = (10, 100, 1_000, 10_000, 100_000)
PAGE_MESSAGES = 500
WARM_SECONDS = 20.0
# How far the counted requests of a method may be from the model's.
TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What one mailbox does, and how it is followed. The mail is a busy office worker's."""

    messages: int = 30_000
    labels: int = 20
    mails_a_day: float = 60.0
    attachments_fetched_a_mail: float = 0.4  # those that do not come with the message
    poll_seconds: float = 10.0
    audit_seconds: float = DAY_SECONDS


def requests(load: Load, seconds: float) -> dict[str, float]:
    """Requests of one mailbox that is listed already, by method, in so many seconds."""
    mails = load.mails_a_day * seconds / DAY_SECONDS
    audits = seconds / load.audit_seconds
    # A complete listing, and one of each label: most messages wear two or three.
    pages = 3.5 * load.messages / PAGE_MESSAGES + load.labels
    return {
        "history.list": seconds / load.poll_seconds,
        "messages.get": mails,
        "attachments.get": mails * load.attachments_fetched_a_mail,
        "messages.list": audits * pages,
        "labels.list": seconds / 600,
        "watch": seconds / DAY_SECONDS,
    }


def units(counts: Mapping[str, float], era: str = "new") -> float:
    """What these requests cost."""
    return sum(COSTS[era][method] * count for method, count in counts.items())


def poll_seconds_for(mailboxes: int, load: Load, part: float = 0.5) -> float:
    """The shortest interval of polling that leaves a day's units below ``part`` of the threshold."""
    without = units({**requests(load, DAY_SECONDS), "history.list": 0})
    left = LIMITS["new"].project_units_per_day * part / mailboxes - without
    return DAY_SECONDS * COSTS["new"]["history.list"] / left if left > 0 else float("inf")


def table(load: Load) -> list[str]:
    """The rows of docs/SCALE.md, as Markdown."""
    threshold = LIMITS["new"].project_units_per_day
    fetch = COSTS["new"]["messages.get"] + load.attachments_fetched_a_mail * COSTS["new"]["attachments.get"]
    rows = [
        "| mailboxes | units a day, polling every 10 s | every 600 s, with pushes | poll seconds for half the"
        " threshold | days to list and read all | mails a second, on average |",
        "|---|---|---|---|---|---|",
    ]
    for mailboxes in SIZES:
        by_polling = mailboxes * units(requests(load, DAY_SECONDS))
        by_push = mailboxes * units(requests(replace(load, poll_seconds=600), DAY_SECONDS))
        alone = load.messages * fetch / (LIMITS["new"].mailbox_units_per_minute * 1440 * 0.8)
        together = mailboxes * load.messages * fetch / threshold
        seconds = poll_seconds_for(mailboxes, load)
        rows.append(
            f"| {mailboxes:,} | {by_polling / 1e6:,.2f} M ({by_polling / threshold:.0%})"
            f" | {by_push / 1e6:,.2f} M ({by_push / threshold:.0%})"
            f" | {'none will do' if seconds == float('inf') else f'{max(seconds, 1):,.0f}'}"
            f" | {max(alone, together):,.1f} | {mailboxes * load.mails_a_day / DAY_SECONDS:,.2f} |"
        )
    return rows


def _mail(number: int) -> bytes:
    return f"Subject: mail {number}\nMessage-ID: <{number}@example.com>\n\nbody {number}\n".encode()


def simulate(mailboxes: int, seconds: float, mails: int) -> dict[str, object]:
    """Run source, extract and index over so many mailboxes of three mails; ``mails`` arrive meanwhile."""
    addresses = [f"box{number}@example.com" for number in range(mailboxes)]
    also = {"SOURCE_POLL_SECONDS": "10", "AUDIT_HOURS": "0", "DRAFT_QUIET_SECONDS": "0"}
    with (
        GmailEmulator(
            {address: [MailBytes(_mail(n)) for n in range(3)] for address in addresses}
        ) as emulator,
        tempfile.TemporaryDirectory() as directory,
        pipeline(None, Path(directory), gmail=emulator.describe(), also=also) as running,
    ):
        begun = time.monotonic()
        running.start("source", "extract", "index")
        asyncio.run(_settled(running))
        listed_seconds = time.monotonic() - begun
        counted, spent = _counted(running, emulator, addresses, seconds, mails)
        asyncio.run(_settled(running))
        caught_up_seconds = time.monotonic() - spent["ended"]
    load = Load(3, 0, mails / mailboxes * DAY_SECONDS / seconds, 0.0, 10.0, float("inf"))
    expected = {method: count * mailboxes for method, count in requests(load, seconds).items()}
    compared = {
        method: {"counted": counted[method], "expected": round(expected[method])}
        for method in ("history.list", "messages.get")
    }
    return {
        "mailboxes": mailboxes,
        "seconds": round(seconds),
        "listed_seconds": round(listed_seconds, 1),
        "caught_up_seconds": round(caught_up_seconds, 1),
        "requests": compared,
        "units": {"counted": round(units(counted)), "expected": round(units(expected))},
        "source_memory_mib": spent["memory_mib"],
        "source_processor_seconds": spent["processor_seconds"],
        "good": all(
            abs(pair["counted"] - pair["expected"]) <= TOLERANCE * pair["expected"]
            for pair in compared.values()
        ),
    }


async def _settled(running: Pipeline) -> None:
    async with Observer.open(running.settings) as observer:
        await running.wait_until_settled(observer, 900)


def _counted(
    running: Pipeline, emulator: GmailEmulator, addresses: list[str], seconds: float, mails: int
) -> tuple[Counter[str], dict[str, float]]:
    """The requests of so many seconds in which mail arrives evenly, in mailboxes picked by chance; it begins
    a while before, so that as much is read as arrives."""
    chance, source = random.Random(1), running.processes["source"].pid
    before, processor = Counter[str](), 0.0
    begun = time.monotonic() + WARM_SECONDS
    for number in range(-int(mails * WARM_SECONDS / seconds), mails):
        time.sleep(max(0.0, begun + number * seconds / mails - time.monotonic()))
        if number == 0:
            before, processor = Counter(emulator.stats()["requests"]), processor_seconds(source)
        emulator.mailboxes[chance.choice(addresses)].add(_mail(10**6 + number))
    time.sleep(max(0.0, begun + seconds - time.monotonic()))
    counted = Counter(emulator.stats()["requests"])
    counted.subtract(before)
    status = Path(f"/proc/{source}/status").read_text()
    [memory] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return counted, {
        "ended": time.monotonic(),
        "memory_mib": round(int(memory) / 1024),
        "processor_seconds": round(processor_seconds(source) - processor, 1),
    }


def main() -> None:
    """Print the table, or simulate; a simulation far from the model fails."""
    parser = command.parser(__doc__)
    parser.add_argument("--simulate", type=int, metavar="MAILBOXES")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--mails", type=int, default=600, help="that arrive during the simulation")
    options = parser.parse_args()
    if options.simulate is None:
        sys.stdout.write("\n".join(table(Load())) + "\n")
        return
    report = simulate(options.simulate, options.seconds, options.mails)
    command.print_json(report)
    sys.exit(not report["good"])


if __name__ == "__main__":
    main()
