"""What has been purged: whatever of it still turns up is dropped, and its record nulled in the topic."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.kafka import Producer, Record, Send, Table
from schemas.events import MailboxRecord, MailboxState, suppressed_key
from schemas.registers import AnyRegister, ContentRegister, DeletedRegister


class Gone:
    """Purged mailboxes and messages, by the registry. ``producer`` writes the nulls; None: nobody does."""

    def __init__(self, registry: Table, producer: Producer | None) -> None:
        self._registry = registry
        self._producer = producer
        self._mailboxes: dict[str, tuple[bytes | None, MailboxRecord | None]] = {}

    async def refresh(self) -> None:
        """Read on, unless that was done just now. Raises UnavailableError."""
        await self._registry.refresh()

    def has(self, register: AnyRegister) -> bool:
        """Whether the register belongs to what was purged. Not so the one that says that a message was."""
        mailbox = self._mailbox(register.mailbox_id)
        before = mailbox is not None and epoch_of(register) < mailbox.purged_below
        return before or self._for_good(register)

    def _for_good(self, register: AnyRegister) -> bool:
        if self._is_purged(register.mailbox_id):
            return True
        if isinstance(register, DeletedRegister):
            return False
        return suppressed_key(register.mailbox_id, register.message_id) in self._registry.values

    def _mailbox(self, mailbox_id: str) -> MailboxRecord | None:
        value = self._registry.values.get(mailbox_id)
        known = self._mailboxes.get(mailbox_id)
        if known is None or known[0] is not value:
            known = (value, MailboxRecord.decode(value) if value is not None else None)
            self._mailboxes[mailbox_id] = known
        return known[1]

    def purged(self) -> list[str]:
        """The ids of the mailboxes that were purged."""
        ids = [key for key in self._registry.values if "/" not in key]
        return [mailbox_id for mailbox_id in ids if self._is_purged(mailbox_id)]

    def _is_purged(self, mailbox_id: str) -> bool:
        mailbox = self._mailbox(mailbox_id)
        return mailbox is not None and mailbox.state is MailboxState.PURGED

    async def null(self, late: Sequence[tuple[AnyRegister, Record]]) -> None:
        """Take what came late out of its compacted topic again. Raises UnavailableError; safe to repeat."""
        # Where a purged mailbox was added again, a newer record may stand under the key of an older one.
        records = [record for register, record in late if self._for_good(register)]
        if records and self._producer is not None:
            await self._producer.send(
                [Send(record.topic, record.key, None, record.partition) for record in records]
            )


def epoch_of(register: AnyRegister) -> int:
    """The epoch that a register was written in."""
    return register.version.epoch if isinstance(register, ContentRegister) else register.epoch
