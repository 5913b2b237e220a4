"""One emulated mailbox: its messages, its labels, and the history of what happened to them.

Ids are derived from the mail, so two runs over the same files give the same ids, threads and historyIds.
"""

import hashlib
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from threading import RLock
from typing import Any

from devstack.gmail.headers import date_milliseconds, header_text, parse_headers
from devstack.gmail.labels import SYSTEM_LABELS, label_resource, takeout_labels
from devstack.gmail.mailfiles import MailBytes, RawMail
from devstack.gmail.message import StoredMessage

# Where mail without a usable Date begins: 2000-01-01, a second later for each.
_UNDATED_MILLISECONDS = 946_684_800_000
LARGEST_HISTORY_GAP = 40

HISTORY_FIELDS = {
    "messageAdded": "messagesAdded",
    "messageDeleted": "messagesDeleted",
    "labelAdded": "labelsAdded",
    "labelRemoved": "labelsRemoved",
}


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One change. ``labels`` are the message's at that moment; added and removed those that changed."""

    id: int
    message_id: str
    thread_id: str
    labels: tuple[str, ...]
    kind: str | None  # messageAdded or messageDeleted; None where only labels changed
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def resource(self, kinds: frozenset[str], label_id: str | None) -> dict[str, Any] | None:
        """The ``History`` resource with the wanted types only; None when nothing wanted happened here."""
        concerned = {*self.labels, *self.added, *self.removed}
        if label_id is not None and label_id not in concerned:
            return None
        stub = {"id": self.message_id, "threadId": self.thread_id}
        labelled = {**stub, "labelIds": list(self.labels)} if self.labels else stub
        resource: dict[str, Any] = {"id": str(self.id), "messages": [stub]}
        if self.kind in kinds and self.kind is not None:
            resource[HISTORY_FIELDS[self.kind]] = [{"message": labelled}]
        if self.added and "labelAdded" in kinds:
            resource["labelsAdded"] = [{"message": labelled, "labelIds": list(self.added)}]
        if self.removed and "labelRemoved" in kinds:
            resource["labelsRemoved"] = [{"message": labelled, "labelIds": list(self.removed)}]
        return resource if len(resource) > 2 else None


