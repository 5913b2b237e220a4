"""Registers of one mail about a quay, and of the plan attached to it."""

from schemas.outcomes import Outcome
from schemas.registers import (
    AttachmentContent,
    ContentRegister,
    DeletedRegister,
    LabelRegister,
    LabelsRegister,
    MessageContent,
    PartReference,
    Segment,
    content_version,
)


def _owner(message_id: str = "m1") -> dict[str, str]:
    return {"mailbox_id": "box", "message_id": message_id}


def a_message(message_id: str = "m1", text: str = "the harbour wall", epoch: int = 1) -> ContentRegister:
    content = MessageContent(
        thread_id="t1",
        subject="Quay repairs",
        sender="Anna <anna@example.com>",
        to=("b@example.com",),
        sent_at=1_700_000_000_000,
        text=text,
        parts=(PartReference(part_path="2", filename="plan.pdf", content_type="application/pdf"),),
    )
    return ContentRegister(
        **_owner(message_id), version=content_version(epoch, Outcome.TEXT, text), message=content
    )


def a_part(text: str = "", outcome: Outcome = Outcome.TEXT, message_id: str = "m1") -> ContentRegister:
    content = AttachmentContent(
        filename="plan.pdf",
        content_type="application/pdf",
        outcome=outcome,
        segments=(Segment(text=text, page=3),) if text else (),
    )
    return ContentRegister(
        **_owner(message_id),
        part_path="2",
        version=content_version(1, outcome, f"{outcome}{text}"),
        attachment=content,
    )


def some_labels(history_id: int, *label_ids: str, message_id: str = "m1") -> LabelsRegister:
    return LabelsRegister(**_owner(message_id), epoch=1, history_id=history_id, label_ids=label_ids)


def a_label(history_id: int, label_id: str, *, present: bool) -> LabelRegister:
    return LabelRegister(**_owner(), epoch=1, history_id=history_id, label_id=label_id, present=present)


def a_deletion(history_id: int) -> DeletedRegister:
    return DeletedRegister(**_owner(), epoch=1, history_id=history_id)
