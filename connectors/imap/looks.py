"""What two looks at a mailbox's folders say together: a listing, a history, and what survives a restart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial

from connectors.errors import EpochEndedError, PageTokenExpiredError
from connectors.imap.folders import UNKNOWN, Folder, FolderState, Look, Seen, plain_id
from connectors.mail_source import HistoryEntry
from schemas.events import HIDDEN_LABELS, ChangeKind


def listed(look: Look, page_token: str | None, include_spam_trash: bool) -> Iterator[tuple[str, Seen]]:
    """The messages behind a place in the listing, each with its own. Raises PageTokenExpiredError."""
    key, _, uid = (page_token or "").partition(".")
    keys = list(look)
    if page_token is not None and (key not in look or not uid.isdecimal()):
        raise PageTokenExpiredError("the listing stood in a folder that is gone")
    for at in keys[keys.index(key) if key else 0 :]:
        state = look[at]
        if not include_spam_trash and state.folder.label in HIDDEN_LABELS:
            continue
        for number in sorted(state.messages, reverse=True):
            if at != key or number < int(uid):
                yield f"{at}.{number}", state.messages[number]


def entries(before: Look, after: Look, number: int) -> Iterator[HistoryEntry]:
    """What happened between two looks, as the history of Gmail would say it."""
    old, new = differing(before, after)
    for message_id, seen in new.items():
        known = old.get(message_id)
        entry = partial(_entry, number, seen)
        if known is None:
            # All its labels too: only they say that one which was deleted is there again.
            yield entry(ChangeKind.LABELS, seen.labels)
            yield entry(ChangeKind.UPSERT)
        elif known.labels == UNKNOWN:
            yield entry(ChangeKind.LABELS, seen.labels)
        elif known.labels != seen.labels:
            if removed := known.labels - seen.labels:
                yield entry(ChangeKind.LABEL_REMOVED, removed)
            if added := seen.labels - known.labels:
                yield entry(ChangeKind.LABEL_ADDED, added)
    for message_id, seen in old.items():
        if message_id not in new:
            yield HistoryEntry(ChangeKind.DELETE, message_id, seen.thread_id, number)


def _entry(number: int, seen: Seen, kind: ChangeKind, changed: frozenset[str] = frozenset()) -> HistoryEntry:
    labels = tuple(sorted(seen.labels))
    return HistoryEntry(kind, seen.message_id, seen.thread_id, number, tuple(sorted(changed)), labels)


def differing(before: Look, after: Look) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """The messages by id of the folders that are not the same in both looks."""
    keys = [key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)]
    return by_id(before[key] for key in keys if key in before), by_id(
        after[key] for key in keys if key in after
    )


def by_id(states: Iterable[FolderState]) -> dict[str, Seen]:
    """The messages of some folders by their ids."""
    return {seen.message_id: seen for state in states for seen in state.messages.values()}


def remembered(look: Look) -> str | None:
    """How the folders stood, in short: UIDVALIDITY, MODSEQ and UIDs. None where changes are not counted."""
    if any(state.modseq is None for state in look.values()):
        return None
    return json.dumps(
        {key: [state.uidvalidity, state.modseq, ranges(state.messages)] for key, state in look.items()},
        separators=(",", ":"),
    )


def ranges(uids: Iterable[int]) -> str:
    """UIDs as IMAP writes sets of them: ``1:500,502``."""
    runs: list[list[int]] = []
    for uid in sorted(uids):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(f"{first}:{last}" if last > first else str(first) for first, last in runs)


def unranged(text: str) -> Iterator[int]:
    """The UIDs of such a set."""
    for run in filter(None, text.split(",")):
        first, _, last = run.partition(":")
        yield from range(int(first), int(last or first) + 1)


def as_remembered(state: str, look: Look, changed: dict[str, set[int]], gmail: bool) -> Look | None:
    """The look that ``remembered`` wrote down, out of today's; None where it cannot be told any more.

    What has changed since bears labels that nobody has, so that whoever compares finds it different. At Gmail
    a message that is gone has left no id, and only a comparison with the index can tell which it was.
    Raises EpochEndedError.
    """
    old: Look = {}
    for key, (uidvalidity, _, uids) in json.loads(state).items():
        now = look.get(key)
        if now is not None and now.uidvalidity != uidvalidity:
            raise EpochEndedError("a folder's UIDVALIDITY has changed")
        messages: dict[int, Seen] = {}
        for uid in unranged(uids):
            seen = now.messages.get(uid) if now is not None else None
            if seen is not None:
                messages[uid] = seen._replace(labels=UNKNOWN) if uid in changed.get(key, ()) else seen
            elif gmail:
                return None
            else:
                messages[uid] = Seen(plain_id(key, uidvalidity, uid), None, UNKNOWN)
        folder = now.folder if now is not None else Folder(key, "", None)
        old[key] = FolderState(folder, uidvalidity, 0, None, messages)
    return old
