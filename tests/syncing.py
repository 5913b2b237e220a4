"""A mailbox that is followed, and who follows it: stand-ins for Gmail, the producer and the index."""

import asyncio
from collections.abc import Sequence

from connectors.errors import (
    HistoryExpiredError,
    PageTokenExpiredError,
)
from connectors.kafka import Send
from connectors.mail_source import HistoryPage, ListingPage, Position
from schemas import topics
from schemas.events import Cursor, MessageChange
from tests import standins


class Broker(standins.Broker):
    """Fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_on: int | None = None
        self.calls = 0

    async def send(self, records: Sequence[Send]) -> None:
        self.calls += 1
        self.down = self.calls == self.fail_on
        await super().send(records)

    def changes(self, topic: str) -> list[MessageChange]:
        return [MessageChange.decode(value or b"") for value in self.values(topic)]

    def cursors(self) -> list[Cursor]:
        return [Cursor.decode(value or b"") for value in self.values(topics.CURSORS.name)]


class Mailbox:
    """Stands for Gmail: 5 messages in pages of 2, and a scripted history."""

    def __init__(self) -> None:
        self.history_id = 100
        self.ids = [f"m{number}" for number in range(5)]
        self.worn: dict[str, set[str]] = {"m0": {"INBOX"}, "m1": {"INBOX", "UNREAD"}}
        self.small_with_attachment = {"m3"}
        self.history: list[HistoryPage] = []
        self.expired = False
        self.stale_tokens: set[str] = set()
        self.polls = 0

    quota_units = None
    raw_query = "has:attachment smaller:10M"

    def resume(self, state: str | None) -> None:
        self.resumed = state

    async def news(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        """Nothing to do."""

    async def position(self) -> Position:
        return Position(self.history_id, len(self.ids))

    async def list_page(
        self,
        page_token: str | None,
        *,
        query: str | None = None,
        label_id: str | None = None,
        include_spam_trash: bool = True,
    ) -> ListingPage:
        if page_token in self.stale_tokens:
            raise PageTokenExpiredError("stale")
        start, end = int(page_token or 0), int(page_token or 0) + 2
        ids = [
            message_id
            for message_id in self.ids
            if (label_id is None or label_id in self.worn.get(message_id, ()))
            and ("has:attachment" not in (query or "") or message_id in self.small_with_attachment)
        ]
        page = tuple((message_id, None) for message_id in ids[start:end])
        return ListingPage(page, str(end) if end < len(ids) else None)

    async def history_page(self, start_history_id: int, page_token: str | None) -> HistoryPage:
        self.polls += 1
        if page_token in self.stale_tokens:
            self.stale_tokens.discard(page_token or "")
            raise PageTokenExpiredError("stale")
        if self.expired:
            self.expired = False
            raise HistoryExpiredError("gone")
        return self.history.pop(0) if self.history else HistoryPage([], self.history_id, None)

    async def labels(self) -> dict[str, str]:
        return {"INBOX": "INBOX", "UNREAD": "UNREAD", "Label_1": "Invoices"}

    async def watch(self, topic: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> int:
        return 0


class Index:
    """Stands for what is behind the source: everything has arrived, and this is what stands there."""

    def __init__(self, **messages: set[str]) -> None:
        self.held = {message_id: frozenset(labels) for message_id, labels in messages.items()}

    async def consumed(self, partition: int) -> None:
        assert partition == 3

    async def messages(self, mailbox_id: str) -> dict[str, frozenset[str]]:
        return self.held

    async def announced(self, mailbox_id: str, partition: int, listed_at: int | None = None) -> set[str]:
        return {"m0", "announced"} if listed_at is None else {"m0", "m1"}
