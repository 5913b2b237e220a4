"""Test vectors of the merge for other languages: ``docs/merge-vectors.json``.

python -m tests.merge_vectors writes the file; ``tests/unit/schemas/test_registers.py`` holds it to the code.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.identity import document_id, message_key
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    ContentVersion,
    DeletedRegister,
    LabelRegister,
    LabelsRegister,
    MessageContent,
    MessageState,
)

PATH = Path(__file__).parents[1] / "docs" / "merge-vectors.json"
_OWNER = {"mailbox_id": "box", "message_id": "18c5"}


def _labels(history_id: int, *label_ids: str, epoch: int = 1) -> LabelsRegister:
    return LabelsRegister(**_OWNER, epoch=epoch, history_id=history_id, label_ids=label_ids)


def _label(history_id: int, label_id: str, present: bool, epoch: int = 1) -> LabelRegister:
    return LabelRegister(**_OWNER, epoch=epoch, history_id=history_id, label_id=label_id, present=present)


def _deleted(history_id: int, epoch: int = 1) -> DeletedRegister:
    return DeletedRegister(**_OWNER, epoch=epoch, history_id=history_id)


def _message(text: str, **version: int) -> ContentRegister:
    stands = ContentVersion(**{"epoch": 1, "rank": 5, "engine": 1, **version}, digest=text)
    return ContentRegister(**_OWNER, version=stands, message=MessageContent(text=text))


def _part(path: str, digest: str, outcome: Outcome = Outcome.TEXT, **version: int) -> ContentRegister:
    stands = ContentVersion(**{"epoch": 1, "rank": 5, "engine": 1, **version}, digest=digest)
    content = AttachmentContent(content_type="application/pdf", outcome=outcome)
    return ContentRegister(**_OWNER, part_path=path, version=stands, attachment=content)


CASES: dict[str, Sequence[AnyRegister]] = {
    "a label absent from a newer snapshot is absent": [_label(3, "STARRED", True), _labels(5, "INBOX")],
    "single changes above the snapshot count": [
        _labels(5, "INBOX"),
        _label(7, "STARRED", True),
        _label(8, "INBOX", False),
    ],
    "a change at the snapshot's own historyId is in it": [_labels(5, "INBOX"), _label(5, "STARRED", True)],
    "a change of a newer epoch counts against a higher historyId": [
        _labels(900, "INBOX"),
        _label(1, "STARRED", True, epoch=2),
    ],
    "of one label the newest change counts": [_labels(1), _label(6, "A", True), _label(4, "A", False)],
    "a tie of two snapshots ends the same everywhere": [_labels(5, "A"), _labels(5, "B")],
    "a tie of two changes ends in present": [_labels(1), _label(4, "A", False), _label(4, "A", True)],
    "labels wait for content": [_label(7, "STARRED", True)],
    "deleted at the newest observation is deleted": [_labels(5, "INBOX"), _deleted(5), _message("a")],
    "seen after its deletion it lives": [_deleted(5), _labels(6, "INBOX"), _message("a")],
    "one label change is an observation": [_deleted(5), _label(6, "A", True), _message("a")],
    "purged is for good, in its epoch": [_deleted(2**62), _labels(2**53, "INBOX"), _message("a")],
    "a newer epoch outweighs any history": [
        _deleted(900),
        _labels(1, "INBOX", epoch=2),
        _message("a", epoch=2),
    ],
    "content: the epoch compares first": [
        _labels(1),
        _message("a", epoch=2, engine=1),
        _message("b", epoch=1, engine=9),
    ],
    "content: then the verdict, which outlives the engine": [
        _labels(1),
        _part("2", "x", Outcome.BLOCKED, verdict=1, engine=1),
        _part("2", "y", verdict=0, engine=9),
    ],
    "content: then the engine": [
        _labels(1),
        _message("a", engine=2, rank=4),
        _message("b", engine=1, rank=5),
    ],
    "content: then how much was read": [
        _labels(1),
        _part("2", "x", Outcome.PENDING, rank=0),
        _part("2", "y", rank=5),
    ],
    "content: then the digest": [_labels(1), _message("a"), _message("b")],
    "parts are registers of their own": [_labels(1), _message("a"), _part("2", "x"), _part("2/1", "y")],
}


def vectors() -> list[dict[str, Any]]:
    """Every case: the records in one order (any other must give the same), and what they merge to."""
    return [_vector(name, registers) for name, registers in CASES.items()]


def _vector(name: str, registers: Sequence[AnyRegister]) -> dict[str, Any]:
    state = MessageState().join(registers)
    return {
        "name": name,
        "message_key": message_key(**_OWNER),
        "records": [{"key": r.key, "value": json.loads(r.encode())} for r in registers],
        "merged": {
            "live": state.live,
            "label_ids": sorted(state.label_ids),
            "contents": {
                path: {
                    "document_id": document_id(**_OWNER, part_path=path),
                    "version": content.version.model_dump(mode="json"),
                }
                for path, content in sorted(state.contents.items())
            },
        },
    }


def render() -> str:
    """The file's text."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render())
    sys.stdout.write(f"{PATH}\n")
