"""What was purged is dropped in any order, and nulled only where nothing newer may stand under its key."""

from typing import Any

from connectors.kafka import Record
from schemas import topics
from schemas.events import MailboxRecord, MailboxState, Suppression, suppressed_key
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    ContentRegister,
    DeletedRegister,
    LabelsRegister,
    MessageContent,
    content_version,
)
from streams.gone import Gone
from tests.standins import Broker

OWNER: dict[str, Any] = {"mailbox_id": "box", "message_id": "m1"}


class Registry:
    def __init__(self, *records: MailboxRecord) -> None:
        self.values = {record.mailbox_id: record.encode() for record in records}


def _content(epoch: int) -> ContentRegister:
    version = content_version(epoch, Outcome.TEXT, "x")
    return ContentRegister(**OWNER, version=version, message=MessageContent(text="x"))


def _labels(epoch: int) -> LabelsRegister:
    return LabelsRegister(**OWNER, epoch=epoch, history_id=1, label_ids=())


async def _nulled(gone: Gone, broker: Broker, *registers: AnyRegister) -> list[str]:
    late = [
        (register, Record(topics.DOCUMENTS.name, 1, 7, register.key, register.encode()))
        for register in registers
    ]
    await gone.null(late)
    assert all((send.value, send.partition) == (None, 1) for send in broker.sent)
    return [send.key for send in broker.sent]


async def test_everything_of_a_purged_mailbox_is_gone() -> None:
    record = MailboxRecord(mailbox_id="box", address="", epoch=2, purged_below=2, state=MailboxState.PURGED)
    broker = Broker()
    gone = Gone(Registry(record), broker)  # type: ignore[arg-type]
    late: list[AnyRegister] = [
        _content(1),
        _labels(1),
        _labels(2),
        DeletedRegister(**OWNER, epoch=1, history_id=3),
    ]
    assert all(gone.has(register) for register in late)
    assert not gone.has(_labels(1).model_copy(update={"mailbox_id": "other"}))
    assert gone.purged() == ["box"]
    assert await _nulled(gone, broker, *late) == [register.key for register in late]


async def test_added_again_only_what_was_before_is_gone() -> None:
    record = MailboxRecord(mailbox_id="box", address="a@example.com", epoch=3, purged_below=2)
    broker = Broker()
    gone = Gone(Registry(record), broker)  # type: ignore[arg-type]
    assert gone.has(_content(1))
    assert not gone.has(_content(3))
    # The same key: to null the old record would be to lose the new one.
    assert await _nulled(gone, broker, _content(1)) == []


async def test_of_a_purged_message_only_its_deletion_stays() -> None:
    registry, broker = Registry(MailboxRecord(mailbox_id="box", address="a@example.com")), Broker()
    gone = Gone(registry, broker)  # type: ignore[arg-type]
    assert not gone.has(_content(1))
    registry.values[suppressed_key("box", "m1")] = Suppression(**OWNER).encode()
    deleted = DeletedRegister(**OWNER, epoch=1, history_id=2**62, reason="purged")
    assert gone.has(_content(9))
    assert not gone.has(deleted)
    assert not gone.has(_content(1).model_copy(update={"message_id": "m2"}))
    assert await _nulled(gone, broker, _content(9), deleted) == [_content(9).key]
