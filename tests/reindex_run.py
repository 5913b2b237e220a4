"""A reindex with live changes going on and a searcher that never looks away: ``python -m tests.reindex_run``.

Registers are written as extract writes them, by a seed; the model of what must be found is their merge.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.pipeline import Pipeline
from connectors.elasticsearch import Index
from connectors.elasticsearch.versions import Versions
from connectors.encoder import HashEncoder
from connectors.kafka import Producer
from connectors.lag import LagMeter
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from schemas.identity import document_id
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    DeletedRegister,
    LabelRegister,
    LabelsRegister,
    MessageContent,
    MessageState,
    PartReference,
    Segment,
    content_version,
)
from streams.documents import Documents
from streams.reindex import group_of
from tests.pipelines import pipeline

ADDRESS = "anna@example.com"
STEADY = "steadfast"  # stands in every message that is never deleted
PART = "2"
WAIT_SECONDS = 240.0
MAX_LAG = 100


@dataclass
class Model:
    """What was written, and what must be found of it."""

    seed: int
    registers: list[AnyRegister] = field(default_factory=list)
    history_id: int = 100
    messages: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def arrive(self, *, steady: bool) -> list[AnyRegister]:
        """A new message; every third has an attachment."""
        self.messages += 1
        self.history_id += 1
        owner = {"mailbox_id": "box", "message_id": f"m{self.messages:05d}{'s' if steady else 't'}"}
        parts = (PartReference(part_path=PART, filename="a.pdf", content_type="application/pdf"),)
        has_part = self.messages % 3 == 0
        text = f"{STEADY if steady else 'fleeting'} report {self.messages} of the tide gauge"
        content = MessageContent(
            subject=f"report {self.messages}", text=text, parts=parts if has_part else ()
        )
        registers: list[AnyRegister] = [
            LabelsRegister(**owner, epoch=1, history_id=self.history_id, label_ids=("INBOX",)),
            ContentRegister(**owner, version=content_version(1, Outcome.TEXT, text), message=content),
        ]
        if has_part:
            read = AttachmentContent(
                filename="a.pdf",
                content_type="application/pdf",
                outcome=Outcome.TEXT,
                segments=(Segment(text=f"annex {self.messages} on dredging", page=1),),
            )
            version = content_version(1, Outcome.TEXT, text)
            registers.append(ContentRegister(**owner, part_path=PART, version=version, attachment=read))
        return self._written(registers)

    def change(self) -> list[AnyRegister]:
        """Something happens to somebody: a label, a deletion, a new message, an older record again."""
        kind = self._random.random()
        known = self._random.choice(self.registers)
        owner = {"mailbox_id": "box", "message_id": known.message_id}
        self.history_id += 1
        if kind < 0.5:
            label = self._random.choice(["STARRED", "Label_1", "Label_2"])
            present = self._random.random() < 0.7
            at = {"epoch": 1, "history_id": self.history_id}
            return self._written([LabelRegister(**owner, **at, label_id=label, present=present)])
        if kind < 0.65 and known.message_id.endswith("t"):
            return self._written([DeletedRegister(**owner, epoch=1, history_id=self.history_id)])
        if kind < 0.75:
            return self._written([known])
        return self.arrive(steady=False)

    def _written(self, registers: list[AnyRegister]) -> list[AnyRegister]:
        self.registers += registers
        return registers

    def documents(self) -> dict[str, dict[str, Any]]:
        """Every live document by id: its text and labels."""
        states: dict[str, MessageState] = {}
        for register in self.registers:
            state = states.get(register.message_id, MessageState())
            states[register.message_id] = state.join([register])
        found = {}
        for message_id, state in states.items():
            if not state.live:
                continue
            for path, register in state.contents.items():
                content = register.message
                text = (
                    content.text
                    if content
                    else "\n\n".join(piece.text for piece in (register.attachment or _NONE).segments)
                )
                found[document_id("box", message_id, path)] = {
                    "text": text,
                    "label_ids": sorted(state.label_ids),
                }
        return found


_NONE = AttachmentContent(content_type="", outcome=Outcome.EMPTY)


@dataclass
class Report:
    """What happened."""

    documents: int = 0
    changes: int = 0  # while the rebuild ran
    searches: int = 0
    failures: list[str] = field(default_factory=list)
    misses: int = 0
    resumed_at: int = 0  # records that the killed rebuild had handled
    written: int = 0  # documents that it had written with their vectors
    gmail_requests: int = 0
    vectors_reused: int = 0
    differing: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether all that was promised held, and was put to the test."""
        wrong = [*self.failures, self.misses, self.gmail_requests, self.differing]
        return not any(wrong) and min(self.documents, self.changes, self.searches, self.vectors_reused) > 0


async def run(running: Pipeline, emulator: GmailEmulator, messages: int, seed: int = 1) -> Report:
    """Fill, rebuild with a kill in the middle and live changes all along, compare."""
    report, model = Report(), Model(seed)
    async with (
        Producer(running.kafka_bootstrap) as producer,
        Index.open(running.elasticsearch_url) as index,
        Versions.open(running.elasticsearch_url) as versions,
        LagMeter.open(running.kafka_bootstrap) as meter,
    ):
        documents = Documents(producer, await producer.partitions(topics.DOCUMENTS.name))
        running.start("index")
        for _ in range(messages):
            await documents.send(model.arrive(steady=True))
        await _consumed(running, meter)
        asked = sum(emulator.stats()["requests"].values())
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(_live(documents, model, report, stop, meter)),
            asyncio.create_task(_searcher(index, report, messages, stop)),
        ]
        started = time.monotonic()
        report.resumed_at, report.written = await _killed(running, versions, meter)
        answer = await asyncio.to_thread(_reindex, running)
        report.seconds = time.monotonic() - started
        report.vectors_reused = answer["vectors_reused"]
        assert answer["resumed"], answer
        await asyncio.sleep(2)  # the new index takes the changes
        stop.set()
        await asyncio.gather(*tasks)
        await _consumed(running, meter)
        report.gmail_requests = sum(emulator.stats()["requests"].values()) - asked
        await _compare(index, versions, model, report)
    return report


