"""What a dual run has shown: where the API's way and IMAP's differ, how late each was, and what each took.

Pure: the observations, the registers and the changes of one mailbox in, a ``Comparison`` out. Ids only.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.events import ChangeKind, MailboxRecord, MessageChange, Observation, day_of
from schemas.identity import label_id_of, message_key
from schemas.registers import AnyRegister, MessageState
from schemas.topics import DAY_MILLISECONDS

SAMPLE_IDS = 20
# What IMAP cannot show.
_API_ONLY = ("CATEGORY_", "CHAT")
# Differences by kind, in words.
KINDS = {
    "only_imap": "that only IMAP has",
    "only_api": "that only the API has",
    "labels": "have other labels",
    "contents": "have other contents",
}


@dataclass
class Day:
    """One day (UTC) of a dual run. Latencies are medians in seconds, None where nothing arrived."""

    observed: int = 0
    differences: int = 0
    imap_bytes: int = 0
    imap_requests: int = 0
    api_bytes: int = 0
    api_requests: int = 0
    api_events: int = 0
    imap_seconds: float | None = None
    api_seconds: float | None = None


@dataclass
class Comparison:
    """The result. Differences are message ids by kind; ``days`` is how long the dual run lasts."""

    mailbox_id: str
    epoch: int
    begun_at: int | None
    compared_at: int
    messages: int = 0
    unread: int = 0  # messages whose contents only one side has read: out of scope, or too large
    differences: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    by_day: dict[str, Day] = field(default_factory=dict)

    @property
    def days(self) -> float:
        """Days since the first observation."""
        return (self.compared_at - self.begun_at) / DAY_MILLISECONDS if self.begun_at is not None else 0.0

    def reasons(self, days: float) -> list[str]:
        """Why not to switch; nothing where there is no reason. ``days``: how long a dual run must last."""
        found = [f"{len(ids)} messages {KINDS[kind]}" for kind, ids in self.differences.items() if ids]
        if self.begun_at is None:
            found.append("IMAP has observed nothing: set the mailbox's source to dual")
        elif self.days < days:
            found.append(f"the dual run lasts {self.days:.2f} days, not {days:g}")
        return found

    def as_dict(self, days: float) -> dict[str, Any]:
        """For programs."""
        reasons = self.reasons(days)
        return {
            "mailbox_id": self.mailbox_id,
            "epoch": self.epoch,
            "verdict": "no-go" if reasons else "go",
            "reasons": reasons,
            "days": round(self.days, 4),
            "messages": self.messages,
            "unread": self.unread,
            "differences": {kind: len(ids) for kind, ids in self.differences.items()},
            "sample": {kind: ids[:SAMPLE_IDS] for kind, ids in self.differences.items() if ids},
            "by_day": {day: vars(counts) for day, counts in sorted(self.by_day.items())},
        }


def compare(
    record: MailboxRecord,
    observations: Iterable[Observation],
    registers: Iterable[AnyRegister],
    changes: Iterable[MessageChange],
    label_names: Mapping[str, str],
    *,
    now: int,
    since: int = 0,
    grace_milliseconds: int = 0,
) -> Comparison:
    """Compare what both ways know of a mailbox in its epoch.

    ``label_names`` are the API's by id. Left out are messages that the mailbox got before ``since``, and
    those of which either side heard within the grace: the other may be about to. Times in milliseconds.
    """
    found = _Observed(Comparison(record.mailbox_id, record.epoch, None, now))
    for said in observations:
        if said.epoch == record.epoch:
            found.add(said)
    result, days = found.result, found.days
    received = {key: said.received_at for key, said in found.seen.items()}
    _latencies(days, found.imap_seconds, changes, received, found.moved, result.begun_at, record.epoch)
    states = _states(registers)
    observed = {key: said for key, said in found.seen.items() if key not in found.gone}
    names = {label_id: label_id_of(name) for label_id, name in label_names.items() if label_id != name}
    live = {key for key, state in states.items() if state.live}
    for message_id in sorted(observed.keys() | live):
        said_of = observed.get(message_id)
        state = states.get(message_id)
        got_at = said_of.received_at if said_of is not None else _sent_at(state)
        if (got_at or now) < since or now - found.moved.get(message_id, 0) < grace_milliseconds:
            continue
        result.messages += 1
        kind = None
        if state is None or message_id not in live:
            kind = "only_imap"
        elif said_of is None:
            kind = "only_api"
        elif _labels(state, names) != set(said_of.label_ids):
            kind = "labels"
        elif (same := _same_contents(state, said_of)) is not True:
            kind = "contents" if same is False else None
            result.unread += same is None
        if kind is not None:
            result.differences[kind].append(message_id)
            days[day_of(found.moved.get(message_id) or got_at or now)].differences += 1
    result.by_day = dict(days)
    return result


@dataclass
class _Observed:
    """What IMAP saw, in the order in which it saw it."""

    result: Comparison
    seen: dict[str, Observation] = field(default_factory=dict)  # the newest with its parts
    gone: set[str] = field(default_factory=set)
    moved: dict[str, int] = field(default_factory=dict)  # when anybody last heard of a message
    days: defaultdict[str, Day] = field(default_factory=lambda: defaultdict(Day))
    imap_seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, said: Observation) -> None:
        result, day = self.result, self.days[day_of(said.observed_at)]
        if said.kind == "spent":
            day.api_bytes += said.spent_bytes
            day.api_requests += said.spent_requests
            return
        result.begun_at = min(result.begun_at or said.observed_at, said.observed_at)
        self.moved[said.message_id] = max(self.moved.get(said.message_id, 0), said.observed_at)
        day.imap_bytes += said.spent_bytes
        day.imap_requests += said.spent_requests
        if said.kind == "gone":
            self.gone.add(said.message_id)
        elif said.kind == "labels" and said.message_id in self.seen:
            known = self.seen[said.message_id]
            self.seen[said.message_id] = known.model_copy(update={"label_ids": said.label_ids})
        elif said.kind == "seen":
            self.gone.discard(said.message_id)
            self.seen[said.message_id] = said
            day.observed += 1
            if said.received_at is not None and said.received_at >= result.begun_at:
                seconds = (said.observed_at - said.received_at) / 1000
                self.imap_seconds[day_of(said.observed_at)].append(seconds)


def _latencies(
    days: defaultdict[str, Day],
    imap_seconds: Mapping[str, list[float]],
    changes: Iterable[MessageChange],
    received: Mapping[str, int | None],
    moved: dict[str, int],
    begun_at: int | None,
    epoch: int,
) -> None:
    """How late each way was with what arrived during the dual run."""
    api_seconds: defaultdict[str, list[float]] = defaultdict(list)
    told: Counter[str] = Counter()
    for change in changes:
        if change.epoch != epoch:
            continue
        moved[change.message_id] = max(moved.get(change.message_id, 0), change.emitted_at)
        days[day_of(change.emitted_at)].api_events += 1
        at = received.get(change.message_id)
        first = change.kind is ChangeKind.UPSERT and not told[change.message_id]
        if first and change.origin == "history" and at is not None and at >= (begun_at or 0):
            told[change.message_id] += 1
            api_seconds[day_of(change.emitted_at)].append((change.emitted_at - at) / 1000)
    for day, counts in days.items():
        counts.imap_seconds = statistics.median(imap_seconds[day]) if imap_seconds.get(day) else None
        counts.api_seconds = statistics.median(api_seconds[day]) if api_seconds.get(day) else None


def _states(registers: Iterable[AnyRegister]) -> dict[str, MessageState]:
    by_message: defaultdict[str, list[AnyRegister]] = defaultdict(list)
    ids: dict[str, str] = {}
    for register in registers:
        key = message_key(register.mailbox_id, register.message_id)
        ids[key] = register.message_id
        by_message[key].append(register)
    return {ids[key]: MessageState().join(found) for key, found in by_message.items()}


def _sent_at(state: MessageState | None) -> int | None:
    own = state.contents.get("") if state is not None else None
    return own.message.sent_at if own is not None and own.message is not None else None


def _labels(state: MessageState, names: Mapping[str, str]) -> set[str]:
    return {names.get(label, label) for label in state.label_ids if not label.startswith(_API_ONLY)}


def _same_contents(state: MessageState, said: Observation) -> bool | None:
    """Whether text and attachments are the same; None where only one side has read them."""
    own = state.contents.get("")
    if own is None or own.message is None or not said.parts:
        return None
    hashes = {
        path: content.attachment.sha256
        for path, content in state.contents.items()
        if content.attachment is not None and content.attachment.sha256 and "/" not in path
    }
    if {part.part_path for part in own.message.parts} != said.parts.keys() - {""}:
        return False
    if any(said.parts.get(path) != digest for path, digest in hashes.items()):
        return False
    if own.message.text_sha256 is None:
        return None  # read before texts were hashed
    return own.message.text_sha256 == said.parts.get("")
