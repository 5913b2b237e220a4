"""What is done beside the history: watches, label names, deletions that are put off."""

import asyncio
from typing import Any

import pytest

from connectors import chores
from connectors.chores import LabelNames, PutOffDeletions, Watch
from connectors.errors import AuthorizationError, GmailUnavailableError, MailstreamError
from connectors.mail_source import HistoryEntry, HistoryPage, ListingPage, Position
from connectors.mailbox_sync import Chore, MailboxSync, SyncConfig
from schemas import topics
from schemas.events import ChangeKind, Cursor, KeptDeletions, LabelDirectory, MailboxRecord, MessageChange
from tests.standins import Broker

DAY = 86_400_000
KEEPING = MailboxRecord(mailbox_id="box", address="a@example.com", deletions="keep", keep_days=30)


class Now:
    milliseconds = 1_800_000_000_000

    def __call__(self) -> int:
        return self.milliseconds


def _deleted_by(broker: Broker) -> dict[str, int]:
    changes = [MessageChange.decode(value or b"") for value in broker.values(topics.CHANGES.name)]
    return {change.message_id: change.history_id for change in changes if change.kind is ChangeKind.DELETE}


class Gmail:
    def __init__(self) -> None:
        self.names = {"INBOX": "INBOX", "Label_1": "Invoices"}
        self.entries: list[HistoryEntry] = []
        self.watches: list[tuple[Any, ...]] = []
        self.failure: MailstreamError | None = None
        self.now = Now()

    quota_units = None
    spent = (0, 0)

    async def position(self) -> Position:
        return Position(10, 0)

    raw_query = None

    def resume(self, state: str | None) -> None:
        """Nothing to do."""

    async def news(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        """Nothing to do."""

    async def list_page(self, page_token: str | None, **_: Any) -> ListingPage:
        return ListingPage((), None)

    async def history_page(self, start_history_id: int, page_token: str | None) -> HistoryPage:
        entries, self.entries = self.entries, []
        newest = max([start_history_id, *(entry.history_id for entry in entries)])
        return HistoryPage(entries, newest, None)

    async def labels(self) -> dict[str, str]:
        if self.failure is not None:
            raise self.failure
        return dict(self.names)

    async def watch(self, topic: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> int:
        if self.failure is not None:
            raise self.failure
        self.watches.append((topic, include, exclude))
        return self.now() + 7 * DAY


@pytest.fixture
def gmail(monkeypatch: pytest.MonkeyPatch) -> Gmail:
    made = Gmail()
    monkeypatch.setattr(chores, "now_milliseconds", made.now)
    return made


async def _sync(
    gmail: Gmail,
    broker: Broker,
    record: MailboxRecord,
    *made: Chore,
    cursor: Cursor | None = None,
) -> MailboxSync:
    config = SyncConfig(poll_seconds=0)
    sync = MailboxSync(record, cursor, gmail, broker, None, 0, config, made)  # type: ignore[arg-type]
    await sync.begin()
    return sync


async def test_a_watch_is_renewed_every_day_and_armed_again_after_a_failure(gmail: Gmail) -> None:
    record = MailboxRecord(mailbox_id="box", address="a@example.com", exclude_labels=("SPAM",))
    watch, broker = Watch(gmail, record, "projects/p/topics/t"), Broker()
    sync = await _sync(gmail, broker, record, watch)
    for hours in (0, 1, 12, 11):
        gmail.now.milliseconds += hours * 3_600_000
        await sync.follow_step()
    assert gmail.watches == [("projects/p/topics/t", (), ("SPAM",))] * 2, "at once, and after 24 hours"
    assert sync.cursor is not None
    assert sync.cursor.watch_expires_at == gmail.now() + 7 * DAY
    # Google refuses: history goes on, and the watch comes back with the first success.
    gmail.failure = AuthorizationError("User not authorized to perform this action on the topic")
    gmail.now.milliseconds += DAY
    await sync.follow_step()
    await sync.follow_step()
    gmail.failure = None
    gmail.now.milliseconds += 6_000
    await sync.follow_step()
    assert len(gmail.watches) == 3


async def test_a_new_owner_does_not_renew_what_was_renewed_today(gmail: Gmail) -> None:
    broker, record = Broker(), MailboxRecord(mailbox_id="box", address="a@example.com")
    sync = await _sync(gmail, broker, record, Watch(gmail, record, "t"))
    await sync.follow_step()
    again = await _sync(gmail, broker, record, Watch(gmail, record, "t"), cursor=sync.cursor)
    await again.follow_step()
    assert len(gmail.watches) == 1


async def test_label_names_are_written_when_they_change(gmail: Gmail) -> None:
    broker, record = Broker(), MailboxRecord(mailbox_id="box", address="a@example.com")
    names = LabelNames(gmail, record, broker, None)  # type: ignore[arg-type]
    sync = await _sync(gmail, broker, record, names)
    await sync.follow_step()
    gmail.now.milliseconds += chores.LABELS_MILLISECONDS + 1
    await sync.follow_step()
    gmail.names["Label_2"] = "Travel"
    gmail.failure = GmailUnavailableError("503")
    gmail.now.milliseconds += chores.LABELS_MILLISECONDS + 1
    await sync.follow_step()
    gmail.failure = None
    gmail.now.milliseconds += 6_000
    await sync.follow_step()
    written = [LabelDirectory.decode(v or b"").names for v in broker.values(topics.MAILBOXES.name, "/labels")]
    assert written == [
        {"INBOX": "INBOX", "Label_1": "Invoices"},
        {"INBOX": "INBOX", "Label_1": "Invoices", "Label_2": "Travel"},
    ]


def _deleted(message_id: str, history_id: int) -> HistoryEntry:
    return HistoryEntry(ChangeKind.DELETE, message_id, None, history_id)


def _put_off(broker: Broker, record: MailboxRecord, known: dict[str, bytes] | None = None) -> PutOffDeletions:
    return PutOffDeletions(record, broker, 6, known or {})  # type: ignore[arg-type]


async def test_deletions_are_put_off_and_fall_due_whoever_owns_the_mailbox_then(gmail: Gmail) -> None:
    broker = Broker()
    sync = await _sync(gmail, broker, KEEPING, _put_off(broker, KEEPING))
    gmail.entries = [_deleted("m1", 11)]
    await sync.follow_step()
    gmail.entries = [_deleted("m2", 12), _deleted("m1", 11)]
    await sync.follow_step()
    kept = [KeptDeletions.decode(v or b"") for v in broker.values(topics.CURSORS.name, "/kept/")]
    assert [record.history_ids for record in kept] == [{"m1": 11}, {"m1": 11, "m2": 12}]
    # The record stands before the cursor that covers the deletions.
    order = ["/kept/" in send.key for send in broker.sent if send.topic == topics.CURSORS.name]
    assert order == [False, True, False, True, False]
    assert _deleted_by(broker) == {}
    key = next(send.key for send in broker.sent if "/kept/" in send.key)
    successor = await _sync(gmail, broker, KEEPING, _put_off(broker, KEEPING, {key: kept[-1].encode()}))
    gmail.now.milliseconds += 29 * DAY
    await successor.follow_step()
    assert _deleted_by(broker) == {}
    gmail.now.milliseconds += DAY + 1
    await successor.follow_step()
    assert _deleted_by(broker) == {"m1": 11, "m2": 12}
    assert broker.values(topics.CURSORS.name, "/kept/")[-1] is None


async def test_a_mailbox_that_mirrors_again_deletes_what_was_put_off(gmail: Gmail) -> None:
    broker = Broker()
    await _put_off(broker, KEEPING).put_off(await _sync(gmail, broker, KEEPING), {"m1": 11})
    [kept] = [send for send in broker.sent if "/kept/" in send.key]
    mirroring = KEEPING.model_copy(update={"deletions": "mirror", "keep_days": None})
    sync = await _sync(gmail, broker, mirroring, _put_off(broker, mirroring, {kept.key: kept.value or b""}))
    await sync.follow_step()
    assert _deleted_by(broker) == {"m1": 11}


async def test_what_is_kept_for_good_is_not_even_noted(gmail: Gmail) -> None:
    broker, for_good = Broker(), KEEPING.model_copy(update={"keep_days": None})
    sync = await _sync(gmail, broker, for_good, _put_off(broker, for_good))
    gmail.entries = [_deleted("m1", 11)]
    await sync.follow_step()
    assert broker.values(topics.CURSORS.name, "/kept/") == []
    assert _deleted_by(broker) == {}
