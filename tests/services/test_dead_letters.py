"""Dead letters as an operator deals with them; the log that a compaction leaves gives the same index."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from cli.pipeline import Pipeline, mailbox_id_of
from connectors.elasticsearch import Index
from connectors.errors import GmailError
from connectors.kafka import Producer, Record
from connectors.lag import LagMeter
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from schemas.events import ChangeKind, Deferred, MessageChange
from schemas.outcomes import Outcome
from schemas.registers import AnyRegister, ContentRegister, MessageContent, content_version
from streams.dead_letters import MAX_CONSECUTIVE, DeadLetters, TooManyDeadLettersError
from streams.documents import Documents
from tests.commands import command
from tests.compaction import compact_soon, compacted
from tests.pipelines import pipeline
from tests.records import read_all
from tests.reindex_run import Model

pytestmark = pytest.mark.timeout(400)

ADDRESS = "anna@example.com"
MAILBOX = mailbox_id_of(ADDRESS)
MESSAGES = 40
WAIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The index worker alone: what fails is written by hand."""
    directory = tmp_path_factory.mktemp("run")
    also = {"TOPIC_PARTITIONS": "2"}
    with (
        GmailEmulator({ADDRESS: [MailBytes(b"Subject: one\n\nbody\n")]}) as emulator,
        pipeline(None, directory, stack=stack, gmail=emulator.describe(), also=also) as made,
    ):
        made.start("index")
        yield made


def _mailstream(running: Pipeline, *arguments: str, code: int = 0) -> str:
    got, output, errors = command(running, *arguments)
    assert got == code, errors
    return output


def _listed(running: Pipeline, *filters: str) -> list[dict[str, Any]]:
    output = _mailstream(running, "dead-letters", "list", "--json", *filters)
    return [json.loads(line) for line in output.splitlines()]


async def _send(running: Pipeline, registers: list[AnyRegister]) -> None:
    async with Producer(running.kafka_bootstrap) as producer:
        documents = Documents(producer, await producer.partitions(topics.DOCUMENTS.name))
        await documents.send(registers)


async def _consumed(running: Pipeline) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    async with LagMeter.open(running.kafka_bootstrap) as meter:
        while await meter.lag(topics.INDEX_GROUP, [topics.DOCUMENTS.name]):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.3)


async def _found(running: Pipeline) -> dict[str, dict[str, Any]]:
    async with Index.open(running.elasticsearch_url) as index:
        await index.refresh()
        return {
            document["_id"]: {"text": document["text"], "label_ids": document["label_ids"]}
            async for document in index.scan({"term": {"live": True}}, ["text", "label_ids"])
        }


def _rejected(message_id: str) -> ContentRegister:
    """A date that no mapping takes."""
    content = MessageContent(subject="odd", text="a date beyond all dates", sent_at=10**30)
    version = content_version(1, Outcome.TEXT, "odd")
    return ContentRegister(mailbox_id=MAILBOX, message_id=message_id, version=version, message=content)


def _write_letters(running: Pipeline) -> None:
    """One of each kind: a change, deferred work, and bytes that are no event."""

    async def write() -> None:
        async with Producer(running.kafka_bootstrap) as producer:
            letters = DeadLetters(producer, "fast")
            ids = {"mailbox_id": MAILBOX, "message_id": "m1"}
            change = MessageChange(**ids, kind=ChangeKind.UPSERT, epoch=1, history_id=7)
            work = Deferred(**ids, epoch=1, part_path="2", reason="ocr", attempts=9, not_before=2**50)
            for topic, offset, value in (
                (topics.CHANGES, 5, change.encode()),
                (topics.DEFERRED, 5, work.encode()),
                (topics.CHANGES, 6, b"\xff{"),
                (topics.CHANGES, 6, b"\xff{"),  # its worker died before the ack: one letter all the same
            ):
                record = Record(topic.name, 0, offset, "key", value)
                named = not value.startswith(b"\xff")
                await letters.write(
                    record,
                    GmailError("refused"),
                    mailbox_id=MAILBOX if named else None,
                    message_id="m1" if named else None,
                )

    asyncio.run(write())


