"""What stands in a mailbox's folders: one look after the other, each asking only for what has changed.

Two flavours. Gmail's (X-GM-EXT-1) has every message once, in All Mail, Spam or Trash, under Gmail's own ids
and with its labels. Everywhere else a message is known by folder, UIDVALIDITY and UID, and bears its folder
as a label. Functions here run in the connection's thread.
"""

from __future__ import annotations

import imaplib
import json
import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from imapclient import IMAPClient
from imapclient.imap_utf7 import decode as decode_utf7

from connectors.errors import ConfigurationError, EpochEndedError
from connectors.imap.connection import fetch
from schemas.identity import hashed, label_id_of

# UIDs asked for at once: the answers of more would be held in memory all together.
BLOCK_UIDS = 5_000
# imaplib takes no line above 1 MB, and a SEARCH answers with one.
SEARCH_UIDS = 100_000
# Where nobody counts changes, flags are compared this often; arrivals and deletions show in the counts.
FLAGS_SECONDS = 300.0
_COUNT_ATTEMPTS = 3
# The labels of a message of which nobody remembers how it was labelled.
UNKNOWN: frozenset[str] = frozenset({"?"})

_SPECIAL = {b"\\sent": "SENT", b"\\drafts": "DRAFT", b"\\junk": "SPAM", b"\\trash": "TRASH"}
_VIRTUAL = {b"\\noselect", b"\\nonexistent", b"\\all", b"\\flagged", b"\\important"}
_GMAIL_LABELS = {
    "\\inbox": "INBOX",
    "\\sent": "SENT",
    "\\draft": "DRAFT",
    "\\drafts": "DRAFT",
    "\\starred": "STARRED",
    "\\flagged": "STARRED",
    "\\important": "IMPORTANT",
    "\\junk": "SPAM",
    "\\spam": "SPAM",
    "\\trash": "TRASH",
}


class Seen(NamedTuple):
    """One message of a folder."""

    message_id: str
    thread_id: str | None
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder to be read. ``key`` stands for its name in ids; ``label`` is what all in it bear."""

    key: str
    name: str
    label: str | None


@dataclass(frozen=True, slots=True)
class FolderState:
    """How a folder stood. ``modseq`` is None where the server counts no changes."""

    folder: Folder
    uidvalidity: int
    uidnext: int
    modseq: int | None
    messages: dict[int, Seen]  # by UID; never changed once it is here
    looked_at: float = 0.0


Look = dict[str, FolderState]  # by the folder's key


def is_gmail(client: IMAPClient) -> bool:
    """Whether the server has Gmail's own extension."""
    return bool(client.has_capability("X-GM-EXT-1"))


def list_folders(client: IMAPClient) -> list[Folder]:
    """The folders to read. Raises ConfigurationError where Gmail hides the one that has all mail."""
    listed = [
        ({flag.lower() for flag in flags}, str(name), delimiter)
        for flags, delimiter, name in client.list_folders()
    ]
    if not is_gmail(client):
        return [
            Folder(hashed(name), name, _folder_label(flags, name))
            for flags, name, _ in sorted(listed, key=lambda entry: entry[1])
            if not flags & _VIRTUAL
        ]
    found = {
        special: Folder(hashed(name), name, label)
        for special, label in ((b"\\all", None), (b"\\junk", "SPAM"), (b"\\trash", "TRASH"))
        for flags, name, _ in listed
        if special in flags
    }
    if len(found) < 3:
        raise ConfigurationError(
            "Gmail hides a folder: in its settings, under Labels, have All Mail, Spam and Trash shown in IMAP"
        )
    return list(found.values())


def folder_label(folder: Folder, gmail: bool) -> dict[str, str]:
    """The folder's own label and its name, where it has one that is not the system's."""
    if gmail or folder.label is None or folder.label != label_id_of(folder.name):
        return {}
    return {folder.label: folder.name}


def _folder_label(flags: set[bytes], name: str) -> str:
    special = next((label for flag, label in _SPECIAL.items() if flag in flags), None)
    return special or ("INBOX" if name.upper() == "INBOX" else label_id_of(name))


