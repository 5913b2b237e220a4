"""What our stages do with records of another version: kept, refused by name, never dropped in silence."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from connectors.errors import ConfigurationError, ForeignEventError
from connectors.kafka import Record, Send, Table
from connectors.source import SourceConnector
from schemas import topics
from schemas.events import ChangeKind, DeadLetter, MailboxRecord, MessageChange, SyncRequest
from schemas.headers import Headers, headers_of
from schemas.outcomes import Outcome
from schemas.registers import (
    ContentRegister,
    DeletedRegister,
    LabelsRegister,
    MessageContent,
    content_version,
)
from streams.dead_letters import DeadLetters
from streams.extract import Extract
from streams.forward import DocumentsLog, Winner
from streams.index import Indexer, _works
from streams.letter_box import LetterBox
from streams.plans import Group
from tests.standins import Broker

CHANGE = MessageChange(mailbox_id="b", message_id="m", kind=ChangeKind.DELETE, epoch=1, history_id=2)
LABELS = LabelsRegister(mailbox_id="b", message_id="m", epoch=1, history_id=2, label_ids=("INBOX",))


def _letters(broker: Broker) -> list[DeadLetter]:
    return [DeadLetter.decode(send.value or b"", send.headers) for send in broker.sent]


class Log:
    """A topic of these records."""

    def __init__(self, *records: Record) -> None:
        self.records = records

    async def read(self) -> AsyncIterator[Record]:
        for record in self.records:
            yield record


def _later(kind: Any, version: tuple[int, int] = (2, 0)) -> Headers:
    return headers_of(kind.schema_id(), version)


async def test_a_higher_major_version_is_a_dead_letter_and_replayed_after_an_upgrade(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = Broker()
    extract = Extract(None, None, None, DeadLetters(producer, "fast"), None, "fast")  # type: ignore[arg-type]
    headers = (("traceparent", b"00-1-2-01"), *_later(MessageChange))
    await extract.handle_change(Record(topics.CHANGES.name, 0, 7, "b", CHANGE.encode(), None, headers))
    [letter] = _letters(producer)
    assert letter.error_class == ForeignEventError.__name__
    assert letter.error == "version 2.0 of mailstream.MessageChange: this program reads 1"
    assert letter.headers == {"schema-id": "mailstream.MessageChange", "schema-version": "2.0"}

    [sent] = producer.sent
    box = LetterBox("nowhere:1", Log(_record(sent)))  # type: ignore[arg-type]
    await box.catch_up()
    [waiting] = box.waiting()
    producer.sent.clear()
    assert await box.replay(producer, [waiting]) == {"0:0": "unreadable"}  # type: ignore[arg-type]
    assert (producer.sent, waiting.open) == ([], True)
    monkeypatch.setattr(MessageChange, "schema_version", (2, 0))
    assert await box.replay(producer, [waiting]) == {"0:0": "replayed"}  # type: ignore[arg-type]
    again = producer.sent[0]
    assert (again.topic, again.key, again.value) == (topics.CHANGES.name, "b", CHANGE.encode())
    assert again.headers == _later(MessageChange)


def _record(sent: Send) -> Record:
    return Record(sent.topic, 0, 0, sent.key, sent.value, None, sent.headers)


async def test_a_register_of_a_higher_major_version_is_a_dead_letter() -> None:
    producer = Broker()
    letters = DeadLetters(producer, "index")  # type: ignore[arg-type]
    indexer = Indexer(None, None, letters, max_chunks=1)  # type: ignore[arg-type]
    later = Record(topics.DOCUMENTS.name, 0, 7, LABELS.key, LABELS.encode(), None, _later(LabelsRegister))
    other = Record(
        topics.DOCUMENTS.name, 0, 8, LABELS.key, LABELS.encode(), None, _later(MessageChange, (1, 0))
    )
    assert await indexer._grouped([later, other]) == []
    assert [letter.error for letter in _letters(producer)] == [
        "version 2.0 of mailstream.LabelsRegister: this program reads 1",
        "this is a mailstream.MessageChange, not a mailstream.LabelsRegister",
    ]
    assert {letter.error_class for letter in _letters(producer)} == {"ForeignEventError"}


def test_a_trace_is_one_span_a_message_whatever_its_registers_are_called() -> None:
    """The headers of a schema are not a trace's: without one, nobody traces; with one, once."""
    deleted = DeletedRegister(mailbox_id="b", message_id="m", epoch=1, history_id=3)
    group = Group("b", "m")
    for trace in ((), (("traceparent", b"00-1-2-01"),)):
        group.registers = [
            (
                register,
                Record(topics.DOCUMENTS.name, 0, 1, "", None, None, (*register.schema_headers(), *trace)),
            )
            for register in (LABELS, deleted)
        ]
        assert _works([group]) == [(trace, "b", "m")] * bool(trace)