class Mailbox:
    """A mailbox by its address. ``on_change`` is called after every change, with the labels it concerns.

    Its methods may be called from any thread. Methods that name a message raise KeyError when it is unknown.
    """

    def __init__(self, address: str, org_unit_path: str = "/") -> None:
        self.address = address
        self.org_unit_path = org_unit_path
        self.on_change: Callable[[Mailbox, frozenset[str]], None] = lambda _mailbox, _labels: None
        self._lock = RLock()
        self._gaps = random.Random(address)
        self.history_id = self._gaps.randint(1_001, 9_999)
        self._oldest_history_id = self.history_id
        self._history: list[HistoryRecord] = []
        self._messages: dict[str, StoredMessage] = {}
        self._user_labels: dict[str, str] = {}  # id -> name
        self._copies: dict[str, int] = {}  # content hash -> how often it came
        self._thread_of: dict[str, str] = {}  # Message-ID or subject -> thread id
        self._undated = 0

    # --- reading -------------------------------------------------------------------------------------

    def messages(self) -> list[StoredMessage]:
        """Every message, newest first."""
        with self._lock:
            found = list(self._messages.values())
        return sorted(found, key=lambda message: (message.internal_date, message.id), reverse=True)

    def message(self, message_id: str) -> StoredMessage:
        """One message. Raises KeyError."""
        return self._messages[message_id]

    def label_name(self, label_id: str) -> str:
        """The name that people see. Raises KeyError for an unknown label."""
        return label_id if label_id in SYSTEM_LABELS else self._user_labels[label_id]

    def label_resources(self) -> list[dict[str, str]]:
        """The ``Label`` resources: the system's, then the user's."""
        with self._lock:
            user = list(self._user_labels.items())
        return [label_resource(*pair) for pair in [*((name, name) for name in SYSTEM_LABELS), *user]]

    def history_after(self, start: int) -> list[HistoryRecord]:
        """The changes above ``start``, oldest first. Raises KeyError when ``start`` is too old or unknown."""
        with self._lock:
            if not self._oldest_history_id <= start <= self.history_id:
                raise KeyError(start)
            return self._history[bisect_right(self._history, start, key=attrgetter("id")) :]

    def truth(self) -> dict[str, dict[str, Any]]:
        """Every message id with its labels, thread and historyId, for tests to compare with."""
        with self._lock:
            return {
                message.id: {
                    "labels": sorted(message.labels),
                    "threadId": message.thread_id,
                    "historyId": str(message.history_id),
                }
                for message in self._messages.values()
            }

    # --- changing ------------------------------------------------------------------------------------

    def load(self, mails: Iterable[RawMail]) -> int:
        """Fill the mailbox with mail that was there before anybody looked: no history tells of it."""
        with self._lock:
            read = []
            for mail in mails:
                raw = mail.read()
                read.append((_internal_date(raw, self._next_undated), mail, raw))
            # Threads form in the order in which the mails were written, whatever the file's order.
            read.sort(key=lambda entry: entry[0])
            for internal_date, mail, raw in read:
                self._store(mail, raw, list(mail.labels), internal_date)
            self._oldest_history_id = self.history_id
            return len(read)

    def add(self, raw: bytes, labels: Iterable[str] = ("INBOX", "UNREAD"), now: float = 0.0) -> StoredMessage:
        """A mail arrives. ``now`` (seconds) is its date when it bears none. Unknown labels are created."""
        with self._lock:
            date = _internal_date(raw, lambda: int(now * 1000) or self._next_undated())
            message = self._store(MailBytes(raw), raw, list(labels), date)
            self._record(message, "messageAdded")
        self.on_change(self, frozenset(message.labels))
        return message

    def delete(self, message_id: str) -> None:
        """Delete for good."""
        with self._lock:
            message = self._messages.pop(message_id)
            self._advance()
            self._record(message, "messageDeleted")
        self.on_change(self, frozenset(message.labels))

    def modify(self, message_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> StoredMessage:
        """Change labels, by id or name. Without an effect it leaves no history."""
        with self._lock:
            message = self._messages[message_id]
            added = tuple(label for label in map(self.label_id, add) if label not in message.labels)
            removed = tuple(label for label in map(self.label_id, remove) if label in message.labels)
            if not added and not removed:
                return message
            message.labels = [label for label in message.labels if label not in removed] + list(added)
            message.history_id = self._advance()
            self._record(message, None, added, removed)
        self.on_change(self, frozenset({*message.labels, *removed}))
        return message

    def trash(self, message_id: str) -> StoredMessage:
        """Put a message into the trash: it leaves the inbox."""
        return self.modify(message_id, ["TRASH"], ["INBOX", "SPAM"])

    def untrash(self, message_id: str) -> StoredMessage:
        """Take a message out of the trash."""
        return self.modify(message_id, [], ["TRASH"])

    def label_id(self, name: str) -> str:
        """The id of a label given by id or name; an unknown name becomes a new user label."""
        with self._lock:
            if name in SYSTEM_LABELS or name in self._user_labels:
                return name
            for label_id, known in self._user_labels.items():
                if known == name:
                    return label_id
            label_id = f"Label_{len(self._user_labels) + 1}"
            self._user_labels[label_id] = name
            return label_id

    def drop_history_before(self, history_id: int) -> None:
        """Forget the changes below ``history_id``: whoever starts there gets a 404."""
        with self._lock:
            self._oldest_history_id = max(self._oldest_history_id, min(history_id, self.history_id))
            self._history = [record for record in self._history if record.id >= history_id]

    # --- inside --------------------------------------------------------------------------------------

    def _advance(self) -> int:
        self.history_id += self._gaps.randint(1, LARGEST_HISTORY_GAP)
        return self.history_id

    def _next_undated(self) -> int:
        self._undated += 1
        return _UNDATED_MILLISECONDS + self._undated * 1000

    def _record(
        self,
        message: StoredMessage,
        kind: str | None,
        added: tuple[str, ...] = (),
        removed: tuple[str, ...] = (),
    ) -> None:
        labels = tuple(message.labels)
        record = HistoryRecord(self.history_id, message.id, message.thread_id, labels, kind, added, removed)
        self._history.append(record)

    def _store(self, source: RawMail, raw: bytes, labels: list[str], internal_date: int) -> StoredMessage:
        parsed = parse_headers(raw)
        headers: dict[str, str] = {}
        for name, value in parsed.items():
            headers.setdefault(name.lower(), header_text(value))
        if not labels:
            takeout = headers.get("x-gmail-labels")
            labels = ["INBOX"] if takeout is None else takeout_labels(takeout)
        message_id = self._new_id(raw)
        message = StoredMessage(
            id=message_id,
            thread_id=self._thread(message_id, headers),
            source=source,
            labels=list(dict.fromkeys(map(self.label_id, labels))),
            history_id=self._advance(),
            internal_date=internal_date,
            size_bytes=len(raw),
            headers=headers,
        )
        self._messages[message_id] = message
        return message

    def _new_id(self, raw: bytes) -> str:
        content = hashlib.sha256(raw).hexdigest()
        copy = self._copies[content] = self._copies.get(content, 0) + 1
        digest = hashlib.sha256(f"{self.address}/{content}/{copy}".encode()).hexdigest()
        return "1" + digest[:15]  # Gmail's ids are 64-bit numbers that begin with a 1 these years

    def _thread(self, message_id: str, headers: dict[str, str]) -> str:
        own = _MESSAGE_ID.findall(headers.get("message-id", ""))
        referenced = _MESSAGE_ID.findall(headers.get("references", "") + headers.get("in-reply-to", ""))
        subject, is_reply = _normalized_subject(headers.get("subject", ""))
        names = [*reversed(referenced), *own]
        takeout = headers.get("x-gm-thrid", "")
        thread_id = None
        if takeout.isdecimal():
            thread_id = f"{int(takeout):x}"
        thread_id = thread_id or next((self._thread_of[n] for n in names if n in self._thread_of), None)
        if thread_id is None and is_reply and subject:
            thread_id = self._thread_of.get(subject)
        thread_id = thread_id or message_id
        for name in [*names, subject]:
            if name:
                self._thread_of.setdefault(name, thread_id)
        return thread_id


_MESSAGE_ID = re.compile(r"<[^<>\s]+>")
_REPLY = re.compile(r"^\s*(?:(?:re|fwd?|aw|wg|sv|antw)(?:\[\d+\])?\s*:\s*)+", re.IGNORECASE)


def _normalized_subject(subject: str) -> tuple[str, bool]:
    stripped = _REPLY.sub("", subject)
    return " ".join(stripped.lower().split()), stripped != subject


def _internal_date(raw: bytes, fallback: Callable[[], int]) -> int:
    date = date_milliseconds(parse_headers(raw))
    return fallback() if date is None else date
