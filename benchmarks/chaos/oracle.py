"""Mailbox, topics, index and disk compared with each other, by nothing that the product itself goes by.

What the topics say is merged here anew, out of their JSON; the index is asked over HTTP; what a mail holds is
known from ``world``.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.world import Attachment, Expected
from connectors.kafka import Log
from connectors.lag import LagMeter
from devstack.gmail.store import Mailbox
from schemas import topics
from streams.letter_box import LetterBox

_PAGE = 1_000
LATE = "late:"  # begins a line that says something without contradicting
READY_ATTEMPTS = 20
Version = tuple[int, int]  # epoch and historyId
Place = tuple[str, int, int]  # topic, partition and offset
MessageKey = tuple[str, str]  # mailbox id and message id
Found = tuple[str, str, str, str]  # of an attachment its file name, SHA-256, outcome and text


@dataclass
class Truth:
    """What there is: of each message its labels and what must be found of it, and the poison's places."""

    labels: dict[MessageKey, frozenset[str]] = field(default_factory=dict)
    expected: dict[MessageKey, Expected] = field(default_factory=dict)
    poison: list[Place] = field(default_factory=list)

    @classmethod
    def of(
        cls, mailboxes: Mapping[str, Mailbox], letters: Mapping[str, Expected], poison: Iterable[Place]
    ) -> Truth:
        """That of these mailboxes, by mailbox id."""
        truth = cls(poison=list(poison))
        for mailbox_id, mailbox in mailboxes.items():
            for message in mailbox.messages():
                key = (mailbox_id, message.id)
                truth.labels[key] = frozenset(message.labels)
                truth.expected[key] = letters[message.headers["message-id"]]
        return truth


# --- the topics --------------------------------------------------------------------------------------


@dataclass
class Said:
    """What a stream of records says of one message: the highest version of each thing."""

    snapshot: tuple[int, int, tuple[str, ...]] | None = None
    changes: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    deleted: Version | None = None
    upsert: Version | None = None
    contents: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)

    def see_snapshot(self, epoch: int, history_id: int, label_ids: Iterable[str]) -> None:
        """All labels as of then."""
        seen = (epoch, history_id, tuple(sorted(label_ids)))
        self.snapshot = max(self.snapshot or seen, seen)

    def see_change(self, label_id: str, epoch: int, history_id: int, present: bool) -> None:
        """One label, added or removed."""
        seen = (epoch, history_id, present)
        self.changes[label_id] = max(self.changes.get(label_id, seen), seen)

    @property
    def at(self) -> Version:
        """As of when the snapshot is."""
        return self.snapshot[:2] if self.snapshot is not None else (-1, -1)

    @property
    def label_ids(self) -> frozenset[str]:
        """The labels: those of the snapshot, and what changed after it."""
        present = set(self.snapshot[2]) if self.snapshot is not None else set()
        for label_id, (epoch, history_id, is_there) in self.changes.items():
            if (epoch, history_id) > self.at:
                (present.add if is_there else present.discard)(label_id)
        return frozenset(present)

    @property
    def live(self) -> bool:
        """Whether it was seen after it was deleted, or never was."""
        seen = [self.at, self.upsert or (-1, -1), *(change[:2] for change in self.changes.values())]
        return self.deleted is None or max(seen) > self.deleted


async def _records(kafka: str, topic: str) -> list[tuple[Place, str, Any]]:
    """Every record that can be read as JSON; None for one that was nulled."""
    found = []
    async with Log.open(kafka, topic) as log:
        async for record in log.read():
            place = (record.topic, record.partition, record.offset)
            try:
                found.append((place, record.key, json.loads(record.value) if record.value else None))
            except ValueError:  # poison
                continue
    return found


async def _changes(kafka: str) -> dict[MessageKey, Said]:
    """What the source has told."""
    said: dict[MessageKey, Said] = defaultdict(Said)
    for topic in (topics.CHANGES.name, topics.BACKFILL.name):
        for _, _, event in await _records(kafka, topic):
            one = said[event["mailbox_id"], event["message_id"]]
            kind, at = event["kind"], (event["epoch"], event["history_id"])
            label_ids = event.get("label_ids")
            if kind in ("upsert", "labels") and label_ids is not None:
                one.see_snapshot(*at, label_ids)
            if kind == "upsert":
                one.upsert = max(one.upsert or at, at)
            elif kind == "delete":
                one.deleted = max(one.deleted or at, at)
            elif kind in ("label_added", "label_removed"):
                for label_id in label_ids or ():
                    one.see_change(label_id, *at, kind == "label_added")
    return said


