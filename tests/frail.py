"""An index that dies in the middle of a write, and a topic that is a list."""

import asyncio
from collections.abc import Sequence

from connectors.elasticsearch import Index, Stored, Write
from connectors.errors import ConflictError, MailstreamError
from connectors.kafka import Record
from schemas import topics
from schemas.registers import AnyRegister
from streams.forward import DocumentsLog, Winner


class Crash(Exception):  # noqa: N818 - a process does not end in an error, it ends
    """The worker died here."""


class FrailIndex(Index):
    """Dies before or after the next write, where it is told to; counts what it sees."""

    dies: str | None = None
    conflicts = 0
    reads_together: asyncio.Barrier | None = None

    async def current(self, encoder: str | None = None) -> Index:
        # The alias does not move here, and who goes by name must be as frail.
        self.name = (await super().current(encoder)).name
        return self

    async def read(self, document_ids: Sequence[str], fields: Sequence[str]) -> dict[str, Stored]:
        stored = await super().read(document_ids, fields)
        if self.reads_together is not None:
            # Two workers that read the same before either writes: one of them must lose.
            barrier, self.reads_together = self.reads_together, None
            await barrier.wait()
        return stored

    async def write(self, writes: Sequence[Write]) -> list[MailstreamError | None]:
        dies, self.dies = self.dies, None
        if dies == "before bulk":
            raise Crash
        results = await super().write(writes)
        self.conflicts += sum(isinstance(result, ConflictError) for result in results)
        if dies == "after bulk":
            raise Crash
        return results


class Topic(DocumentsLog):
    """``mail.documents`` as a list: offsets stay what they are when it is compacted."""

    def __init__(self) -> None:
        super().__init__("")
        self.records: list[Record] = []
        self.end = 0

    def append(self, register: AnyRegister) -> None:
        self.records.append(Record(topics.DOCUMENTS.name, 0, self.end, register.key, register.encode()))
        self.end += 1

    async def read(self, partition: int, offsets: Sequence[int]) -> list[Record]:
        return [record for record in self.records if record.offset in offsets]

    async def write_again(self, partition: int, winners: Sequence[Winner]) -> None:
        stored = {record.offset: record for record in self.records}
        for winner in winners:
            value = winner.register.encode() if winner.register else stored[winner.offset].value
            self.records.append(Record(topics.DOCUMENTS.name, 0, self.end, winner.key, value))
            self.end += 1

    def compact(self) -> None:
        last = {record.key: record for record in self.records}
        self.records = sorted(last.values(), key=lambda record: record.offset)
