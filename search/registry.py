"""The registry as the query side sees it: addresses and labels of the mailboxes that a caller may read."""

from __future__ import annotations

from connectors.kafka import Table
from schemas.events import MailboxRecord, labels_key
from search.access import Access
from search.labels import LabelDirectories


class Registry:
    """Reads ``mail.mailboxes``, which is kept open and up to date while it is asked."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def labels(self, access: Access) -> LabelDirectories:
        """The label directories of the caller's mailboxes: another's label names are not even denied."""
        await self._table.refresh()
        suffix = labels_key("")
        return LabelDirectories(
            {
                key: value
                for key, value in self._table.values.items()
                if key.endswith(suffix) and access.allows(key.removesuffix(suffix))
            }
        )

    async def address(self, mailbox_id: str) -> str | None:
        """The address of a mailbox; None where there is no such mailbox."""
        await self._table.refresh()
        value = self._table.values.get(mailbox_id)
        return MailboxRecord.decode(value).address if value is not None else None
