"""How large a run is, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.chaos.faults import Happened

SETTLE_SECONDS = 240.0  # without anything coming on
TWICE = ("source", "extract", "slow", "index", "push", "reap", "serve", "source-2", "extract-2", "index-2")
ONCE = ("source", "extract", "slow", "index", "push", "reap")


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a run is. ``messages`` counts those that were there first and those that came."""

    seed: int = 1
    faults: int = 30
    messages: int = 300
    mailboxes: int = 3
    operations_per_second: float = 4.0
    processes: Sequence[str] = TWICE
    scanner: bool = True
    encoder: str = "hash"
    kinds: tuple[str, ...] | None = None  # of faults; None: all
    targets: tuple[str, ...] | None = None  # of processes and servers; None: all
    longest_seconds: float = 15.0  # that a pause or a cut lasts
    settle_seconds: float = SETTLE_SECONDS
    always: tuple[dict[str, Any], ...] = ()  # faults that Gmail has all along, see devstack.gmail.faults
    bug: str | None = None


@dataclass(slots=True)
class Sample:
    """How things stood: messages in the mailboxes, and shown by the index (None: it did not answer)."""

    seconds: float
    messages: int
    shown: int | None


@dataclass
class Report:
    """What happened, and what did not agree in the end. ``void`` says why the run proves nothing."""

    plan: Plan
    faults: list[Happened] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    struck: dict[str, int] = field(default_factory=dict)
    deaths: list[tuple[float, str, int, str]] = field(default_factory=list)  # nobody killed them
    samples: list[Sample] = field(default_factory=list)
    messages: int = 0  # that there ever were
    live: int = 0
    attachments: int = 0  # of those that are live
    poison: int = 0
    replayed: int = 0  # events that were under way at several of our kills
    violations: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # pictures that the machine was too busy to read in time
    seconds: float = 0.0
    stormed_seconds: float = 0.0

    @property
    def happened(self) -> int:
        """Faults that took place."""
        return sum(fault.happened for fault in self.faults)

    @property
    def void(self) -> list[str]:
        """Why it does not count."""
        found = []
        if self.happened < self.plan.faults:
            found.append(f"only {self.happened} of {self.plan.faults} faults happened")
        if self.messages < self.plan.messages:
            found.append(f"only {self.messages} of {self.plan.messages} messages")
        return found

    @property
    def clean(self) -> bool:
        """Whether it counts, and everything agreed."""
        return not self.void and not self.violations


def as_json(report: Report) -> dict[str, Any]:
    """The report's numbers."""
    return {
        "seed": report.plan.seed,
        "faults": report.happened,
        "messages": report.messages,
        "live": report.live,
        "attachments": report.attachments,
        "mailboxes": report.plan.mailboxes,
        "operations": sum(report.operations.values()),
        "gmail_faults": sum(report.struck.values()),
        "poison": report.poison,
        "deaths": len(report.deaths),
        "replayed": report.replayed,
        "storm_seconds": round(report.stormed_seconds, 1),
        "seconds": round(report.seconds, 1),
        "void": report.void,
        "late": len(report.late),
        "violations": len(report.violations),
    }
