"""Any order, any crash, any replay: the index equals the merge of all registers, which is the model.

A stateful property test on a real Elasticsearch; the topic is a list, so that any record can come again. At
the end of every example the index equals the model, and once more when the topic was compacted and the index
rebuilt from it. CONVERGENCE_EXAMPLES sets its size; a run that saw too few conflicts, deletions or replays
fails.
"""

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from connectors.encoder import HashEncoder
from connectors.kafka import Record
from schemas import mapping
from schemas.identity import document_id
from schemas.outcomes import OUTCOME_RANK, Outcome
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    ContentVersion,
    DeletedRegister,
    LabelRegister,
    LabelsRegister,
    MessageContent,
    MessageState,
    PartReference,
    Segment,
)
from streams.index import Indexer
from tests.frail import Crash, FrailIndex, Topic
from tests.standins import Letters

EXAMPLES = int(os.environ.get("CONVERGENCE_EXAMPLES", "12"))
STEPS = 40
# What a run of FULL_EXAMPLES must have seen. A shorter one its part of it, halved: few examples vary more.
FULL_EXAMPLES = 300
MUST_SEE = {"conflict": 500, "delete": 100, "replay": 50}

MESSAGES = ("m1", "m2", "m3")
LABELS = ("INBOX", "UNREAD", "STARRED", "TRASH")
PARTS = ("2", "3")
FIELDS = ("live", "label_ids", "text", "subject", "kind")
Result = TypeVar("Result")


