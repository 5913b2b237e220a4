"""A message as the mailbox keeps it, and the resource that each ``format`` makes of it."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from devstack.gmail.mailfiles import RawMail
from devstack.gmail.payload import MimePart, base64url, metadata_json, parse_mail, part_json, snippet

# How many later gets of the same message an attachmentId survives.
ATTACHMENT_ID_GETS = 16
PARSED_MAILS = 4  # kept, so that the attachments of a message do not parse it once each


@dataclass
class StoredMessage:
    """One message. ``labels`` in the order they were given; ``internal_date`` in milliseconds."""

    id: str
    thread_id: str
    source: RawMail
    labels: list[str]
    history_id: int
    internal_date: int
    size_bytes: int
    headers: dict[str, str] = field(repr=False)  # the first of each name, in lower case, decoded
    gets: int = 0
    has_attachment: bool | None = None  # None until somebody asks

    def has(self, label_id: str) -> bool:
        """Whether the message bears the label."""
        return label_id in self.labels


class MessageReader:
    """Reads and parses messages; keeps the last few trees."""

    def __init__(self, attachment_id_gets: int = ATTACHMENT_ID_GETS) -> None:
        self._attachment_id_gets = attachment_id_gets
        self._trees: OrderedDict[str, MimePart] = OrderedDict()

    def tree(self, message: StoredMessage) -> MimePart:
        """The message's MIME tree."""
        tree = self._trees.pop(message.id, None) or parse_mail(message.source.read())
        self._trees[message.id] = tree
        if len(self._trees) > PARSED_MAILS:
            self._trees.popitem(last=False)
        return tree

    def resource(
        self,
        message: StoredMessage,
        form: str,
        metadata_headers: list[str],
        *,
        texts_behind_references: bool = False,
    ) -> dict[str, Any]:
        """The ``Message`` resource; ``form`` is minimal, full, raw or metadata."""
        tree = self.tree(message)
        resource: dict[str, Any] = {
            "id": message.id,
            "threadId": message.thread_id,
            "labelIds": list(message.labels),
            "snippet": snippet(tree),
            "sizeEstimate": message.size_bytes,
            "historyId": str(message.history_id),
            "internalDate": str(message.internal_date),
        }
        if form == "raw":
            resource["raw"] = base64url(message.source.read())
        elif form == "metadata":
            resource["payload"] = metadata_json(tree, metadata_headers)
        elif form == "full":
            message.gets += 1
            ids = {
                part.part_id: self._attachment_id(message, part.part_id, message.gets)
                for part in tree.walk()
                if part.is_external or (texts_behind_references and part.content)
            }
            resource["payload"] = part_json(tree, ids)
        return resource

    def attachment(self, message: StoredMessage, attachment_id: str) -> bytes | None:
        """The body behind an attachmentId; None when it never was one of this message, or is no more."""
        oldest = max(message.gets - self._attachment_id_gets, 0)
        for part in self.tree(message).walk():
            if part.content is not None:
                for get in range(message.gets, oldest, -1):
                    if self._attachment_id(message, part.part_id, get) == attachment_id:
                        return part.content
        return None

    @staticmethod
    def _attachment_id(message: StoredMessage, part_id: str, get: int) -> str:
        # As long as the real ones, so that nobody comes to rely on short paths.
        digest = hashlib.shake_256(f"{message.id}/{part_id}/{get}".encode()).digest(240)
        return "ANGjdJ" + base64url(digest)
