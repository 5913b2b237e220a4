"""The source's loop against a mailbox in memory: what it emits, and that the cursor never leads it."""

import json
from collections.abc import Sequence

from connectors.errors import HistoryExpiredError, PageTokenExpiredError, UnavailableError
from connectors.kafka import Send
from connectors.source import HistoryPage, ListingPage, MailboxSync, Position
from schemas import topics
from schemas.events import ChangeKind, Cursor, MailboxRecord, MessageChange

MAILBOX = MailboxRecord(mailbox_id="box", address="a@example.com")


class Broker:
    """Stands for the producer: what was confirmed, in order; fails on demand."""

    def __init__(self) -> None:
        self.sent: list[Send] = []
        self.fail_on: int | None = None
        self.calls = 0

    async def send(self, records: Sequence[Send]) -> None:
        self.calls += 1
        if self.calls == self.fail_on:
            raise UnavailableError("down")
        self.sent += records

    def changes(self, topic: str) -> list[MessageChange]:
        return [MessageChange.decode(send.value or b"") for send in self.sent if send.topic == topic]

    def cursors(self) -> list[Cursor]:
        return [Cursor.decode(send.value or b"") for send in self.sent if send.topic == topics.CURSORS.name]


class Mailbox:
    """Stands for Gmail: 5 messages in pages of 2, and a scripted history."""

    def __init__(self) -> None:
        self.history_id = 100
        self.ids = [f"m{number}" for number in range(5)]
        self.history: list[HistoryPage] = []
        self.expired = False
        self.stale_tokens: set[str] = set()
        self.asked_from: list[int] = []

    async def position(self) -> Position:
        return Position(self.history_id, len(self.ids))

    async def list_page(self, page_token: str | None, *, include_spam_trash: bool) -> ListingPage:
        if page_token in self.stale_tokens:
            raise PageTokenExpiredError("stale")
        start = int(page_token or 0)
        end = start + 2
        page = tuple((message_id, None) for message_id in self.ids[start:end])
        return ListingPage(page, str(end) if end < len(self.ids) else None)

    async def history_page(
        self, mailbox_id: str, epoch: int, start_history_id: int, page_token: str | None
    ) -> HistoryPage:
        self.asked_from.append(start_history_id)
        if self.expired:
            self.expired = False
            raise HistoryExpiredError("gone")
        return self.history.pop(0) if self.history else HistoryPage([], self.history_id, None)


def _sync(mailbox: Mailbox, broker: Broker, cursor: Cursor | None = None) -> MailboxSync:
    return MailboxSync(MAILBOX, cursor, mailbox, broker, poll_seconds=0)  # type: ignore[arg-type]


def _change(
    history_id: int, kind: ChangeKind = ChangeKind.UPSERT, label_ids: tuple[str, ...] = ()
) -> MessageChange:
    return MessageChange(
        mailbox_id="box", epoch=1, message_id="m9", kind=kind, history_id=history_id, label_ids=label_ids
    )


async def test_a_listing_emits_every_message_and_its_cursor_follows() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    while not (sync.cursor and sync.cursor.listing.complete):
        await sync.step()
    assert [change.message_id for change in broker.changes(topics.BACKFILL.name)] == mailbox.ids
    assert {change.history_id for change in broker.changes(topics.BACKFILL.name)} == {100}
    listed = [cursor.listing.listed for cursor in broker.cursors()]
    assert listed == sorted(listed)
    assert listed[-1] == 5


async def test_the_cursor_never_leads_the_events() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    while not (sync.cursor and sync.cursor.listing.complete):
        await sync.step()
    emitted = 0
    for send in broker.sent:
        if send.topic == topics.BACKFILL.name:
            emitted += 1
        else:
            assert Cursor.decode(send.value or b"").listing.listed <= emitted


async def test_a_crash_between_events_and_cursor_repeats_the_page_and_skips_none() -> None:
    mailbox, broker = Mailbox(), Broker()
    broker.fail_on = 4  # H0's cursor, page 1, its cursor: this one is page 2
    sync = _sync(mailbox, broker)
    try:
        for _ in range(10):
            await sync.step()
    except UnavailableError:
        pass
    restarted = _sync(mailbox, broker, broker.cursors()[-1])
    while not (restarted.cursor and restarted.cursor.listing.complete):
        await restarted.step()
    emitted = [change.message_id for change in broker.changes(topics.BACKFILL.name)]
    assert set(emitted) == set(mailbox.ids)


async def test_history_moves_to_what_the_first_page_named() -> None:
    mailbox, broker = Mailbox(), Broker()
    mailbox.history = [
        HistoryPage([_change(101)], 150, "next"),
        HistoryPage([], 170, "empty but not the end"),
        HistoryPage([_change(140)], 180, None),
    ]
    sync = _sync(mailbox, broker)
    await sync.step()
    assert [change.history_id for change in broker.changes(topics.CHANGES.name)] == [101, 140]
    assert sync.cursor is not None
    assert sync.cursor.history_id == 150


async def test_expired_history_starts_a_new_listing_from_a_new_position() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    await sync.step()
    mailbox.history_id, mailbox.expired = 900, True
    await sync.step()
    assert sync.cursor is not None
    assert sync.cursor.listing.history_id == 900
    assert sync.cursor.history_id == 900


async def test_a_stale_page_token_lists_again_from_the_same_position() -> None:
    mailbox, broker = Mailbox(), Broker()
    mailbox.stale_tokens = {"2"}
    sync = _sync(mailbox, broker)
    await sync.step()
    await sync.step()
    mailbox.stale_tokens = set()
    mailbox.history_id = 500
    while not (sync.cursor and sync.cursor.listing.complete):
        await sync.step()
    assert sync.cursor.listing.history_id == 100
    assert sync.cursor.listing.listed == 5


async def test_leaving_trash_brings_the_message_back_whole() -> None:
    mailbox, broker = Mailbox(), Broker()
    mailbox.history = [HistoryPage([_change(101, ChangeKind.LABEL_REMOVED, ("TRASH",))], 101, None)]
    await _sync(mailbox, broker).step()
    kinds = [change.kind for change in broker.changes(topics.CHANGES.name)]
    assert kinds == [ChangeKind.LABEL_REMOVED, ChangeKind.UPSERT]


async def test_a_cursor_of_an_older_epoch_is_not_followed() -> None:
    mailbox, broker = Mailbox(), Broker()
    first = _sync(mailbox, broker)
    await first.step()
    newer = MAILBOX.model_copy(update={"epoch": 2})
    sync = MailboxSync(newer, broker.cursors()[-1], mailbox, broker, 0)  # type: ignore[arg-type]
    assert sync.cursor is None


def test_events_carry_no_nulls() -> None:
    assert "thread_id" not in json.loads(_change(1).encode())
