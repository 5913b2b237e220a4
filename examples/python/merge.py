"""The merge of ``mail.documents.v1``: what a message is, from its records in any order and number.

A message is a set of registers, one JSON object each, under the record key ``<message key>/<register name>``:

    content/<part path>   what the message (empty path) or an attachment says
    labels                all labels of the message as of a historyId
    label/<id>            one label added or removed at a historyId
    deleted               the message was gone as of a historyId

Of each register the highest version wins. ``docs/merge-vectors.json`` says what any merge must answer.
"""

import json
from typing import Any

Register = dict[str, Any]
Message = dict[str, Register]  # by register name


def decode(value: bytes | None) -> Register | None:
    """A record's value, without the texts: most of what it holds. Keep them where you need them."""
    register: Register = json.loads(value or b"{}")
    register.get("message", {}).pop("text", None)
    register.get("attachment", {}).pop("segments", None)
    return register or None


def merge(message: Message, name: str, register: Register | None) -> None:
    """Let a record into its message. ``name``: its key behind the first ``/``; None: it has no value.

    Raises ValueError on a register that v1 does not have.
    """
    if register is None:  # purged or forgotten
        message.pop(name, None)
        return
    order = version(name, register)
    if name not in message or order > version(name, message[name]):
        message[name] = register


def version(name: str, register: Register) -> tuple[Any, ...]:
    """What two records of one register compare by."""
    if name.startswith("content/"):
        of = register["version"]
        numbers = (of["epoch"], of.get("verdict", 0), of["engine"], of["rank"])
        return (*numbers, of["digest"], of.get("source", "gmail_api"))
    at = (register["epoch"], register["history_id"])
    if name == "labels":
        return (*at, sorted(register["label_ids"]), register.get("source", "gmail_api"))
    if name.startswith("label/"):
        return (*at, register["present"])
    if name == "deleted":
        return (*at, register.get("reason", "deleted"))
    raise ValueError(f"no register is called {name!r}")


def is_live(message: Message) -> bool:
    """Whether it exists: never deleted, or seen since."""
    seen = [_at(each) for name, each in message.items() if name == "labels" or name.startswith("label/")]
    return "deleted" not in message or max(seen, default=(0, 0)) > _at(message["deleted"])


def label_ids(message: Message) -> set[str]:
    """Its labels: the snapshot, and the single changes above it."""
    snapshot = message.get("labels")
    present = set(snapshot["label_ids"]) if snapshot else set()
    for name, change in message.items():
        if name.startswith("label/") and (snapshot is None or _at(change) > _at(snapshot)):
            (present.add if change["present"] else present.discard)(change["label_id"])
    return present


def contents(message: Message) -> dict[str, Register]:
    """What it and its attachments say, by part path; the message's own is under the empty path."""
    return {name.removeprefix("content/"): each for name, each in message.items() if name[:8] == "content/"}


def _at(register: Register) -> tuple[int, int]:
    return register["epoch"], register["history_id"]
