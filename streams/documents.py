"""What extract writes: registers to ``mail.documents``, work that must wait to ``mail.deferred``."""

from collections.abc import Sequence
from dataclasses import replace

from connectors.kafka import MAX_REQUEST_BYTES, Producer, Send
from schemas import topics
from schemas.events import Deferred, now_milliseconds
from schemas.headers import LIVE
from schemas.identity import document_id, message_key, partition_for
from schemas.registers import AnyRegister, AttachmentContent, ContentRegister, MessageContent

# Room for the key, the headers and the batch around a record's value.
MAX_VALUE_BYTES = MAX_REQUEST_BYTES - 256 * 1024


class Documents:
    """Confirmed writes; what returned is on the broker. All registers of a message share a partition."""

    def __init__(self, producer: Producer, partitions: int) -> None:
        self._producer = producer
        self._partitions = partitions

    async def send(self, registers: Sequence[AnyRegister], *, live: bool = False) -> None:
        """Write registers; ``live`` ones need not wait behind a backfill's. Raises UnavailableError; safe to
        repeat."""
        lane = (LIVE,) if live else ()
        await self._producer.send(
            [
                Send(
                    *(topics.DOCUMENTS.name, register.key, _fitting(register), self._partition(register)),
                    headers=register.schema_headers() + lane,
                )
                for register in registers
            ]
        )

    def _partition(self, register: AnyRegister) -> int:
        return partition_for(message_key(register.mailbox_id, register.message_id), self._partitions)

    async def defer(self, work: Deferred, wait_milliseconds: int = 0) -> None:
        """Put work off for at least that long. Raises UnavailableError; safe to repeat."""
        now = now_milliseconds()
        later = work.model_copy(update={"not_before": now + wait_milliseconds})
        key = document_id(work.mailbox_id, work.message_id, work.part_path)
        # By the same clock: the difference is how long it shall wait, whatever that clock says.
        await self._producer.send([replace(Send.event(topics.DEFERRED.name, key, later), written_at=now)])


def _fitting(register: AnyRegister) -> bytes:
    """The register encoded; where it is larger than a record may be, with less text and ``truncated``."""
    while len(value := register.encode()) > MAX_VALUE_BYTES and isinstance(register, ContentRegister):
        if register.message is not None:
            register = register.model_copy(update={"message": _shorter_message(register.message)})
        elif register.attachment is not None:
            register = register.model_copy(update={"attachment": _shorter_attachment(register.attachment)})
    return value


def _shorter_message(content: MessageContent) -> MessageContent:
    return content.model_copy(update={"text": content.text[: len(content.text) // 2], "truncated": True})


def _shorter_attachment(content: AttachmentContent) -> AttachmentContent:
    segments = list(content.segments)
    if len(segments) > 1:
        segments = segments[: len(segments) // 2]
    else:
        segments = [
            segment.model_copy(update={"text": segment.text[: len(segment.text) // 2]})
            for segment in segments
        ]
    return content.model_copy(update={"segments": tuple(segments), "truncated": True})
