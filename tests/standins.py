"""What stands for Kafka where a test needs none: a producer, and the writers of dead letters."""

from collections.abc import Iterable, Sequence
from typing import Any

from connectors.errors import UnavailableError
from connectors.kafka import Record, Send
from schemas import topics
from schemas.registers import AnyRegister


class Broker:
    """Stands for the producer: what was confirmed, in order. While it is ``down``, nothing is."""

    def __init__(self) -> None:
        self.sent: list[Send] = []
        self.down = False

    async def send(self, records: Sequence[Send]) -> None:
        if self.down:
            raise UnavailableError("down")
        self.sent += records

    def values(self, topic: str, infix: str = "") -> list[bytes | None]:
        """What was sent to a topic, under keys that hold this."""
        return [send.value for send in self.sent if send.topic == topic and infix in send.key]


class Letters:
    """Stands for the dead letters: keeps what would be written."""

    def __init__(self) -> None:
        self.written: list[tuple[Record, BaseException, dict[str, Any]]] = []

    def succeeded(self) -> None:
        """Nothing to do."""

    async def write(self, record: Record, error: BaseException, **fields: Any) -> None:
        self.written.append((record, error, fields))


class NoLetters(Letters):
    """Where there may be none."""

    async def write(self, record: Record, error: BaseException, **_: Any) -> None:
        raise AssertionError(f"a dead letter of {record.topic}: {error}") from error


def records_of(
    registers: Iterable[AnyRegister], start: int = 0, written_at: int | None = None
) -> list[Record]:
    """Registers as they stand in one partition of mail.documents, from this offset on."""
    return [
        Record(topics.DOCUMENTS.name, 0, offset, register.key, register.encode(), written_at)
        for offset, register in enumerate(registers, start)
    ]