async def _documents(kafka: str) -> dict[MessageKey, Said]:
    """What extract has written."""
    said: dict[MessageKey, Said] = defaultdict(Said)
    for _, key, register in await _records(kafka, topics.DOCUMENTS.name):
        if register is None:
            continue
        one = said[register["mailbox_id"], register["message_id"]]
        name = key.partition("/")[2]
        if name.startswith("content/"):
            version = register["version"]
            order = (
                *(version["epoch"], version.get("verdict", 0), version.get("engine", 1), version["rank"]),
                *(version["digest"], version.get("source", "gmail_api")),
            )
            path = register.get("part_path", "")
            if path not in one.contents or order > one.contents[path][0]:
                one.contents[path] = (order, register.get("attachment") or register["message"])
            continue
        at = (register["epoch"], register["history_id"])
        if name == "labels":
            one.see_snapshot(*at, register["label_ids"])
        elif name == "deleted":
            one.deleted = max(one.deleted or at, at)
        else:
            one.see_change(register["label_id"], *at, register["present"])
    return said


def _compare_topic(what: str, truth: Truth, said: Mapping[MessageKey, Said]) -> Iterator[str]:
    live = {key: one.label_ids for key, one in said.items() if one.live}
    for key in sorted(truth.labels.keys() | live.keys()):
        if truth.labels.get(key) != live.get(key):
            yield f"{what}: {key}: {_labels(truth.labels, key)} in Gmail, {_labels(live, key)} here"


def _labels(known: Mapping[MessageKey, frozenset[str]], key: MessageKey) -> str:
    return str(sorted(known[key])) if key in known else "nothing"


def _compare_contents(truth: Truth, said: Mapping[MessageKey, Said]) -> Iterator[str]:
    for key, expected in truth.expected.items():
        contents = {path: content for path, (_, content) in said[key].contents.items()} if key in said else {}
        if "" not in contents:
            yield f"documents: {key}: no content"
            continue
        message = contents.pop("")
        if message.get("subject") != expected.subject or expected.word not in message.get("text", ""):
            yield f"documents: {key}: another text"
        found = Counter(_found(content, _text(content)) for content in contents.values())
        yield from _compare_attachments(f"documents: {key}", expected, found)


def _text(content: Mapping[str, Any]) -> str:
    return " ".join(segment["text"] for segment in content.get("segments", ()))


def _found(content: Mapping[str, Any], text: str) -> Found:
    return (content.get("filename") or "", content.get("sha256") or "", content.get("outcome") or "", text)


def _compare_attachments(where: str, expected: Expected, found: Mapping[Found, int]) -> Iterator[str]:
    left = Counter(found)
    for attachment in expected.attachments:
        match = next((one for one in left if _is(attachment, one)), None)
        late = (attachment.filename, attachment.sha256, "timed_out")
        if match is None and attachment.word is None and any(one[:3] == late for one in left):
            # A picture that was not read within its 30 s: the deadline did what it is for.
            match = next(one for one in left if one[:3] == late)
            yield f"{LATE} {where}: {attachment.filename}"
        if match is None:
            near = [one[:3] for one in found if one[0] == attachment.filename]
            yield f"{where}: {attachment.filename} ({attachment.outcome}) is not there, but {near}"
        else:
            left[match] -= 1
            left += Counter()  # drops what has been counted off
    yield from (f"{where}: {one[0]} too much ({count})" for one, count in left.items())


def _is(attachment: Attachment, found: Found) -> bool:
    filename, sha256, outcome, text = found
    named = (filename, sha256, outcome) == (attachment.filename, attachment.sha256, attachment.outcome)
    return named and (attachment.word is None or attachment.word in text)


def _compare_holes(changes: Mapping[MessageKey, Said], documents: Mapping[MessageKey, Said]) -> Iterator[str]:
    """Whatever the source told has left its trace behind extract: no offset was passed over."""
    for key, told in changes.items():
        written = documents.get(key, Said())
        for label_id, change in told.changes.items():
            if written.changes.get(label_id, (-1, -1, False)) < change:
                yield f"hole: {key}: label {label_id} of {change} was never written"
        if told.deleted is not None and (written.deleted or (-1, -1)) < told.deleted:
            yield f"hole: {key}: the deletion at {told.deleted} was never written"


# --- the index ---------------------------------------------------------------------------------------


