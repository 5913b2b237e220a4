"""The dead letters as a person deals with them: which are open, replayed by the ordinary path, or discarded.

``mail.dead-letters`` only grows, and forgets after a month. That a letter is dealt with is a further record.
"""

from __future__ import annotations

import base64
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from connectors.broker import Broker
from connectors.kafka import Log, Producer, Record, Send, read_partition
from schemas import topics
from schemas.events import DeadLetter, DeadLetterResolution, Deferred, MessageChange
from schemas.headers import ForeignSchemaError, kept
from schemas.identity import document_id, hashed

log = logging.getLogger(__name__)

Ending = Literal["replayed", "discarded", "gone", "unreadable"]


@dataclass(slots=True)
class Letter:
    """A dead letter, its id (``<partition>:<offset>`` in the topic), and what became of it."""

    id: str
    letter: DeadLetter
    resolution: DeadLetterResolution | None = None

    @property
    def open(self) -> bool:
        """Whether nobody has dealt with it."""
        return self.resolution is None


class LetterBox:
    """All letters that the topic still has, by id; ``catch_up`` reads on.

    A worker that dies between a letter and the ack of its event writes the letter again: it is one letter.
    """

    def __init__(self, kafka: Broker | str, log: Log) -> None:
        self._kafka = kafka
        self._log = log
        self._events: dict[tuple[object, ...], str] = {}  # what failed, and its letter
        self.letters: dict[str, Letter] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: Broker | str) -> AsyncIterator[LetterBox]:
        """The box, read to its end."""
        async with Log.open(kafka, topics.DEAD_LETTERS.name) as log:
            box = cls(kafka, log)
            await box.catch_up()
            yield box

    async def catch_up(self) -> None:
        """Read on. Raises UnavailableError."""
        async for record in self._log.read():
            self._take(record)

    def _take(self, record: Record) -> None:
        value, place = record.value or b"", f"{record.partition}:{record.offset}"
        with suppress(ValueError):
            resolution = DeadLetterResolution.decode(value, record.headers)
            # A letter that the topic has forgotten needs no resolution either.
            if resolution.letter in self.letters:
                self.letters[resolution.letter].resolution = resolution
            return
        try:
            letter = DeadLetter.decode(value, record.headers)
        except ValueError as error:
            reason = str(error) if isinstance(error, ForeignSchemaError) else type(error).__name__
            log.warning("record %s of the dead letters cannot be read: %s", place, reason)
            return
        event = (
            letter.topic,
            letter.partition,
            letter.offset,
            letter.message_id,
            letter.part_path,
            letter.stage,
        )
        known = self.letters.get(self._events.get(event, ""))
        if known is None or not known.open:  # a topic that was made anew counts from 0 again
            self._events[event] = place
            self.letters[place] = Letter(place, letter)

    def waiting(self) -> list[Letter]:
        """The letters that nobody has dealt with, the oldest first."""
        return [letter for letter in self.letters.values() if letter.open]

    async def replay(self, producer: Producer, letters: Sequence[Letter]) -> dict[str, Ending]:
        """Send what failed through the ordinary path again; how that ended, by letter.

        An event is written to its topic again. Of a document, whose text no letter has, the latest record of
        its key is; ``gone`` where that has been deleted since. ``unreadable``: no event, it stays open.
        """
        endings: dict[str, Ending] = {}
        sends = await self._documents([letter for letter in letters if letter.letter.event is None])
        for letter in letters:
            send = sends.get(letter.id) if letter.letter.event is None else _event(letter.letter)
            if send is not None:
                await producer.send([send])
                endings[letter.id] = "replayed"
                # Only now: a letter that is marked has been sent.
                await self._resolve(producer, letter, "replayed")
            elif letter.letter.event is None:
                endings[letter.id] = "gone"
                await self._resolve(producer, letter, "discarded")
            else:
                endings[letter.id] = "unreadable"
        return endings

    async def discard(self, producer: Producer, letters: Sequence[Letter]) -> dict[str, Ending]:
        """Mark letters as not to be replayed."""
        for letter in letters:
            await self._resolve(producer, letter, "discarded")
        return {letter.id: "discarded" for letter in letters}

    async def _resolve(
        self, producer: Producer, letter: Letter, action: Literal["replayed", "discarded"]
    ) -> None:
        letter.resolution = DeadLetterResolution(letter=letter.id, action=action)
        key = letter.letter.mailbox_id or ""
        await producer.send([Send.event(topics.DEAD_LETTERS.name, key, letter.resolution)])

    async def _documents(self, letters: Sequence[Letter]) -> dict[str, Send]:
        """The latest record of each letter's key, by letter: each partition is read once."""
        wanted: dict[tuple[str, int], dict[str, list[Letter]]] = defaultdict(lambda: defaultdict(list))
        for letter in letters:
            dead = letter.letter
            wanted[dead.topic, dead.partition][dead.key_hash or ""].append(letter)
        found: dict[str, Send] = {}
        for (topic, partition), by_key in wanted.items():
            async for record in read_partition(self._kafka, topic, partition):
                for letter in by_key.get(hashed(record.key), ()):
                    if record.value is None:
                        found.pop(letter.id, None)
                    else:
                        headers = kept(record.headers)
                        found[letter.id] = Send(topic, record.key, record.value, partition, headers)
        return found


def _event(letter: DeadLetter) -> Send | None:
    """The event as it was, under its key; None when it cannot be read even now."""
    value = base64.b64decode(letter.event or "")
    headers = tuple((name, said.encode()) for name, said in letter.headers.items())
    try:
        if letter.topic == topics.DEFERRED.name:
            # A person has looked: it need not wait, and is tried as if for the first time.
            work = Deferred.decode(value, headers).model_copy(update={"not_before": 0, "attempts": 0})
            key = document_id(work.mailbox_id, work.message_id, work.part_path)
            return Send.event(letter.topic, key, work)
        change = MessageChange.decode(value, headers)
        return Send(letter.topic, change.mailbox_id, value, headers=headers)
    except ValueError:
        return None
