"""A mailbox's loops against a mailbox in memory: what they emit, and that the cursor never leads it."""

import asyncio
from contextlib import suppress

import pytest

from connectors.errors import (
    AuthorizationError,
    FailedPreconditionError,
    PageTokenExpiredError,
    UnavailableError,
)
from connectors.mail_source import HistoryEntry, HistoryPage, Position
from connectors.mailbox_sync import EARLY_PUSH_POLLS, MailboxSync, SyncConfig
from schemas import topics
from schemas.events import ChangeKind, Cursor, MailboxRecord, SyncRequest
from tests.syncing import Broker, Index, Mailbox

MAILBOX = MailboxRecord(mailbox_id="box", address="a@example.com", exclude_labels=())


def _sync(
    mailbox: Mailbox,
    broker: Broker,
    cursor: Cursor | None = None,
    index: Index | None = None,
    record: MailboxRecord = MAILBOX,
) -> MailboxSync:
    config = SyncConfig(poll_seconds=0, draft_quiet_seconds=60, audit_hours=0, audit_repair=False)
    return MailboxSync(record, cursor, mailbox, broker, index or Index(), 3, config)  # type: ignore[arg-type]


async def _listed(sync: MailboxSync) -> Cursor:
    await sync.begin()
    while not (sync.cursor and sync.cursor.listing.complete):
        await sync._walk.step()
    return sync.cursor


def _entry(
    history_id: int, kind: ChangeKind = ChangeKind.UPSERT, changed: tuple[str, ...] = ()
) -> HistoryEntry:
    return HistoryEntry(kind, "m9", None, history_id, changed)


async def test_a_listing_emits_every_message_and_its_cursor_follows() -> None:
    mailbox, broker = Mailbox(), Broker()
    await _listed(_sync(mailbox, broker))
    changes = broker.changes(topics.BACKFILL.name)
    assert [change.message_id for change in changes] == mailbox.ids
    assert {change.history_id for change in changes} == {100}
    assert [change.message_id for change in changes if change.fetch == "raw"] == ["m3"]
    listed = [cursor.listing.listed for cursor in broker.cursors()]
    assert listed == sorted(listed)
    assert listed[-1] == 5


async def test_the_cursor_never_leads_the_events() -> None:
    mailbox, broker = Mailbox(), Broker()
    await _listed(_sync(mailbox, broker))
    emitted = 0
    for send in broker.sent:
        if send.topic == topics.BACKFILL.name:
            emitted += 1
        else:
            assert Cursor.decode(send.value or b"").listing.listed <= emitted


@pytest.mark.parametrize("fail_on", range(1, 8))
async def test_a_crash_anywhere_repeats_and_skips_none(fail_on: int) -> None:
    mailbox, broker = Mailbox(), Broker()
    broker.fail_on = fail_on
    with suppress(UnavailableError):
        await _listed(_sync(mailbox, broker))
    assert broker.calls >= fail_on
    restarted = _sync(mailbox, broker, next(reversed(broker.cursors()), None))
    await _listed(restarted)
    assert {change.message_id for change in broker.changes(topics.BACKFILL.name)} == set(mailbox.ids)


async def test_history_moves_to_what_the_first_page_named() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    await sync.begin()
    mailbox.stale_tokens = {"stale"}
    mailbox.history = [
        HistoryPage([_entry(101)], 150, "next"),
        HistoryPage([], 170, "empty but not the end"),
        HistoryPage([_entry(140)], 180, None),
    ]
    assert await sync.follow_history() == 150
    assert [change.history_id for change in broker.changes(topics.CHANGES.name)] == [101, 140]
    assert sync.cursor is not None
    assert sync.cursor.history_id == 150


async def test_a_stale_history_token_starts_the_pass_again() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    await sync.begin()
    mailbox.stale_tokens = {"next"}
    mailbox.history = [
        HistoryPage([_entry(101)], 150, "next"),
        HistoryPage([_entry(101)], 160, None),
    ]
    assert await sync.follow_history() == 150
    assert [change.history_id for change in broker.changes(topics.CHANGES.name)] == [101, 101]