def test_letters_are_listed_replayed_and_discarded(running: Pipeline) -> None:
    asyncio.run(_send(running, [_rejected("odd"), _rejected("other")]))
    asyncio.run(_consumed(running))
    _write_letters(running)
    letters = _listed(running)
    errors = Counter(letter["error_class"] for letter in letters)
    assert errors == {"RejectedDocumentError": 2, "GmailError": 3}
    assert len(_listed(running, "--stage", "index", "--since", "1h")) == 2
    assert len(_listed(running, "--mailbox", ADDRESS, "--error", "GmailError")) == 2
    assert _listed(running, "--since", "2099-01-01") == []
    change, work, unreadable = (letter["id"] for letter in letters if letter["stage"] == "fast")
    assert json.loads(_mailstream(running, "dead-letters", "show", change, "--json"))["message_id"] == "m1"

    replayed = json.loads(_mailstream(running, "dead-letters", "replay", "--stage", "fast", "--json"))
    assert replayed == {change: "replayed", work: "replayed", unreadable: "unreadable"}
    [(key, value)] = asyncio.run(read_all(running.kafka_bootstrap, topics.CHANGES.name))
    assert (key, MessageChange.decode(value or b"").message_id) == (MAILBOX, "m1")
    [(key, value)] = asyncio.run(read_all(running.kafka_bootstrap, topics.DEFERRED.name))
    again = Deferred.decode(value or b"")
    assert (again.part_path, again.not_before, again.attempts) == ("2", 0, 0)
    assert _mailstream(running, "dead-letters", "discard", unreadable) == "1 discarded\n"

    # Two documents: one has been mended in the log since, the other fails again, which is a new letter.
    mended = _rejected("odd")
    assert mended.message is not None
    mended = mended.model_copy(update={"message": mended.message.model_copy(update={"sent_at": 1})})
    mended = mended.model_copy(update={"version": content_version(1, Outcome.TEXT, "oddly")})
    asyncio.run(_send(running, [mended]))
    asyncio.run(_consumed(running))
    output = _mailstream(running, "dead-letters", "replay", "--stage", "index", "--json")
    assert list(json.loads(output).values()) == ["replayed"] * 2
    asyncio.run(_consumed(running))
    [left] = _listed(running)
    assert (left["message_id"], left["state"]) == ("other", "open")
    assert len(_listed(running, "--all")) == 6
    status = json.loads(_mailstream(running, "status", "--json"))
    assert status["dead_letters"] == 1


def test_a_trace_says_why(running: Pipeline) -> None:
    def diagnosis(message_id: str) -> str:
        found = json.loads(_mailstream(running, "trace", ADDRESS, message_id, "--json"))
        assert all(step["at"] for step in found["steps"])
        assert [step["at"] for step in found["steps"]] == sorted(step["at"] for step in found["steps"])
        return str(found["diagnosis"])

    assert "can be found" in diagnosis("odd")
    assert "failed for good in index (RejectedDocumentError)" in diagnosis("other")
    assert "waits for `mailstream worker extract`" in diagnosis("m1")
    assert "Nobody has seen it yet" in diagnosis("ffff")
    _mailstream(running, "trace", "nobody@example.com", "1", code=1)
    _mailstream(running, "trace", ADDRESS, "<none@example.com>", code=1)
    _mailstream(running, "dead-letters", "show", "0:99999", code=1)
    _mailstream(running, "dead-letters", "replay", code=2)


def test_a_worker_that_starts_again_does_not_drain_its_topic_in_steps(running: Pipeline) -> None:
    offsets = itertools.count()

    async def fail(times: int) -> int:
        async with Producer(running.kafka_bootstrap) as producer:
            letters = await DeadLetters.go_on(producer, running.kafka_bootstrap, "test")
            for number in range(times):
                record = Record(topics.DOCUMENTS.name, 0, next(offsets), "key", b"x")
                try:
                    await letters.write(record, GmailError("no"))
                except TooManyDeadLettersError:
                    return number
        return times

    assert asyncio.run(fail(MAX_CONSECUTIVE + 5)) == MAX_CONSECUTIVE
    assert asyncio.run(fail(5)) == 0
    _mailstream(running, "dead-letters", "discard", "--stage", "test")
    assert asyncio.run(fail(5)) == 5


def test_the_compacted_log_gives_the_same_index(running: Pipeline) -> None:
    _mailstream(running, "dead-letters", "discard", "--all")
    model = Model(seed=3)
    for _ in range(MESSAGES):
        model.arrive(steady=False)
    for _ in range(5 * MESSAGES):
        model.change()
    asyncio.run(_send(running, model.registers))
    # A record from before, again, long after: what it says has been superseded. And one that is replayed.
    asyncio.run(_send(running, [_rejected("odd"), _rejected("third")]))
    asyncio.run(_consumed(running))
    _mailstream(running, "dead-letters", "replay", "--all")
    asyncio.run(_consumed(running))
    before = asyncio.run(_found(running))
    own = {document: before[document] for document in model.documents()}
    assert own == model.documents()

    async def one_record_a_key() -> bool:
        records = await read_all(running.kafka_bootstrap, topics.DOCUMENTS.name)
        keys = Counter(key for key, _ in records if not key.endswith("tick"))
        return keys.total() - len(keys) < 10  # the newest segment is not compacted

    async def compact() -> None:
        await compact_soon(running.kafka_bootstrap, [topics.DOCUMENTS])
        assert not await one_record_a_key()
        await compacted(running.kafka_bootstrap, [topics.DOCUMENTS], one_record_a_key)

    asyncio.run(compact())
    answer = json.loads(_mailstream(running, "reindex", "--json"))
    assert answer["check"]["differing"] == []
    assert asyncio.run(_found(running)) == before
