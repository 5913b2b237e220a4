"""The one sentence: the first thing on a message's path that explains what a person sees."""

from typing import Any

import pytest

from schemas.events import (
    ChangeKind,
    Cursor,
    DeadLetter,
    Deferred,
    Listing,
    MailboxRecord,
    MailboxState,
    MessageChange,
    Suppression,
)
from schemas.outcomes import Outcome
from schemas.registers import (
    ContentRegister,
    DeletedRegister,
    LabelsRegister,
    MessageContent,
    MessageState,
    content_version,
)
from streams.letter_box import Letter
from streams.trace import Trace, _Facts, _reasons

OWNER: dict[str, Any] = {"mailbox_id": "box", "message_id": "m1"}
MAILBOX = MailboxRecord(mailbox_id="box", address="a@example.com")
CHANGE = MessageChange(**OWNER, kind=ChangeKind.UPSERT, epoch=1, history_id=5)
INBOX = LabelsRegister(**OWNER, epoch=1, history_id=5, label_ids=("INBOX",))
SPAM = LabelsRegister(**OWNER, epoch=1, history_id=5, label_ids=("SPAM",))
CONTENT = ContentRegister(
    **OWNER, version=content_version(1, Outcome.TEXT, "x"), message=MessageContent(text="x")
)
DELETED = DeletedRegister(**OWNER, epoch=1, history_id=9)
LETTER = Letter(
    "0:4",
    DeadLetter(**OWNER, stage="fast", error_class="GmailError", error="no", topic="t", partition=0, offset=1),
)


def _cursor(*, complete: bool) -> Cursor:
    listing = Listing(run="r", history_id=1, listed=40, total=90, complete=complete)
    return Cursor(mailbox_id="box", epoch=1, history_id=1, listing=listing)


def _state(*registers: Any) -> MessageState:
    return MessageState().join(registers)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "Nobody has seen it yet: the mailbox is still being listed (none"),
        ({"cursor": _cursor(complete=False)}, "(40 of 90 messages)"),
        ({"cursor": _cursor(complete=True)}, "Nothing here has ever named this message"),
        ({"mailbox": MAILBOX.model_copy(update={"state": MailboxState.PURGED})}, "mailbox was purged"),
        ({"mailbox": MAILBOX.model_copy(update={"state": MailboxState.PARKED})}, "parked"),
        ({"suppression": Suppression(**OWNER), "changes": [(CHANGE, True)]}, "suppress list"),
        ({"changes": [(CHANGE, True)]}, "worker extract"),
        ({"changes": [(CHANGE, False)]}, "noticed and not fetched"),
        ({"changes": [(CHANGE, False)], "letters": [LETTER]}, "dead-letters replay 0:4"),
        ({"deferred": [(Deferred(**OWNER, epoch=1, reason="throttled"), True)]}, "put off"),
        ({"state": _state(INBOX, CONTENT), "registers_waiting": True}, "worker index"),
        ({"state": _state(SPAM), "changes": [(CHANGE, False)]}, "by its labels (SPAM)"),
        ({"state": _state(INBOX, CONTENT)}, "mailstream reindex"),
        ({"state": _state(INBOX, CONTENT, DELETED), "documents": {"": {"live": False}}}, "deleted in Gmail"),
        ({"documents": {"": {"live": True, "label_ids": ["INBOX"]}}}, "can be found"),
        ({"documents": {"": {"live": True, "label_ids": ["TRASH"]}}}, "label TRASH"),
        ({"documents": {"": {"live": True}}, "parts": {"2": "pending"}}, "1 attachments the text (OCR)"),
    ],
)
def test_the_diagnosis(facts: dict[str, Any], words: str) -> None:
    found = Trace("box", "m1", parts=facts.pop("parts", {}))
    sentence = next(_reasons(_Facts(**{"mailbox": MAILBOX, **facts}), found))
    assert words in sentence
    assert sentence.endswith(".")
