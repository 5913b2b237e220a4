"""An emulated mailbox: ids that repeat, threads, labels, and a history that tells what happened."""

from collections.abc import Iterable

import pytest

from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.message import MessageReader
from devstack.gmail.query import Query, shows_spam_and_trash
from devstack.gmail.store import HISTORY_FIELDS, Mailbox

ALL_KINDS = frozenset(HISTORY_FIELDS)
DAY = 86_400


def mail(subject: str, body: str = "body", **headers: str) -> bytes:
    lines = [
        f"Subject: {subject}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return ("\n".join(lines) + f"\n\n{body}\n").encode()


def mailbox(*mails: bytes, address: str = "anna@example.com") -> Mailbox:
    box = Mailbox(address)
    box.load(MailBytes(raw) for raw in mails)
    return box


def find(box: Mailbox, query: str, now: float = 0.0) -> list[str]:
    terms = Query(query, box, MessageReader(), now)
    return [message.headers["subject"] for message in box.messages() if terms.matches(message)]


def test_two_loads_give_the_same_ids_threads_and_history_ids() -> None:
    mails = [mail("a"), mail("b", Date="Mon, 1 Jan 2024 10:00:00 +0000"), mail("Re: a"), mail("a")]
    first, second = mailbox(*mails), mailbox(*mails)
    assert first.truth() == second.truth()
    assert first.history_id == second.history_id > 1_000
    assert len(first.truth()) == 4, "the same mail twice is two messages"
    assert all(len(message_id) == 16 and int(message_id, 16) for message_id in first.truth())


def test_another_mailbox_with_the_same_mail_has_other_ids() -> None:
    one, other = mailbox(mail("a")), mailbox(mail("a"), address="bob@example.com")
    assert not set(one.truth()) & set(other.truth())


def test_messages_come_newest_first_and_undated_ones_last() -> None:
    box = mailbox(
        mail("old", Date="Mon, 1 Jan 2024 10:00:00 +0000"),
        mail("undated", Date="yesterday"),
        mail("new", Date="Tue, 2 Jan 2024 10:00:00 +0000"),
    )
    assert [message.headers["subject"] for message in box.messages()] == ["new", "old", "undated"]


def test_threads_follow_references_then_reply_subjects_then_takeout() -> None:
    box = mailbox(
        mail("plan", Message_ID="<1@x>", Date="Mon, 1 Jan 2024 10:00:00 +0000"),
        mail("other words", In_Reply_To="<1@x>", Date="Mon, 1 Jan 2024 11:00:00 +0000"),
        mail("RE: Fwd: plan", Date="Mon, 1 Jan 2024 12:00:00 +0000"),
        mail("plan", Date="Mon, 1 Jan 2024 13:00:00 +0000"),
        mail("a", References="<lost@x>", Date="Mon, 1 Jan 2024 14:00:00 +0000"),
        mail("b", References="<lost@x>", Date="Mon, 1 Jan 2024 15:00:00 +0000"),
        mail("c", X_GM_THRID="1520524314001511398", Date="Mon, 1 Jan 2024 16:00:00 +0000"),
    )
    threads = [message.thread_id for message in reversed(box.messages())]
    assert threads[0] == threads[1] == threads[2] != threads[3]
    assert threads[4] == threads[5]
    assert threads[6] == "1519fcceb86793e6"


def test_takeout_labels_become_labels() -> None:
    box = mailbox(mail("a", X_Gmail_Labels="Inbox,Unread,Category Promotions,Opened,Projects/Boat"))
    (message,) = box.messages()
    assert message.labels == ["INBOX", "UNREAD", "CATEGORY_PROMOTIONS", "Label_1"]
    assert box.label_name("Label_1") == "Projects/Boat"
    assert box.label_resources()[-1] == {"id": "Label_1", "name": "Projects/Boat", "type": "user"}


def test_history_tells_the_four_kinds_in_order() -> None:
    box = mailbox(mail("a"))
    start = box.history_id
    added = box.add(mail("b"))
    box.modify(added.id, ["Boat"], ["UNREAD"])
    box.trash(added.id)
    box.delete(added.id)
    resources = [record.resource(ALL_KINDS, None) for record in box.history_after(start)]
    ids = [int(resource["id"]) for resource in resources if resource]
    assert ids == sorted(set(ids))
    assert ids[0] > start
    assert ids[-1] == box.history_id
    stub = {"id": added.id, "threadId": added.thread_id}
    new, labelled, trashed, deleted = (resource or {} for resource in resources)
    assert new["messages"] == [stub]
    assert new["messagesAdded"] == [{"message": {**stub, "labelIds": ["INBOX", "UNREAD"]}}]
    assert [entry["labelIds"] for entry in labelled["labelsAdded"]] == [["Label_1"]]
    assert [entry["labelIds"] for entry in labelled["labelsRemoved"]] == [["UNREAD"]]
    assert [entry["labelIds"] for entry in trashed["labelsRemoved"]] == [["INBOX"]]
    assert deleted["messagesDeleted"][0]["message"]["id"] == added.id


def test_history_can_be_filtered_by_kind_and_label() -> None:
    box = mailbox(mail("a"))
    start = box.history_id
    (message,) = box.messages()
    box.modify(message.id, ["STARRED"])
    box.modify(message.id, [], ["STARRED"])
    box.modify(message.id, [], ["INBOX"])

    def told(kinds: Iterable[str], label: str | None) -> list[bool]:
        return [record.resource(frozenset(kinds), label) is not None for record in box.history_after(start)]

    assert told(["labelAdded"], None) == [True, False, False]
    assert told(ALL_KINDS, "STARRED") == [True, True, False]
    assert told(["messageAdded", "messageDeleted"], None) == [False, False, False]


def test_history_out_of_reach_is_refused() -> None:
    box = mailbox(mail("a"))
    start = box.history_id
    box.add(mail("b"))
    middle = box.history_id
    box.add(mail("c"))
    box.drop_history_before(middle)
    assert [record.id for record in box.history_after(middle)] == [box.history_id]
    for unknown in (0, start, box.history_id + 1):
        with pytest.raises(KeyError):
            box.history_after(unknown)


def test_a_change_without_effect_leaves_no_trace() -> None:
    box = mailbox(mail("a"))
    (message,) = box.messages()
    before = box.history_id
    box.modify(message.id, ["INBOX"], ["SPAM"])
    assert box.history_id == before
    assert box.history_after(before) == []


def test_every_change_is_announced_with_the_labels_it_concerns() -> None:
    box = mailbox(mail("a"))
    heard: list[frozenset[str]] = []
    box.on_change = lambda _box, labels: heard.append(labels)
    (message,) = box.messages()
    box.modify(message.id, [], ["INBOX"])
    box.delete(message.id)
    assert heard == [frozenset({"INBOX"}), frozenset()]


def test_who_has_an_attachment_is_parsed_once() -> None:
    box = mailbox(*(mail(f"{number}", Content_Type="text/plain; name=a.txt") for number in range(9)))
    assert len(find(box, "has:attachment")) == 9
    for message in box.messages():
        message.source = MailBytes(b"")
    assert len(find(box, "has:attachment")) == 9


@pytest.mark.parametrize(
    ("query", "subjects"),
    [
        ("", ["invoice", "picnic", "old"]),
        ("from:bob", ["invoice"]),
        ("to:anna", ["picnic"]),
        ("subject:picnic", ["picnic"]),
        ('subject:"the picnic"', []),
        ("rfc822msgid:<2@x>", ["picnic"]),
        ("has:attachment", ["invoice"]),
        ("larger:1k", ["picnic"]),
        ("smaller:1k", ["invoice", "old"]),
        ("after:2024/01/01", ["invoice", "picnic"]),
        ("before:2024/01/01", ["old"]),
        ("after:1704067200 before:2024-01-02", ["picnic"]),
        ("newer_than:30d", ["invoice", "picnic"]),
        ("older_than:1m", ["old"]),
        ("label:boat-trips", ["picnic"]),
        ("label:Label_1", ["picnic"]),
        ("in:inbox is:unread", ["invoice"]),
        ("is:read", ["picnic", "old"]),
        ("-label:inbox", ["picnic"]),
        ("sandwich", ["picnic"]),
        ("sand", []),
        ('"cheese sandwich"', ["picnic"]),
        ("-from:bob -picnic", ["old"]),
        ("nonsense:words", []),
        ("larger:heavy", []),
        ("figures.pdf", ["invoice"]),
    ],
)
def test_queries(query: str, subjects: list[str]) -> None:
    pdf = "Content-Type: application/pdf; name=figures.pdf\n\nx"
    box = Mailbox("anna@example.com")
    box.load(
        [
            MailBytes(mail("old", Date="Sun, 1 Jan 2023 10:00:00 +0000")),
            MailBytes(
                mail(
                    "picnic",
                    "a cheese sandwich " * 80,
                    To="Anna <anna@example.com>",
                    Message_ID="<2@x>",
                    Date="Mon, 1 Jan 2024 10:00:00 +0000",
                ),
                ("Boat trips",),
            ),
            MailBytes(
                f"Subject: invoice\nFrom: Bob\nDate: Wed, 3 Jan 2024 10:00:00 +0000\n{pdf}".encode(),
                ("INBOX", "UNREAD"),
            ),
        ]
    )
    now = 1_704_067_200 + 10 * DAY
    assert find(box, query, now) == subjects


def test_a_query_can_ask_for_spam_and_trash() -> None:
    assert shows_spam_and_trash("in:anywhere x")
    assert shows_spam_and_trash("label:Spam")
    assert not shows_spam_and_trash("in:inbox within:trashcan")
