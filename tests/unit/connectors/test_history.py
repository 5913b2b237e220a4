"""From a mailbox's history to events: scope, drafts, deletions."""

import json

from connectors.history import Translator
from connectors.mail_source import HistoryEntry
from schemas.events import ChangeKind, HeldDraft, MailboxRecord, MessageChange

MAILBOX = MailboxRecord(mailbox_id="box", address="a@example.com")
UPSERT, DELETE = ChangeKind.UPSERT, ChangeKind.DELETE
ADDED, REMOVED, LABELS = ChangeKind.LABEL_ADDED, ChangeKind.LABEL_REMOVED, ChangeKind.LABELS


class Now:
    milliseconds = 1_000_000

    def __call__(self) -> int:
        return self.milliseconds


def _translator(
    record: MailboxRecord = MAILBOX, now: Now | None = None, drafts: dict[str, HeldDraft] | None = None
) -> Translator:
    return Translator(record, 60.0, drafts if drafts is not None else {}, now or Now())


def _entry(
    kind: ChangeKind,
    history_id: int,
    message_id: str = "m",
    changed: tuple[str, ...] = (),
    labels: tuple[str, ...] | None = None,
) -> HistoryEntry:
    return HistoryEntry(kind, message_id, "t", history_id, changed, labels)


def _kinds(changes: list[MessageChange]) -> list[tuple[ChangeKind, str]]:
    return [(change.kind, change.message_id) for change in changes]


def test_each_kind_becomes_its_event() -> None:
    entries = [
        _entry(UPSERT, 1, labels=("INBOX",)),
        _entry(ADDED, 2, changed=("STARRED",)),
        _entry(REMOVED, 3, changed=("STARRED",)),
        _entry(DELETE, 4),
    ]
    changes = list(_translator().translate(entries))
    assert [(change.kind, change.history_id, change.label_ids) for change in changes] == [
        (UPSERT, 1, ("INBOX",)),
        (ADDED, 2, ("STARRED",)),
        (REMOVED, 3, ("STARRED",)),
        (DELETE, 4, None),
    ]


def test_label_changes_cost_a_fetch_only_where_they_bring_a_message_into_scope() -> None:
    included = MAILBOX.model_copy(update={"include_labels": ("Label_1",)})
    cases = [
        (MAILBOX, _entry(REMOVED, 1, changed=("TRASH",)), True),
        (MAILBOX, _entry(REMOVED, 1, changed=("TRASH",), labels=("INBOX",)), True),
        (MAILBOX, _entry(REMOVED, 1, changed=("TRASH",), labels=("SPAM",)), False),
        (MAILBOX, _entry(ADDED, 1, changed=("TRASH",)), False),
        (MAILBOX, _entry(REMOVED, 1, changed=("UNREAD",)), False),
        (included, _entry(ADDED, 1, changed=("Label_1",), labels=("Label_1",)), True),
        (included, _entry(ADDED, 1, changed=("Label_2",), labels=("Label_2",)), False),
        (included, _entry(ADDED, 1, changed=("Label_1",), labels=("Label_1", "TRASH")), False),
    ]
    for record, entry, fetched in cases:
        kinds = [change.kind for change in _translator(record).translate([entry])]
        assert kinds == ([entry.kind, UPSERT] if fetched else [entry.kind]), entry


def test_new_spam_is_not_fetched_but_known() -> None:
    [change] = _translator().translate([_entry(UPSERT, 1, labels=("SPAM", "UNREAD"))])
    assert (change.kind, change.label_ids) == (LABELS, ("SPAM", "UNREAD"))


def test_a_storm_of_autosaves_leaves_one_upsert() -> None:
    now = Now()
    drafts: dict[str, HeldDraft] = {}
    emitted: list[MessageChange] = []
    for save in range(200):
        translator = _translator(now=now, drafts=drafts)
        entries = [_entry(UPSERT, 10 * save, f"draft{save}", labels=("DRAFT",))]
        if save:
            entries.insert(0, _entry(DELETE, 10 * save - 1, f"draft{save - 1}"))
        emitted += [*translator.translate(entries), *translator.release()]
        drafts = dict(translator.drafts)
        now.milliseconds += 3_000
    assert emitted == []
    now.milliseconds += 60_000
    translator = _translator(now=now, drafts=drafts)
    assert _kinds(list(translator.release())) == [(UPSERT, "draft199")]
    assert translator.drafts == {}


def test_a_draft_that_may_have_been_read_is_deleted_aloud() -> None:
    now = Now()
    held = {"d": HeldDraft(message_id="d", history_id=5, seen_at=now.milliseconds - 40_000)}
    assert _kinds(list(_translator(now=now, drafts=held).translate([_entry(DELETE, 9, "d")]))) == [
        (DELETE, "d")
    ]


def test_a_draft_that_a_listing_may_have_named_is_deleted_aloud() -> None:
    now = Now()
    for walked, told in ((True, [(DELETE, "d")]), (False, [])):
        held = {"d": HeldDraft(message_id="d", history_id=5, seen_at=now.milliseconds)}
        translator = _translator(now=now, drafts=held)
        translator.walked = walked
        assert _kinds(list(translator.translate([_entry(DELETE, 9, "d")]))) == told


def test_a_draft_of_the_future_is_read_at_once() -> None:
    """The clock was an hour ahead when it was seen, and has gone back."""
    now = Now()
    held = {"d": HeldDraft(message_id="d", history_id=5, seen_at=now.milliseconds + 3_600_000)}
    translator = _translator(now=now, drafts=held)
    assert _kinds(list(translator.release())) == [(UPSERT, "d")]
    translator = _translator(now=now, drafts=held)
    assert _kinds(list(translator.translate([_entry(DELETE, 9, "d")]))) == [(DELETE, "d")]


def test_a_draft_that_is_sent_is_read_at_once() -> None:
    translator = _translator()
    entries = [
        _entry(UPSERT, 1, "d", labels=("DRAFT",)),
        _entry(REMOVED, 2, "d", changed=("DRAFT",), labels=("SENT",)),
    ]
    assert _kinds(list(translator.translate(entries))) == [(UPSERT, "d"), (REMOVED, "d")]
    assert translator.drafts == {}


def test_what_is_kept_is_noted_and_not_deleted() -> None:
    keeping = MAILBOX.model_copy(update={"deletions": "keep", "keep_days": 30})
    translator = _translator(keeping)
    assert list(translator.translate([_entry(DELETE, 7)])) == []
    assert translator.kept == {"m": 7}


def test_events_carry_no_nulls() -> None:
    [change] = _translator().translate([HistoryEntry(UPSERT, "m", None, 1)])
    assert not {"thread_id", "label_ids"} & json.loads(change.encode()).keys()