class Servers:
    """One index and one loop for all examples; each example has a mailbox of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runner = asyncio.Runner()
        self.seen: Counter[str] = Counter()

    def __enter__(self) -> "Servers":
        self._opened = [FrailIndex.open(self.url) for _ in range(2)]
        self.indexes: list[FrailIndex] = [self.run(opened.__aenter__()) for opened in self._opened]  # type: ignore[misc]
        self.run(self._prepare())
        return self

    async def _prepare(self) -> None:
        for index in self.indexes:
            await index.ensure()
        # Elasticsearch forgets what it deleted after this long; ours must not depend on its memory.
        await self.indexes[0]._client.indices.put_settings(
            index=mapping.WRITE_ALIAS, settings={"index.gc_deletes": "1s"}
        )

    def __exit__(self, *_: object) -> None:
        for opened in self._opened:
            self.run(opened.__aexit__(None, None, None))
        self.runner.close()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)


class Convergence(RuleBasedStateMachine):
    """A mailbox, its topic, workers that die, and what must come of it."""

    servers: Servers

    def __init__(self) -> None:
        super().__init__()
        self.mailbox_id = uuid.uuid4().hex
        self.topic = Topic()
        self.letters = Letters()
        self.model: dict[str, MessageState] = {}
        self.history_id, self.epoch, self.position = 10, 1, 0
        self.keeps_up = False

    @initialize(keeps_up=st.booleans())
    def begin(self, keeps_up: bool) -> None:
        """Half of the workers see every event by itself, the others in batches."""
        self.keeps_up = keeps_up

    # --- what happens in the mailbox ------------------------------------------------------------------

    def _emit(self, *registers: AnyRegister) -> None:
        for register in registers:
            self.topic.append(register)
            self.model[register.message_id] = self.model.get(register.message_id, MessageState()).join(
                [register]
            )
            if self.keeps_up:
                self.servers.run(self._consume_all())

    def _at(self, late: int = 0) -> dict[str, int]:
        self.history_id += 1
        return {"epoch": self.epoch, "history_id": max(1, self.history_id - late)}

    def _owner(self, message_id: str) -> dict[str, str]:
        return {"mailbox_id": self.mailbox_id, "message_id": message_id}

    def _version(self, outcome: Outcome, digest: str, engine: int = 1) -> ContentVersion:
        return ContentVersion(epoch=self.epoch, engine=engine, rank=OUTCOME_RANK[outcome], digest=digest)

    def _labels(self, message_id: str, label_ids: set[str], late: int = 0) -> LabelsRegister:
        ordered = tuple(sorted(label_ids))
        return LabelsRegister(**self._owner(message_id), **self._at(late), label_ids=ordered)

    def _message(self, message_id: str, text: str, engine: int = 1) -> ContentRegister:
        content = MessageContent(
            subject=f"subject {text}",
            text=text,
            parts=tuple(PartReference(part_path=path, content_type="application/pdf") for path in PARTS),
        )
        version = self._version(Outcome.TEXT, text, engine)
        return ContentRegister(**self._owner(message_id), version=version, message=content)

    def _part(self, message_id: str, path: str, text: str, engine: int = 1) -> ContentRegister:
        outcome = Outcome.TEXT if text else Outcome.PENDING
        content = AttachmentContent(
            content_type="application/pdf", outcome=outcome, segments=(Segment(text=text),) if text else ()
        )
        version = self._version(outcome, text, engine)
        return ContentRegister(
            **self._owner(message_id),
            part_path=path,
            version=version,
            attachment=content,
        )

    @rule(
        message_id=st.sampled_from(MESSAGES),
        label_ids=st.sets(st.sampled_from(LABELS)),
        text=st.sampled_from("ab"),
    )
    def upsert(self, message_id: str, label_ids: set[str], text: str) -> None:
        """Inserted, undeleted, or listed again."""
        self._emit(
            self._labels(message_id, label_ids),
            self._message(message_id, text),
            *(self._part(message_id, path, "") for path in PARTS),
        )

    @rule(
        message_id=st.sampled_from(MESSAGES),
        label_id=st.sampled_from(LABELS),
        present=st.booleans(),
        late=st.integers(0, 3),
    )
    def relabel(self, message_id: str, label_id: str, present: bool, late: int) -> None:
        """One label, trash among them; ``late`` ones were overtaken by what came by another topic."""
        self._emit(
            LabelRegister(**self._owner(message_id), **self._at(late), label_id=label_id, present=present)
        )

    @rule(
        message_id=st.sampled_from(MESSAGES),
        label_ids=st.sets(st.sampled_from(LABELS)),
        late=st.integers(0, 3),
    )
    def snapshot(self, message_id: str, label_ids: set[str], late: int) -> None:
        """All labels of a message, as an audit says them."""
        self._emit(self._labels(message_id, label_ids, late))

    @rule(message_id=st.sampled_from(MESSAGES), late=st.integers(0, 3))
    def delete(self, message_id: str, late: int) -> None:
        self.servers.seen["delete"] += 1
        self._emit(DeletedRegister(**self._owner(message_id), **self._at(late)))

    @rule(
        message_id=st.sampled_from(MESSAGES),
        path=st.sampled_from(PARTS),
        text=st.sampled_from(["scan one", "scan two"]),
        engine=st.integers(1, 2),
    )
    def extract(self, message_id: str, path: str, text: str, engine: int) -> None:
        """A late extraction, or one by another engine; the older may come last."""
        self._emit(self._part(message_id, path, text, engine))

    @rule(message_id=st.sampled_from(MESSAGES), text=st.sampled_from("ab"), engine=st.integers(1, 2))
    def extract_message(self, message_id: str, text: str, engine: int) -> None:
        self._emit(self._message(message_id, text, engine))

    @rule()
    def begin_an_epoch(self) -> None:
        """The mailbox was removed and added again."""
        self.epoch += 1
        self.history_id = 10

    # --- what happens to the workers ------------------------------------------------------------------

    def _indexer(self, number: int = 0) -> Indexer:
        return Indexer(self.servers.indexes[number], HashEncoder(), self.letters, 100, self.topic)  # type: ignore[arg-type]

    def _batch(self, size: int) -> list[Record]:
        return [record for record in self.topic.records if record.offset >= self.position][:size]

    @rule(
        size=st.integers(1, 12), dies=st.sampled_from([None, None, "before bulk", "after bulk", "before ack"])
    )
    def consume(self, size: int, dies: str | None) -> None:
        batch = self._batch(size)
        if not batch:
            return
        self.servers.indexes[0].dies = dies
        try:
            self.servers.run(self._indexer().handle(batch))
        except Crash:
            self.servers.seen["crash"] += 1
            return
        finally:
            self.servers.indexes[0].dies = None
        if dies == "before ack":
            self.servers.seen["crash"] += 1
        else:
            self.position = batch[-1].offset + 1

    @rule(size=st.integers(2, 20))
    def race(self, size: int) -> None:
        """Two workers own the partition for a moment, as in a rebalance."""
        if batch := self._batch(size):
            self.servers.run(self._race(batch))
            self.position = batch[-1].offset + 1

    async def _race(self, batch: list[Record]) -> None:
        barrier = asyncio.Barrier(2)
        for index in self.servers.indexes:
            index.reads_together = barrier
        # Each knows what the other does not, and both know the middle.
        third = len(batch) // 3
        await asyncio.gather(
            self._indexer(0).handle(batch[: len(batch) - third]), self._indexer(1).handle(batch[third:])
        )

    @rule(back=st.integers(1, 20))
    def redeliver(self, back: int) -> None:
        self.position = max(0, self.position - back)

    @rule()
    def replay(self) -> None:
        self.servers.seen["replay"] += 1
        self.position = 0

    @rule()
    def expire(self) -> None:
        """Elasticsearch forgets the versions of what it has deleted."""
        if self.servers.seen["expiry"] * 20 < self.servers.seen["delete"]:
            self.servers.seen["expiry"] += 1
            self.servers.run(asyncio.sleep(1.1))

    # --- what must come of it -------------------------------------------------------------------------

    def teardown(self) -> None:
        self.servers.run(self._settle_and_compare())

    async def _settle_and_compare(self) -> None:
        if batch := self._batch(20):
            await self._race(batch)
        await self._consume_all()
        await self._compare("after the last event")
        self.topic.compact()
        await self._forget()
        self.position = 0
        self.servers.seen["replay"] += 1
        if batch := self._batch(20):
            await self._race(batch)
        await self._consume_all()
        await self._compare("rebuilt from the compacted topic")
        assert not self.letters.written, self.letters.written
        self.servers.seen["conflict"] += sum(index.conflicts for index in self.servers.indexes)
        for index in self.servers.indexes:
            index.conflicts = 0

    async def _consume_all(self) -> None:
        written = self.topic.end
        while batch := self._batch(50):
            await self._indexer().handle(batch)
            self.position = batch[-1].offset + 1
        # Each backward record is answered once; a worker that answers its own answers never ends.
        assert self.topic.end - written <= 4 * (written + 1), "registers are written again without end"

    def _ids(self) -> dict[str, tuple[str, str]]:
        return {
            document_id(self.mailbox_id, message_id, path): (message_id, path)
            for message_id in self.model
            for path in ("", *PARTS)
        }

    async def _forget(self) -> None:
        operations = [{"delete": {"_id": document}} for document in self._ids()]
        if operations:
            await self.servers.indexes[0]._client.bulk(index=mapping.WRITE_ALIAS, operations=operations)

    async def _compare(self, when: str) -> None:
        stored = await self.servers.indexes[0].read(list(self._ids()), FIELDS)
        for document, (message_id, path) in self._ids().items():
            found = stored[document].source if document in stored else None
            shown = {k: found.get(k) for k in FIELDS} if found is not None and found["live"] else None
            assert shown == self._expected(self.model[message_id], path), (when, message_id, path, found)
            if found is not None and not found["live"]:
                assert not {"text", "subject"} & found.keys(), (when, "a tombstone with content", found)

    def _expected(self, state: MessageState, path: str) -> dict[str, Any] | None:
        content, own = state.contents.get(path), state.contents.get("")
        if not state.live or content is None:
            return None
        return {
            "live": True,
            "kind": "attachment" if path else "message",
            "label_ids": sorted(state.label_ids),
            "subject": own.message.subject if own is not None and own.message is not None else None,
            "text": content.message.text if content.message else _text(content),
        }


def _text(content: ContentRegister) -> str:
    assert content.attachment is not None
    return "".join(segment.text for segment in content.attachment.segments)


@pytest.fixture
def servers(elasticsearch_url: str, own_index_names: None) -> Iterator[Servers]:
    with Servers(elasticsearch_url) as opened:
        yield opened


def test_contents_come_back_with_a_message_that_is_seen_after_its_deletion(servers: Servers) -> None:
    """Also those that came while it was deleted, and also when nobody sends them again."""
    machine = type("Machine", (Convergence,), {"servers": servers})()
    machine.upsert("m1", {"INBOX"}, "a")
    machine.extract("m1", "2", "scan one", 1)
    machine.consume(50, None)
    machine.delete("m1", 0)
    machine.consume(50, None)
    machine.extract("m1", "3", "scan two", 1)
    machine.extract("m1", "3", "scan one", 1)  # a lower version behind it
    machine.consume(50, None)
    machine.snapshot("m1", {"STARRED"}, 0)
    machine.consume(50, None)
    state = machine.model["m1"]
    assert state.live
    assert state.contents.keys() == {"", "2", "3"}
    machine.teardown()  # compares


@pytest.mark.timeout(3600)
def test_the_index_always_equals_the_model(servers: Servers) -> None:
    machine = type("Machine", (Convergence,), {"servers": servers})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    print(dict(servers.seen))  # noqa: T201
    part = 1.0 if EXAMPLES >= FULL_EXAMPLES else EXAMPLES / FULL_EXAMPLES / 2
    for kind, full in MUST_SEE.items():
        assert servers.seen[kind] >= full * part, (kind, servers.seen)
