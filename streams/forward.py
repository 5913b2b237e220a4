"""Registers that go backwards in the topic: the newest version is written again behind an older one.

Compaction keeps a key's latest record. Where that is an older version than one before it (a slower
extraction, a repeated event), a rebuilt index would end on the loser; so the index worker, which knows the
winner, writes it again. It does so only for a record that stands *behind* the winner: replaying the topic
writes nothing, and as what is written is never older than what stands, no two workers keep each other busy.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.broker import Broker
from connectors.kafka import Producer, Record, Send, read_offsets
from connectors.metrics import index_forwarded_counter
from schemas import topics
from schemas.headers import kept
from schemas.registers import CONTENT_PREFIX, AnyRegister, ContentVersion
from streams.fields import MessageView, PartView

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Winner:
    """The newest version of a register; ``register`` is None where it stands in the topic only."""

    key: str
    offset: int
    register: AnyRegister | None


class DocumentsLog:
    """``mail.documents`` beside its consumption: read by offset, and, with a producer, written again."""

    def __init__(self, kafka: Broker | str, producer: Producer | None = None) -> None:
        self._kafka = kafka
        self._producer = producer

    async def read(self, partition: int, offsets: Sequence[int]) -> list[Record]:
        """The records at these offsets, without those that compaction removed. Raises UnavailableError."""
        records = await read_offsets(self._kafka, topics.DOCUMENTS.name, partition, offsets)
        if len(records) < len(set(offsets)):
            log.warning("%d records are no longer in the topic", len(set(offsets)) - len(records))
        return records

    async def write_again(self, partition: int, winners: Sequence[Winner]) -> None:
        """Write these registers behind all others. Raises UnavailableError; safe to repeat."""
        if not winners or self._producer is None:
            return
        elsewhere = [winner.offset for winner in winners if winner.register is None]
        stored = {r.offset: r for r in await self.read(partition, elsewhere)} if elsewhere else {}
        sends = []
        for winner in winners:
            place = (topics.DOCUMENTS.name, winner.key)
            record = stored.get(winner.offset)
            if winner.register is not None:
                sends.append(Send.event(*place, winner.register, partition))
            elif record is not None and record.key == winner.key:
                sends.append(Send(*place, record.value or b"", partition, kept(record.headers)))
        await self._producer.send(sends)
        index_forwarded_counter.inc(len(sends))


def overtaken(
    seen: Sequence[tuple[AnyRegister, Record]], view: MessageView, parts: Mapping[str, PartView]
) -> list[Winner]:
    """The winners of one message that stand before an older version among ``seen``.

    ``view`` is the message with ``seen`` joined, ``parts`` its attachments, by path, as they stood before.
    """
    last = {register.name: (register, record) for register, record in sorted(seen, key=lambda s: s[1].offset)}
    offsets = {id(register): record.offset for register, record in seen}
    winners = []
    for name, (register, record) in last.items():
        found = _winner(name, view, parts, offsets)
        if found is None:
            continue
        version, offset, winner = found
        order = version.order() if version is not None else winner.order() if winner is not None else ()
        if offset is not None and offset < record.offset and order > register.order():
            winners.append(Winner(record.key, offset, winner))
    return winners


def _winner(
    name: str, view: MessageView, parts: Mapping[str, PartView], offsets: Mapping[int, int]
) -> tuple[ContentVersion | None, int | None, AnyRegister | None] | None:
    if not name.startswith(CONTENT_PREFIX):
        register = view.state.register(name)
        return (None, view.offsets.get(name), register) if register is not None else None
    if not view.live:
        return None  # no version of it is shown
    path = name.removeprefix(CONTENT_PREFIX)
    if not path:
        return (view.content, view.offsets.get(name), view.new_content) if view.content is not None else None
    part, content = parts.get(path), view.part_contents.get(path)
    if content is not None and (part is None or part.older_than(content)):
        return content.version, offsets.get(id(content)), content
    return (part.content, part.offset, None) if part is not None and part.content is not None else None
