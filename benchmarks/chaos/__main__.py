"""The whole system under a seeded schedule of faults; does an independent oracle find anything wrong?

python -m benchmarks.chaos --seed 7 --faults 30 --messages 300 --mailboxes 3
python -m benchmarks.chaos --seeds 1-20                          # one after the other
python -m benchmarks.chaos --seed 7 --plot docs/chaos.png        # the timeline

The same seed gives the same mail, the same faults in the same order and the same pauses between them; how far
the processes are when one strikes is up to the machine. Run by root, it fills a file system of its own, too.
"""

import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from benchmarks import command, pages
from benchmarks.chaos.faults import JUMP_SECONDS
from benchmarks.chaos.ground import proxied_stack
from benchmarks.chaos.report import Plan, Report, as_json
from benchmarks.chaos.run import run
from benchmarks.figures import Bar, Chart, Figure


def happened(report: Report) -> list[str]:
    """What happened to whom, as Markdown."""
    counts: Counter[tuple[str, str]] = Counter()
    for fault in report.faults:
        counts[fault.planned.kind, fault.planned.target] += fault.happened
    rows = [(*hit, count) for hit, count in sorted(counts.items()) if count]
    refused = ", ".join(f"{kind} {count}" for kind, count in sorted(report.struck.items()))
    ended = Counter(f"{name} ({code})" for _, name, code, _ in report.deaths)
    return [
        pages.table(("fault", "hit", "how often"), rows),
        f"Gmail's own faults: {refused or 'none'}.",
        f"Ended by themselves: {', '.join(f'{one} {n}x' for one, n in ended.items()) or 'nobody'}.",
    ]


def timeline(report: Report) -> Figure:
    """The faults by whom they hit, and how the index followed the mailboxes."""
    bars = [
        Bar(one.planned.target, one.planned.kind, one.began_seconds, one.ended_seconds)
        for one in report.faults
        if one.happened
    ]
    bars += [Bar(name, "ended by itself", at, at) for at, name, _, _ in report.deaths]
    plan, samples = report.plan, report.samples
    shown = [(sample.seconds, float(sample.shown)) for sample in samples if sample.shown is not None]
    messages = Chart(
        "messages",
        {
            "in the mailboxes": [(sample.seconds, float(sample.messages)) for sample in samples],
            "shown by the index": shown,
        },
    )
    verdict = "clean" if report.clean else "NOT CLEAN"
    title = (
        f"seed {plan.seed}: {report.happened} faults, {report.messages} messages, {plan.mailboxes} mailboxes"
    )
    return Figure(f"{title}: {verdict}", sorted(bars, key=lambda bar: bar.lane), [messages])


def main() -> None:
    """Run, print, draw. Exit code 1: something does not agree, or the run is void."""
    parser = command.parser(__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", metavar="FIRST-LAST", help="several, one after the other")
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--mailboxes", type=int, default=3)
    parser.add_argument("--encoder", default="hash", help="minilm: the real one")
    parser.add_argument("--plot", type=Path, help="where the timeline goes (PNG)")
    parser.add_argument("--keep", type=Path, help="a directory for logs that stay")
    options = parser.parse_args()
    first, _, last = (options.seeds or str(options.seed)).partition("-")
    failed = False
    for seed in range(int(first), int(last or first) + 1):
        plan = Plan(seed, options.faults, options.messages, options.mailboxes, encoder=options.encoder)
        sys.stdout.write(f"seed {seed}: clocks jump by {JUMP_SECONDS:.0f} s; replay with --seed {seed}\n")
        with tempfile.TemporaryDirectory(prefix="mailstream-chaos-") as temporary:
            directory = options.keep / str(seed) if options.keep else Path(temporary)
            directory.mkdir(parents=True, exist_ok=True)
            with proxied_stack() as (stack, proxy):
                report = run(plan, directory, stack, proxy, partial(print, flush=True))
        if options.plot:
            timeline(report).save(options.plot)
        sys.stdout.write("\n".join([*happened(report), *_verdict(report), ""]))
        command.print_json(as_json(report))
        failed = failed or not report.clean
    sys.exit(failed)


def _verdict(report: Report) -> list[str]:
    lines = [f"VOID: {line}" for line in report.void] + [
        f"VIOLATED: {line}" for line in report.violations[:60]
    ]
    lines += report.late
    lines += [f"died: {at:.1f} s {name} ({code}): {said:.300}" for at, name, code, said in report.deaths]
    return [*lines, *(["clean"] if report.clean else [])]


if __name__ == "__main__":
    main()