class Looker:
    """Looks at all folders. ``names`` collects the labels' names by id."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._sets: dict[frozenset[str], frozenset[str]] = {}  # few sets are worn by many messages
        self._enabled: tuple[IMAPClient, bool] | None = None

    def look(self, client: IMAPClient, before: Look | None) -> Look:
        """How the folders stand now; those that have not changed since ``before`` are the same objects.

        Raises EpochEndedError.
        """
        gmail, vanishes = is_gmail(client), self._enable(client)
        _leave(client)
        found: Look = {}
        for folder in list_folders(client):
            self.names |= folder_label(folder, gmail)
            known = before.get(folder.key) if before is not None else None
            try:
                found[folder.key] = self._look_at(client, folder, known, gmail, vanishes)
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error:
                if folder.name in {other.name for other in list_folders(client)}:
                    raise
                # Somebody removed it meanwhile.
        return found

    def changed_since(self, client: IMAPClient, look: Look, state: str) -> dict[str, set[int]]:
        """The UIDs of each folder whose flags or labels have changed since ``remembered`` wrote ``state``."""
        changed = {}
        for key, (_, modseq, _) in json.loads(state).items():
            if key in look and look[key].modseq != modseq:
                client.select_folder(look[key].folder.name, readonly=True)
                changed[key] = set(fetch(client, "1:*", "UID", f"CHANGEDSINCE {modseq}"))
        return changed

    def _enable(self, client: IMAPClient) -> bool:
        """Have changes counted on this connection; returns whether the server names what has vanished."""
        if self._enabled is None or self._enabled[0] is not client:
            offered = client.has_capability("ENABLE") and client.has_capability("QRESYNC")
            enabled = client.enable("QRESYNC") if offered else []
            self._enabled = (client, b"QRESYNC" in {name.upper() for name in enabled})
        return self._enabled[1]

    def _look_at(
        self, client: IMAPClient, folder: Folder, known: FolderState | None, gmail: bool, vanishes: bool
    ) -> FolderState:
        counted = client.has_capability("CONDSTORE") or client.has_capability("QRESYNC")
        items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY", *(["HIGHESTMODSEQ"] if counted else [])]
        status = client.folder_status(folder.name, items)
        if known is not None:
            if status[b"UIDVALIDITY"] != known.uidvalidity:
                raise EpochEndedError("a folder's UIDVALIDITY has changed")
            stands = (status[b"UIDNEXT"], status[b"MESSAGES"]) == (known.uidnext, len(known.messages))
            fresh = (
                status.get(b"HIGHESTMODSEQ") == known.modseq
                if known.modseq
                else time.monotonic() - known.looked_at < FLAGS_SECONDS
            )
            if stands and fresh:
                return known
        opened = client.select_folder(folder.name, readonly=True)
        if opened[b"UIDVALIDITY"] != status[b"UIDVALIDITY"]:
            raise EpochEndedError("a folder's UIDVALIDITY has changed")
        # Taken before what it covers: what changes meanwhile comes again.
        state = FolderState(
            folder,
            uidvalidity=opened[b"UIDVALIDITY"],
            uidnext=max(opened.get(b"UIDNEXT", 0), status[b"UIDNEXT"]),
            modseq=opened.get(b"HIGHESTMODSEQ") or None,
            messages={},
            looked_at=time.monotonic(),
        )
        if known is None or known.modseq is None or state.modseq is None:
            return replace(state, messages=self._all(client, state, gmail))
        return replace(state, messages=self._changed(client, state, known, gmail, vanishes))

    def _all(self, client: IMAPClient, state: FolderState, gmail: bool) -> dict[int, Seen]:
        uids = all_uids(client, state)
        messages: dict[int, Seen] = {}
        for start in range(0, len(uids), BLOCK_UIDS):
            block = uids[start : start + BLOCK_UIDS]
            # Between the first and the last of the block; those that it lacks are gone.
            answers = fetch(client, f"{block[0]}:{block[-1]}", _items(gmail))
            messages |= self._read(answers, state, gmail)
        return messages

    def _changed(
        self, client: IMAPClient, state: FolderState, known: FolderState, gmail: bool, vanishes: bool
    ) -> dict[int, Seen]:
        messages = dict(known.messages)
        modifiers = f"CHANGEDSINCE {known.modseq}" + (" VANISHED" if vanishes else "")
        client._imap.untagged_responses.pop("VANISHED", None)
        messages |= self._read(fetch(client, "1:*", _items(gmail), modifiers), state, gmail)
        if vanishes:
            for line in client._imap.untagged_responses.pop("VANISHED", ()):
                for uid in _uids_of(line.decode().removeprefix("(EARLIER) "), messages):
                    del messages[uid]
        status = client.folder_status(state.folder.name, ["MESSAGES"])
        if len(messages) != status[b"MESSAGES"]:
            there = set(all_uids(client, state))
            messages = {uid: seen for uid, seen in messages.items() if uid in there}
        return messages

    def _read(self, answers: dict[int, dict[bytes, Any]], state: FolderState, gmail: bool) -> dict[int, Seen]:
        return {
            uid: self._seen(uid, answer, state, gmail)
            for uid, answer in answers.items()
            # What is said unasked says the flags only.
            if b"FLAGS" in answer and (not gmail or b"X-GM-MSGID" in answer)
        }

    def _seen(self, uid: int, answer: dict[bytes, Any], state: FolderState, gmail: bool) -> Seen:
        here = plain_id(state.folder.key, state.uidvalidity, uid)
        return Seen(
            f"{answer[b'X-GM-MSGID']:x}" if gmail else here,
            f"{answer[b'X-GM-THRID']:x}" if gmail else None,
            self.labels(answer, state.folder),
        )

    def labels(self, answer: dict[bytes, Any], folder: Folder) -> frozenset[str]:
        """The label ids that an answer with FLAGS, and at Gmail with X-GM-LABELS, says."""
        flags = {bytes(flag) for flag in answer[b"FLAGS"]}
        lower = {flag.lower() for flag in flags}
        worn = {folder.label} if folder.label is not None else set()
        if b"\\seen" not in lower:
            worn.add("UNREAD")
        if b"\\flagged" in lower:
            worn.add("STARRED")
        if b"\\draft" in lower:
            worn.add("DRAFT")
        if b"X-GM-LABELS" in answer:
            names = [_text(label) for label in answer[b"X-GM-LABELS"]]
        else:
            # Keywords; those that begin with a $ are notes of mail programs.
            names = [_text(flag) for flag in flags if not flag.startswith((b"\\", b"$"))]
        for name in names:
            label_id = _GMAIL_LABELS.get(name.lower()) if name.startswith("\\") else label_id_of(name)
            if label_id is not None:
                worn.add(label_id)
                if not name.startswith("\\"):
                    self.names[label_id] = name
        found = frozenset(worn)
        return self._sets.setdefault(found, found)


def _leave(client: IMAPClient) -> None:
    """Close the folder that is open: STATUS may say of it what it was when it was opened (Dovecot's does)."""
    if client._imap.state == "SELECTED":
        if client.has_capability("UNSELECT"):
            client.unselect_folder()
        else:
            client.close_folder()  # removes nothing: it was opened for reading


def _items(gmail: bool) -> str:
    return "UID FLAGS X-GM-MSGID X-GM-THRID X-GM-LABELS" if gmail else "UID FLAGS"


def plain_id(key: str, uidvalidity: int, uid: int) -> str:
    """A message's id where the server gives none: where it is, but not what the folder is called."""
    return f"{key}-{uidvalidity}-{uid}"


def _text(name: Any) -> str:
    """A label's name; Gmail writes them in the UTF-7 of folders, and numbers as numbers."""
    raw = name if isinstance(name, bytes) else str(name).encode()
    return str(decode_utf7(raw))


def all_uids(client: IMAPClient, state: FolderState) -> list[int]:
    """Every UID of the folder that is open, in order.

    Raises ConfigurationError where the server shows fewer messages than it says there are (Gmail's "limit
    IMAP folders to contain no more than this many messages"): what is not shown would count as deleted.
    """
    for _ in range(_COUNT_ATTEMPTS):
        before = client.folder_status(state.folder.name, ["MESSAGES", "UIDNEXT"])
        uids: list[int] = []
        for start in range(1, before[b"UIDNEXT"] + 1, SEARCH_UIDS):
            uids += client.search(["UID", f"{start}:{start + SEARCH_UIDS - 1}"])
        after = client.folder_status(state.folder.name, ["MESSAGES"])
        shown = min(before[b"MESSAGES"], after[b"MESSAGES"])
        if len(uids) >= shown:
            return sorted(set(uids))
        client.noop()
    raise ConfigurationError(
        f"the mail server shows {len(uids)} of {shown} messages of a folder: in Gmail's settings, under"
        " Forwarding and POP/IMAP, choose Do not limit the number of messages in an IMAP folder"
    )


def _uids_of(text: str, among: dict[int, Seen]) -> list[int]:
    """Those of a set that are ``among`` some; the set may be far larger."""
    runs = [run.partition(":") for run in filter(None, text.strip().split(","))]
    found = []
    for first, _, last in runs:
        low, high = sorted((int(first), int(last or first)))
        if high - low < len(among):
            found += [uid for uid in range(low, high + 1) if uid in among]
        else:
            found += [uid for uid in among if low <= uid <= high]
    return found
