"""What failed for good: written down, confirmed, counted. Too many, and the worker stops instead."""

import base64
from collections import deque
from typing import Self

from pydantic import ValidationError

from connectors.broker import Broker
from connectors.errors import ForeignEventError, MailstreamError, UndecodableEventError
from connectors.kafka import Producer, Record, Send
from connectors.metrics import dead_letters_counter
from schemas import topics
from schemas.events import DeadLetter, now_milliseconds
from schemas.headers import ForeignSchemaError, kept
from schemas.identity import hashed
from streams.letter_box import LetterBox

# When this many in a row, or this part of the last WINDOW events, fail for good, it is not the events.
MAX_CONSECUTIVE = 50
MAX_RATIO = 0.5
WINDOW = 200
# A worker that is started again after it stopped here must not drain the topic in steps of MAX_CONSECUTIVE:
# what failed within this time before, and nobody has looked at, counts.
REMEMBERED_MILLISECONDS = 600_000

# Values of these topics are ids only and may stand in a dead letter; others are named by key hash.
_IDS_ONLY = {topics.CHANGES.name, topics.BACKFILL.name, topics.DEFERRED.name}


def undecodable(error: ValueError) -> UndecodableEventError:
    """Why a record's bytes are no event, without what was choked on."""
    if isinstance(error, ForeignSchemaError):
        return ForeignEventError(str(error))
    kind = error.title if isinstance(error, ValidationError) else "register"
    return UndecodableEventError(f"not a {kind}")


class TooManyDeadLettersError(MailstreamError):
    """The limit is reached: a person must look before more of the topic is drained."""


class DeadLetters:
    """The dead letters of one worker. ``stage`` names it."""

    def __init__(self, producer: Producer, stage: str, failed_before: int = 0) -> None:
        self._producer = producer
        self._stage = stage
        self._counter = dead_letters_counter.labels(stage=stage)  # there from the start, as 0
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._consecutive = min(failed_before, MAX_CONSECUTIVE)

    @classmethod
    async def go_on(cls, producer: Producer, kafka: Broker | str, stage: str) -> Self:
        """Those of a worker that starts. Raises UnavailableError."""
        async with LetterBox.open(kafka) as box:
            since = now_milliseconds() - REMEMBERED_MILLISECONDS
            open_letters = [item.letter for item in box.waiting() if item.letter.stage == stage]
        return cls(producer, stage, sum(letter.failed_at > since for letter in open_letters))

    def succeeded(self) -> None:
        """Count an event that did not fail."""
        self._recent.append(False)
        self._consecutive = 0

    async def write(
        self,
        record: Record,
        error: BaseException,
        *,
        mailbox_id: str | None = None,
        message_id: str | None = None,
        part_path: str | None = None,
        attempts: int = 1,
        error_class: str | None = None,
    ) -> None:
        """Write a dead letter and wait until it is confirmed. Raises TooManyDeadLettersError at the limit."""
        self._consecutive += 1
        self._recent.append(True)
        full = len(self._recent) == WINDOW
        if self._consecutive > MAX_CONSECUTIVE or (full and sum(self._recent) > MAX_RATIO * WINDOW):
            raise TooManyDeadLettersError(
                f"{sum(self._recent)} of the last {len(self._recent)} events failed for good: stopping; "
                "look at `mailstream dead-letters list`, mend the cause, replay or discard them, start again"
            ) from error
        ids_only = record.topic in _IDS_ONLY and record.value is not None
        letter = DeadLetter(
            mailbox_id=mailbox_id,
            message_id=message_id,
            part_path=part_path,
            stage=self._stage,
            error_class=error_class or type(error).__name__,
            # Our own errors are written to be read; a library's may quote what it choked on.
            error=str(error) if isinstance(error, MailstreamError) else type(error).__name__,
            attempts=attempts,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key_hash=hashed(record.key),
            event=base64.b64encode(record.value or b"").decode() if ids_only else None,
            headers={name: said.decode("ascii", "replace") for name, said in kept(record.headers)},
        )
        await self._producer.send([Send.event(topics.DEAD_LETTERS.name, mailbox_id or "", letter)])
        self._counter.inc()
