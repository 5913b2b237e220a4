"""The folders and labels that Gmail shows over IMAP, with the UIDs of what is in them."""

import base64
import re
from dataclasses import dataclass, field

from devstack.gmail.message import StoredMessage
from devstack.gmail.store import Mailbox

FIRST_UIDVALIDITY = 600_000_001
SPECIAL = {"[Gmail]/All Mail": "\\All", "[Gmail]/Spam": "\\Junk", "[Gmail]/Trash": "\\Trash"}
FOLDERS = ("INBOX", "[Gmail]", *SPECIAL)
_GMAIL_LABELS = {
    "INBOX": "\\Inbox",
    "SENT": "\\Sent",
    "STARRED": "\\Starred",
    "IMPORTANT": "\\Important",
    "DRAFT": "\\Draft",
}


@dataclass
class Folder:
    """The UIDs of one folder. A message that leaves and comes back gets a new one, as everywhere."""

    uidvalidity: int
    uids: dict[str, int] = field(default_factory=dict)  # by message id, in the order of the UIDs
    uidnext: int = 1

    def refresh(self, messages: list[StoredMessage]) -> None:
        """Give UIDs to what is new, oldest first, and take them from what has left."""
        there = {message.id for message in messages}
        self.uids = {message_id: uid for message_id, uid in self.uids.items() if message_id in there}
        for message in reversed(messages):
            if message.id not in self.uids:
                self.uids[message.id] = self.uidnext
                self.uidnext += 1


class ImapFolders:
    """The folders of every mailbox; they outlive the connections."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], Folder] = {}
        self._uidvalidity = FIRST_UIDVALIDITY

    def folder(self, mailbox: Mailbox, name: str) -> Folder:
        """A folder as of now. Raises KeyError where there is none of that name."""
        if name not in FOLDERS or name == "[Gmail]":
            raise KeyError(name)
        found = self._folders.setdefault((mailbox.address, name), Folder(self._uidvalidity))
        found.refresh([message for message in mailbox.messages() if _is_in(message, name)])
        return found

    def renew(self, address: str) -> None:
        """Every folder of a mailbox is made anew: other UIDVALIDITY, other UIDs."""
        self._uidvalidity += 1
        self._folders = {key: folder for key, folder in self._folders.items() if key[0] != address}


def _is_in(message: StoredMessage, name: str) -> bool:
    if name == "[Gmail]/Trash":
        return message.has("TRASH")
    if name == "[Gmail]/Spam":
        return message.has("SPAM") and not message.has("TRASH")
    if message.has("TRASH") or message.has("SPAM"):
        return False
    return name == "[Gmail]/All Mail" or message.has("INBOX")


def shown_label(mailbox: Mailbox, label_id: str) -> str | None:
    """A label as X-GM-LABELS writes it; None for those that IMAP does not show."""
    if label_id.startswith("CATEGORY_"):
        return None
    name = _GMAIL_LABELS.get(label_id) or utf7(mailbox.label_name(label_id))
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def utf7(text: str) -> str:
    """The modified UTF-7 of RFC 3501, in which folders and labels are written."""
    written = []
    for ascii_run, other in re.findall(r"([ -~]+)|([^ -~]+)", text):
        if ascii_run:
            written.append(ascii_run.replace("&", "&-"))
        else:
            coded = base64.b64encode(other.encode("utf-16-be")).rstrip(b"=").replace(b"/", b",")
            written.append(f"&{coded.decode()}-")
    return "".join(written)