async def test_expired_history_makes_the_index_equal_to_the_mailbox() -> None:
    mailbox, broker = Mailbox(), Broker()
    index = Index(m0={"INBOX"}, m1=set(), m2=set(), m3=set(), gone={"INBOX"})
    sync = _sync(mailbox, broker, index=index)
    await _listed(sync)
    mailbox.history_id, mailbox.expired = 900, True
    await sync.follow_history()
    assert sync.cursor is not None
    assert (sync.cursor.listing.kind, sync.cursor.listing.complete) == ("resync", False)
    assert sync.cursor.history_id == sync.cursor.listing.history_id == 900
    before = len(broker.changes(topics.BACKFILL.name))
    await sync._walk.step()
    changes = broker.changes(topics.BACKFILL.name)[before:]
    assert {change.history_id for change in changes} == {900}
    labels = {change.message_id: change.label_ids for change in changes if change.kind == ChangeKind.LABELS}
    assert labels == {"m0": ("INBOX",), "m1": ("INBOX", "UNREAD"), "m2": (), "m3": (), "m4": ()}
    kinds = [(change.kind, change.message_id) for change in changes if change.kind != ChangeKind.LABELS]
    assert kinds == [(ChangeKind.UPSERT, "m4"), (ChangeKind.DELETE, "announced"), (ChangeKind.DELETE, "gone")]
    assert sync.cursor.listing.complete
    assert sync.cursor.requests[-1].kind == "audit", "a resync ends with an audit"


async def test_what_came_in_a_gap_is_fetched_although_its_labels_change_meanwhile() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker, index=Index(m0=set(), m1=set(), m2=set(), m3=set()))
    await _listed(sync)
    mailbox.history_id, mailbox.expired = 900, True
    await sync.follow_history()
    entries = [
        HistoryEntry(ChangeKind.LABEL_ADDED, "m4", None, 901, ("STARRED",), ("STARRED",)),
        HistoryEntry(ChangeKind.UPSERT, "m5", None, 902, (), ("INBOX",)),
    ]
    mailbox.ids.append("m5")
    mailbox.history = [HistoryPage(entries, 902, None)]
    await sync._walk.step()
    upserts = [c.message_id for c in broker.changes(topics.BACKFILL.name) if c.kind is ChangeKind.UPSERT]
    assert upserts == [*("m0", "m1", "m2", "m3", "m4"), "m4"], "the history tells of m5, but not of m4's text"


async def test_a_resync_that_cannot_list_everything_deletes_nothing() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker, index=Index(gone=set()))
    await _listed(sync)
    mailbox.expired = True
    await sync.follow_history()
    mailbox.stale_tokens = {"4"}
    with pytest.raises(PageTokenExpiredError):
        await sync._walk.step()
    assert not [c for c in broker.changes(topics.BACKFILL.name) if c.kind is ChangeKind.DELETE]
    assert sync.cursor is not None
    assert not sync.cursor.listing.complete


async def test_a_stale_page_token_lists_again_from_the_same_position() -> None:
    mailbox, broker = Mailbox(), Broker()
    mailbox.stale_tokens = {"2"}
    sync = _sync(mailbox, broker)
    await sync.begin()
    await sync._walk.step()
    await sync._walk.step()
    mailbox.stale_tokens = set()
    mailbox.history_id = 500
    cursor = await _listed(sync)
    assert cursor.listing.history_id == 100
    assert cursor.listing.listed == 5
    emitted = [change.message_id for change in broker.changes(topics.BACKFILL.name)]
    assert emitted == mailbox.ids, "what was emitted before the token went stale is not emitted twice"


async def test_an_audit_names_what_differs_and_leaves_out_what_is_on_its_way() -> None:
    mailbox, broker = Mailbox(), Broker()
    index = Index(m0={"INBOX"}, m1={"INBOX"}, m2=set(), gone=set(), going=set())
    sync = _sync(mailbox, broker, index=index)
    await _listed(sync)
    before = len(broker.changes(topics.BACKFILL.name))
    await sync._walk.step()  # the audit that ends the listing says also what the listing could not
    said = {c.message_id: c.label_ids for c in broker.changes(topics.BACKFILL.name)[before:]}
    assert said == {"m0": ("INBOX",), "m1": ("INBOX", "UNREAD"), "m2": (), "m3": (), "m4": ()}
    mailbox.history = [
        HistoryPage([HistoryEntry(ChangeKind.DELETE, "going", None, 101)], 101, None),
    ]
    request = SyncRequest(mailbox_id="box", kind="audit", request_id="r1", repair=True)
    assert await sync.record(request)
    assert await sync.record(request), "the same request again is one request"
    before = len(broker.changes(topics.BACKFILL.name))
    await sync._walk.step()
    assert sync.cursor is not None
    report = sync.cursor.audit
    assert report is not None
    assert (report.request_id, report.missing, report.stale, report.labels) == ("r1", 2, 1, 1)
    assert report.sample == {"missing": ("m3", "m4"), "stale": ("gone",), "labels": ("m1",)}
    repairs = [(c.kind, c.message_id, c.origin) for c in broker.changes(topics.BACKFILL.name)[before:]]
    assert repairs == [
        (ChangeKind.LABELS, "m1", "audit"),
        (ChangeKind.UPSERT, "m3", "audit"),
        (ChangeKind.UPSERT, "m4", "audit"),
        (ChangeKind.DELETE, "gone", "audit"),
    ]
    assert sync.cursor.requests == ()