async def test_a_table_with_a_higher_major_version_ends_the_process() -> None:
    mailbox = MailboxRecord(mailbox_id="b", address="b@example.com")
    name = topics.MAILBOXES.name
    known = Record(name, 0, 3, "b", mailbox.encode(), None, _later(MailboxRecord, (1, 4)))
    table = Table(Log(known))  # type: ignore[arg-type]
    await table.catch_up()
    assert table.values.keys() == {"b"}
    later = Record(name, 0, 4, "b", mailbox.encode(), None, _later(MailboxRecord))
    table = Table(Log(known, later))  # type: ignore[arg-type]
    with pytest.raises(
        ConfigurationError, match=r"schema version 2\.0 \(partition 0, offset 4\).*upgrade it"
    ):
        await table.catch_up()


async def test_a_request_of_a_higher_major_version_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = SyncRequest(mailbox_id="b")
    with caplog.at_level(logging.WARNING):
        taken = await SourceConnector._take(None, request.encode(), _later(SyncRequest), None)  # type: ignore[arg-type]
    assert taken
    assert "left out: version 2.0 of mailstream.SyncRequest: this program reads 1" in caplog.text


async def test_a_dead_letter_that_cannot_be_read_is_named(caplog: pytest.LogCaptureFixture) -> None:
    letter = DeadLetter(stage="fast", error_class="E", error="e", topic="t", partition=0, offset=1)
    later = Record(topics.DEAD_LETTERS.name, 0, 5, "", letter.encode(), None, _later(DeadLetter))
    box = LetterBox("nowhere:1", Log(later))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        await box.catch_up()
    assert box.letters == {}
    assert "0:5 of the dead letters cannot be read: version 2.0 of mailstream.DeadLetter" in caplog.text


async def test_a_letter_that_was_written_twice_is_one_letter() -> None:
    """The worker died before it had acked the event: it came again."""
    letter = DeadLetter(stage="fast", error_class="E", error="e", topic="t", partition=0, offset=1)
    other = letter.model_copy(update={"offset": 2})
    box = LetterBox("nowhere:1", None)  # type: ignore[arg-type]
    for place, written in enumerate((letter, letter, other)):
        box._take(Record(topics.DEAD_LETTERS.name, 0, place, "", written.encode()))
    assert [waiting.id for waiting in box.waiting()] == ["0:0", "0:2"]


async def test_what_is_forwarded_keeps_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """A register of a higher minor version, as object and as bytes that were read again."""
    content = ContentRegister(
        mailbox_id="b",
        message_id="m",
        version=content_version(1, Outcome.TEXT, "d"),
        message=MessageContent(subject="s"),
    )
    wire = {**json.loads(content.encode()), "mood": "calm"}
    wire["message"]["colour"] = "blue"
    value = json.dumps(wire).encode()
    minor = _later(ContentRegister, (1, 1))
    register = ContentRegister.decode(value, minor)
    stored = Record(topics.DOCUMENTS.name, 0, 4, content.key, value, None, (("traceparent", b"x"), *minor))

    async def read(self: DocumentsLog, partition: int, offsets: Sequence[int]) -> list[Record]:
        return [stored]

    monkeypatch.setattr(DocumentsLog, "read", read)
    producer = Broker()
    log = DocumentsLog("nowhere:1", producer)  # type: ignore[arg-type]
    await log.write_again(0, [Winner(content.key, 3, register), Winner(content.key, 4, None)])
    known, bytes_again = producer.sent
    assert json.loads(known.value or b"") == wire
    assert known.headers == ContentRegister.schema_headers()  # what this program knows of it
    assert (bytes_again.value, bytes_again.headers) == (value, minor)
