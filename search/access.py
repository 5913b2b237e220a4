"""Which mailboxes a caller may read: a clause that every request to the index carries."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Access:
    """The mailboxes that may be read; ``mailbox_ids`` None: all. Nobody reads without one of these."""

    mailbox_ids: frozenset[str] | None

    @classmethod
    def everything(cls) -> "Access":
        """Who runs the command on the server reads every mailbox."""
        return cls(None)

    @classmethod
    def only(cls, mailbox_ids: Iterable[str]) -> "Access":
        """These mailboxes, and none where there are none."""
        return cls(frozenset(mailbox_ids))

    def allows(self, mailbox_id: str) -> bool:
        """Whether that mailbox may be read."""
        return self.mailbox_ids is None or mailbox_id in self.mailbox_ids

    def clauses(self) -> list[dict[str, Any]]:
        """What each document must fulfil to be seen, to be put into ``filter``."""
        live: list[dict[str, Any]] = [{"term": {"live": True}}]
        if self.mailbox_ids is None:
            return live
        return [*live, {"terms": {"mailbox_id": sorted(self.mailbox_ids)}}]