async def _consumed(running: Pipeline, meter: LagMeter) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while await meter.lag(topics.INDEX_GROUP, [topics.DOCUMENTS.name]):
        running.check()
        assert time.monotonic() < deadline, running.log_tail("index")
        await asyncio.sleep(0.5)


async def _live(
    documents: Documents, model: Model, report: Report, stop: asyncio.Event, meter: LagMeter
) -> None:
    """Changes without end, as many as the machine can take: a mailbox waits for nobody, but has fewer."""
    while not stop.is_set():
        await asyncio.sleep(0.02)
        if await meter.lag(topics.INDEX_GROUP, [topics.DOCUMENTS.name]) < MAX_LAG:
            await documents.send(model.change())
            report.changes += 1


async def _searcher(index: Index, report: Report, steady: int, stop: asyncio.Event) -> None:
    """Ask the alias all the time: what must be there, and what was there a moment ago."""
    seen = 0
    await index.refresh()
    while not stop.is_set():
        try:
            answer = await index.search(
                {
                    "query": {"bool": {"must": [{"match": {"text": STEADY}}], "filter": [_LIVE]}},
                    "size": 0,
                    "track_total_hits": True,
                    "aggs": {"all": {"value_count": {"field": "message_key"}}},
                }
            )
            everything = await index.count({"match_all": {}})
        except Exception as error:  # noqa: BLE001 - any failure is one too many, and is reported
            report.failures.append(repr(error)[:200])
            continue
        report.searches += 1
        # Tombstones stay, so that no document that was once seen may be missing later.
        report.misses += answer["hits"]["total"]["value"] != steady or everything < seen
        seen = max(seen, everything)
        await asyncio.sleep(0.01)


async def _killed(running: Pipeline, versions: Versions, meter: LagMeter) -> tuple[int, int]:
    """Begin a rebuild and kill it in the middle; returns how many records it had handled, and how many
    documents it had written with their vectors."""
    process = _begun(running)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (begun := [version for version in await versions.all() if not version.live]):
            assert time.monotonic() < deadline, "the rebuild does not begin"
            assert process.poll() is None, "the rebuild ended by itself"
            await asyncio.sleep(0.02)
        while not (done := sum((await meter.committed(group_of(begun[0]))).values())):
            assert time.monotonic() < deadline, "the rebuild does not get on"
            assert process.poll() is None, "the rebuild ended by itself"
            await asyncio.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # Partitions that had not come to their commit were written, too, and the server may have a bulk in hand.
    index, counts = versions.index(begun[0]), [-1]
    while len(counts) < 2 or counts[-1] != counts[-2]:
        await asyncio.sleep(1)
        await index.refresh()
        counts.append(await index.count({"range": {"chunk_count": {"gt": 0}}}))
    return done, counts[-1]


_LIVE = {"term": {"live": True}}
_COMMAND = [sys.executable, "-m", "cli.main", "reindex", "--json"]


def _environment(running: Pipeline) -> dict[str, str]:
    return {**os.environ, **running.environment}


def _begun(running: Pipeline) -> subprocess.Popen[bytes]:
    return subprocess.Popen(_COMMAND, env=_environment(running), stdout=subprocess.DEVNULL)


def _reindex(running: Pipeline) -> dict[str, Any]:
    done = subprocess.run(
        ["timeout", str(WAIT_SECONDS * 2), *_COMMAND],
        env=_environment(running),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr  # how far it has come
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def _compare(index: Index, versions: Versions, model: Model, report: Report) -> None:
    """The new index against the model, its vectors against the encoder."""
    await index.refresh()
    found = {
        document["_id"]: {"text": document["text"], "label_ids": document["label_ids"]}
        async for document in index.scan(_LIVE, ["text", "label_ids"])
    }
    expected = model.documents()
    report.documents = len(found)
    report.differing = sum(
        found.get(document) != expected.get(document) for document in found.keys() | expected.keys()
    )
    [live] = [version for version in await versions.all() if version.live]
    assert live.number == 2
    some = sorted(found)[:50]
    subjects = {
        document["_id"]: document["subject"]
        async for document in index.scan(_LIVE, ["subject", "kind"])
        if document["kind"] == "message"
    }
    for (document, text), vector in (await versions.vectors(live).read(some)).items():
        [wanted] = HashEncoder().encode([f"{subjects[document]}\n\n{text}" if document in subjects else text])
        report.differing += int(abs(wanted - vector).max() > 1e-5)


def in_directory(
    directory: Path,
    messages: int,
    stack: Stack | None = None,
    check: Callable[[Pipeline], None] | None = None,
) -> Report:
    """A run on empty servers: ``stack``, or some of its own."""
    with (
        GmailEmulator({ADDRESS: [MailBytes(b"Subject: one\n\nbody\n")]}) as emulator,
        pipeline(None, directory, stack=stack, gmail=emulator.describe()) as running,
    ):
        report = asyncio.run(run(running, emulator, messages))
        if check is not None:
            check(running)
        return report


def main() -> None:
    """One run; fails when anything was missed, lost, changed, or not put to the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=7_500)
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as directory:
        report = in_directory(Path(directory), arguments.messages)
        sys.stdout.write(json.dumps({**vars(report), "good": report.good}) + "\n")
        sys.exit(not report.good)


if __name__ == "__main__":
    main()