def _index(elasticsearch: str) -> Iterator[dict[str, Any]]:
    """Every document of the index, without its chunks."""
    after: list[Any] | None = None
    while True:
        body: dict[str, Any] = {
            "size": _PAGE,
            "query": {"match_all": {}},
            "sort": ["message_key", "part_path"],
            "_source": {"excludes": ["chunks", "registers"]},
        }
        if after is not None:
            body["search_after"] = after
        hits = ask(elasticsearch, "/mail-read/_search", body)["hits"]["hits"]
        if not hits:
            return
        yield from (hit["_source"] for hit in hits)
        after = hits[-1]["sort"]


def ask(elasticsearch: str, path: str, body: Any = None, timeout_seconds: float = 30.0) -> Any:
    """An answer of Elasticsearch's. Raises OSError."""
    request = urllib.request.Request(
        elasticsearch + path,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
        return json.loads(answer.read())


def answers(url: str) -> None:
    """Return when an address answers. Raises OSError where it does not for a while."""
    for attempt in range(READY_ATTEMPTS):
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except OSError:
            if attempt == READY_ATTEMPTS - 1:
                raise
            time.sleep(1.0)


def _compare_index(truth: Truth, documents: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    messages: dict[MessageKey, list[Mapping[str, Any]]] = defaultdict(list)
    attachments: dict[MessageKey, list[Mapping[str, Any]]] = defaultdict(list)
    for document in documents:
        key = (document["mailbox_id"], document["message_id"])
        if not document.get("live"):
            if document.get("text") or document.get("subject") or document.get("filename"):
                yield f"index: {key}: a tombstone that still says something"
            continue
        (messages if document["kind"] == "message" else attachments)[key].append(document)
    for key in sorted(truth.labels.keys() | messages.keys() | attachments.keys()):
        found = messages.get(key, [])
        if key not in truth.labels:
            yield f"index: {key}: shown, and gone in Gmail"
        elif len(found) != 1:
            yield f"index: {key}: there {len(found)} times"
        else:
            yield from _compare_message(key, truth, found[0], attachments.get(key, []))


def _compare_message(
    key: MessageKey, truth: Truth, message: Mapping[str, Any], attachments: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    expected, labels = truth.expected[key], sorted(truth.labels[key])
    for document in (message, *attachments):
        if sorted(document.get("label_ids") or ()) != labels:
            found = sorted(document.get("label_ids") or ())
            yield f"index: {key}/{document['part_path']}: labels {found}, not {labels}"
        if document.get("subject") != expected.subject:
            yield f"index: {key}/{document['part_path']}: another subject"
    if expected.word not in (message.get("text") or ""):
        yield f"index: {key}: another text"
    found_attachments = Counter(_found(document, document.get("text") or "") for document in attachments)
    yield from _compare_attachments(f"index: {key}", expected, found_attachments)


# --- what is left ------------------------------------------------------------------------------------


async def _compare_letters(kafka: str, truth: Truth) -> list[str]:
    async with LetterBox.open(kafka) as box:
        letters = [item.letter for item in box.waiting()]
    found = Counter((letter.topic, letter.partition, letter.offset) for letter in letters)
    lines = [
        f"dead letters: {place}: {found[place]} and not one" for place in truth.poison if found[place] != 1
    ]
    lines += [
        f"dead letters: {letter.error_class} of {letter.stage}: {letter.error}"
        for letter in letters
        if (letter.topic, letter.partition, letter.offset) not in set(truth.poison)
    ]
    return lines


async def _compare_offsets(kafka: str) -> list[str]:
    lines = []
    async with LagMeter.open(kafka) as meter:
        for group, names in topics.STAGES.values():
            committed = await meter.committed(group)
            for place, end in (await meter.ends(names)).items():
                if end and committed.get(place, 0) != end:
                    lines.append(f"offsets: {group} stands at {committed.get(place)} of {end} in {place}")
    return lines


def files_below(directory: Path) -> list[str]:
    """The files below a directory, with their sizes."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            try:
                found.append(f"{path.relative_to(directory)} ({path.lstat().st_size} bytes)")
            except FileNotFoundError:
                continue
    return sorted(found)


async def violations(kafka: str, elasticsearch: str, truth: Truth) -> list[str]:
    """What does not agree, a line each; files are looked for when nobody runs any more."""
    ask(elasticsearch, "/mail-read/_refresh")
    changes, documents = await _changes(kafka), await _documents(kafka)
    lines = [*_compare_topic("changes", truth, changes), *_compare_topic("documents", truth, documents)]
    lines += _compare_holes(changes, documents)
    lines += _compare_contents(truth, documents)
    lines += _compare_index(truth, _index(elasticsearch))
    lines += await _compare_letters(kafka, truth)
    lines += await _compare_offsets(kafka)
    return lines