async def test_an_audit_that_repairs_leaves_out_what_was_purged() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker, index=Index(m0={"INBOX"}, m1={"INBOX", "UNREAD"}, m2=set()))
    await _listed(sync)
    sync.suppressed = lambda: frozenset({"m3"})
    await sync._walk.step()
    assert await sync.record(SyncRequest(mailbox_id="box", kind="audit", request_id="r", repair=True))
    before = len(broker.changes(topics.BACKFILL.name))
    await sync._walk.step()
    repairs = [(c.kind, c.message_id) for c in broker.changes(topics.BACKFILL.name)[before:]]
    assert repairs == [(ChangeKind.UPSERT, "m4")]


async def test_a_mailbox_that_keeps_what_gmail_deletes_is_not_stale() -> None:
    mailbox, broker = Mailbox(), Broker()
    keeping = MAILBOX.model_copy(update={"deletions": "keep"})
    index = Index(m0={"INBOX"}, m1={"INBOX", "UNREAD"}, m2=set(), m3=set(), m4=set(), gone=set())
    sync = _sync(mailbox, broker, index=index, record=keeping)
    await _listed(sync)
    await sync._walk.step()
    assert sync.cursor is not None and sync.cursor.audit is not None
    assert (sync.cursor.audit.differences, sync.cursor.audit.kept) == (0, 1)
    mailbox.history = [HistoryPage([_entry(101, ChangeKind.DELETE)], 101, None)]
    await sync.follow_history()
    assert broker.changes(topics.CHANGES.name) == []


async def test_a_dry_run_counts_and_emits_nothing() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    await _listed(sync)
    await sync._walk.step()
    before = len(broker.changes(topics.BACKFILL.name))
    await sync.record(SyncRequest(mailbox_id="box", kind="backfill", request_id="r", dry_run=True))
    await sync._walk.step()
    assert sync.cursor is not None and sync.cursor.estimate is not None
    assert (sync.cursor.estimate.request_id, sync.cursor.estimate.messages) == ("r", 5)
    assert len(broker.changes(topics.BACKFILL.name)) == before


async def test_pushes_wake_once_each_and_duplicates_not_at_all() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    await sync.begin()
    for _ in range(10_000):
        sync.hint(SyncRequest(mailbox_id="box", history_id=100))  # equal to the cursor: still a hint
    polls = mailbox.polls
    await sync.follow_step()
    assert mailbox.polls == polls + 1
    for history_id in (100, 7):
        sync.hint(SyncRequest(mailbox_id="box", history_id=history_id))
    assert not sync._hints.woken.is_set()


async def test_an_early_push_is_looked_after_soon() -> None:
    mailbox, broker = Mailbox(), Broker()
    sync = _sync(mailbox, broker)
    sync.config = SyncConfig(poll_seconds=3600)
    await sync.begin()
    sync.hint(SyncRequest(mailbox_id="box", history_id=120))
    await asyncio.wait_for(sync.follow_step(), 5)  # not yet in the history: comes back by itself
    mailbox.history = [HistoryPage([_entry(120)], 120, None)]
    with suppress(TimeoutError):
        await asyncio.wait_for(sync.follow_step(), 0.2)
    assert [change.history_id for change in broker.changes(topics.CHANGES.name)] == [120]


async def test_a_push_that_names_what_never_comes_does_not_silence_later_ones() -> None:
    sync = _sync(Mailbox(), Broker())
    sync.config = SyncConfig(poll_seconds=0.001)
    await sync.begin()
    sync.hint(SyncRequest(mailbox_id="box", history_id=10**15))
    for _ in range(EARLY_PUSH_POLLS + 1):
        await sync.follow_step()
    assert not sync._hints.woken.is_set()
    sync.hint(SyncRequest(mailbox_id="box", history_id=101))
    assert sync._hints.woken.is_set()


async def test_a_mailbox_without_gmail_is_given_up_after_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox()

    async def refuse() -> Position:
        raise FailedPreconditionError("Mail service not enabled")

    async def no_sleep(_seconds: float) -> None:
        return None

    monkeypatch.setattr(mailbox, "position", refuse)
    monkeypatch.setattr("connectors.mailbox_sync.asyncio.sleep", no_sleep)
    with pytest.raises(AuthorizationError):
        await _sync(mailbox, Broker()).run()


async def test_a_cursor_of_an_older_epoch_is_not_followed() -> None:
    mailbox, broker = Mailbox(), Broker()
    await _sync(mailbox, broker).begin()
    newer = MAILBOX.model_copy(update={"epoch": 2})
    assert _sync(mailbox, broker, broker.cursors()[-1], record=newer).cursor is None
