"""Why is this mail not found: everything that stands about one message, each with its time, and one sentence.

Reads the topics and the index; writes nothing, and asks Gmail nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from connectors.broker import Broker
from connectors.elasticsearch import Index
from connectors.errors import ConfigurationError
from connectors.kafka import Log, Record, read_partition, read_table
from connectors.lag import LagMeter
from schemas import topics
from schemas.events import (
    HIDDEN_LABELS,
    ChangeKind,
    Cursor,
    Deferred,
    MailboxRecord,
    MailboxState,
    MessageChange,
    Suppression,
    suppressed_key,
)
from schemas.identity import document_id, message_key, partition_for
from schemas.outcomes import Outcome
from schemas.registers import (
    CONTENT_PREFIX,
    ContentRegister,
    MessageState,
    decode_register,
    split_key,
)
from streams.gone import epoch_of
from streams.letter_box import Letter, LetterBox

_INDEX_FIELDS = ("live", "label_ids", "parts", "part_path", "outcome", "indexed_at", "filename", "kind")


@dataclass(slots=True)
class Step:
    """One thing that happened, ``at`` milliseconds since 1970. ``waiting``: for its stage."""

    at: int | None
    stage: str
    what: str
    waiting: bool = False


@dataclass(slots=True)
class Trace:
    """What is known of a message. ``steps`` are in the order of their times."""

    mailbox_id: str
    message_id: str
    steps: list[Step] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)  # the outcome by part path, as the index has it
    diagnosis: str = ""


@dataclass(slots=True)
class _Facts:
    """What the diagnosis is made of."""

    mailbox: MailboxRecord
    suppression: Suppression | None = None
    cursor: Cursor | None = None
    changes: list[tuple[MessageChange, bool]] = field(default_factory=list)  # and whether it waits
    deferred: list[tuple[Deferred, bool]] = field(default_factory=list)
    state: MessageState = field(default_factory=MessageState)
    registers_waiting: bool = False
    letters: list[Letter] = field(default_factory=list)
    documents: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by part path


async def find_message(index: Index, mailbox_id: str, name: str) -> str:
    """Gmail's id of a message, from that id or from an RFC Message-ID that the index knows.

    Raises ConfigurationError when it is neither.
    """
    if "@" in name:
        wanted = [{"term": {"mailbox_id": mailbox_id}}, {"term": {"rfc_message_id": name.strip("<> ")}}]
        wanted.append({"term": {"kind": "message"}})
        answer = await index.search({"query": {"bool": {"filter": wanted}}, "size": 1})
        if not answer["hits"]["hits"]:
            raise ConfigurationError(
                f"the index knows no message {name} in this mailbox: give Gmail's own id (hexadecimal)"
            )
        return str(answer["hits"]["hits"][0]["_source"]["message_id"])
    return name


async def trace(
    kafka: Broker | str, meter: LagMeter, index: Index, mailbox: MailboxRecord, message_id: str
) -> Trace:
    """Everything about one message; nothing is an answer too."""
    facts, found = _Facts(mailbox), Trace(mailbox.mailbox_id, message_id)
    await _registry(kafka, facts, found)
    await _events(kafka, meter, facts, found)
    await _registers(kafka, meter, facts, found)
    await _letters(kafka, facts, found)
    await _index(index, facts, found)
    found.steps.sort(key=lambda step: step.at or 0)
    found.diagnosis = next(_reasons(facts, found))
    return found


async def _registry(kafka: Broker | str, facts: _Facts, found: Trace) -> None:
    registry = await read_table(kafka, topics.MAILBOXES.name)
    value = registry.get(suppressed_key(found.mailbox_id, found.message_id))
    if value is not None:
        facts.suppression = Suppression.decode(value)
        found.steps.append(Step(facts.suppression.suppressed_at, "registry", "purged: on the suppress list"))
    cursor = (await read_table(kafka, topics.CURSORS.name)).get(found.mailbox_id)
    facts.cursor = Cursor.decode(cursor) if cursor is not None else None


async def _events(kafka: Broker | str, meter: LagMeter, facts: _Facts, found: Trace) -> None:
    for topic, group in (
        (topics.CHANGES.name, topics.EXTRACT_GROUP),
        (topics.BACKFILL.name, topics.EXTRACT_GROUP),
        (topics.DEFERRED.name, topics.SLOW_GROUP),
    ):
        committed = await meter.committed(group)
        partitions = len(await meter.ends([topic]))
        own = partition_for(found.mailbox_id, partitions)
        # Changes lie with their mailbox; deferred work is spread by document.
        for partition in range(partitions) if topic == topics.DEFERRED.name else [own]:
            async for record in read_partition(kafka, topic, partition):
                if found.message_id.encode() not in (record.value or b""):
                    continue
                waiting = record.offset >= committed.get(TopicPartition(topic, partition), 0)
                _event(record, facts, found, waiting=waiting)


def _event(record: Record, facts: _Facts, found: Trace, *, waiting: bool) -> None:
    event: MessageChange | Deferred
    kind = Deferred if record.topic == topics.DEFERRED.name else MessageChange
    try:
        event = kind.decode(record.value or b"", record.headers)
    except ValueError:
        return  # a dead letter says so
    if (event.mailbox_id, event.message_id) != (found.mailbox_id, found.message_id):
        return
    if isinstance(event, Deferred):
        facts.deferred.append((event, waiting))
        what = f"{event.reason}, {'part ' + event.part_path if event.part_path else 'the whole message'}"
    else:
        facts.changes.append((event, waiting))
        labels = f" {','.join(event.label_ids)}" if event.label_ids else ""
        what = f"{event.kind}{labels} at historyId {event.history_id}, epoch {event.epoch}, {event.origin}"
    found.steps.append(Step(event.emitted_at, record.topic, what, waiting))


async def _registers(kafka: Broker | str, meter: LagMeter, facts: _Facts, found: Trace) -> None:
    topic, key = topics.DOCUMENTS.name, message_key(found.mailbox_id, found.message_id)
    partition = partition_for(key, len(await meter.ends([topic])))
    committed = (await meter.committed(topics.INDEX_GROUP)).get(TopicPartition(topic, partition), 0)
    async with Log.open(kafka, topic, partition) as log:
        async for record in log.read():
            owner, name = split_key(record.key)
            if owner != key:
                continue
            waiting = record.offset >= committed
            if record.value is None:
                found.steps.append(Step(record.written_at, topic, f"{name}: removed", waiting))
                continue
            try:
                register = decode_register(record.key, record.value, record.headers)
            except ValueError:
                continue  # a dead letter says so
            facts.state = facts.state.join([register])
            facts.registers_waiting |= waiting
            what = name
            if isinstance(register, ContentRegister):
                content = register.attachment
                what = f"{CONTENT_PREFIX}{register.part_path or '(message)'}"
                what += (
                    f": {content.outcome}, engines {','.join(content.engines) or 'none'}" if content else ""
                )
            found.steps.append(Step(record.written_at, topic, f"{what}, epoch {epoch_of(register)}", waiting))
    found.labels = sorted(facts.state.label_ids)


async def _letters(kafka: Broker | str, facts: _Facts, found: Trace) -> None:
    async with LetterBox.open(kafka) as box:
        for letter in box.letters.values():
            dead = letter.letter
            if (dead.mailbox_id, dead.message_id) != (found.mailbox_id, found.message_id):
                continue
            part = f", part {dead.part_path}" if dead.part_path else ""
            state = letter.resolution.action if letter.resolution is not None else "open"
            what = f"dead letter {letter.id} ({state}): {dead.error_class}{part}: {dead.error}"
            found.steps.append(Step(dead.failed_at, dead.stage, what))
            if letter.open:
                facts.letters.append(letter)


async def _index(index: Index, facts: _Facts, found: Trace) -> None:
    own = document_id(found.mailbox_id, found.message_id)
    try:
        stored = await index.read([own], _INDEX_FIELDS)
    except ConfigurationError:
        return  # there is no index yet
    known = {part.part_path for part in facts.state.contents.values()} | {""}
    if own in stored:
        known |= set(stored[own].source.get("parts", ()))
    by_id = {document_id(found.mailbox_id, found.message_id, path): path for path in known}
    for document, read in sorted((await index.read(sorted(by_id), _INDEX_FIELDS)).items()):
        path, source = by_id[document], read.source
        facts.documents[path] = source
        what = f"{'part ' + path if path else 'message'}: {'live' if source.get('live') else 'not shown'}"
        if path:
            found.parts[path] = str(source.get("outcome", "none"))
            what += f", {found.parts[path]}"
        found.steps.append(Step(source.get("indexed_at"), "index", what))


def _reasons(facts: _Facts, found: Trace) -> Iterator[str]:
    """Plain sentences: the first is the diagnosis, the first thing on the message's path that explains what a
    person sees."""
    mailbox, message, cursor = facts.mailbox, facts.documents.get(""), facts.cursor
    if mailbox.state is MailboxState.PURGED:
        yield "The mailbox was purged: nothing of it is kept or read again."
    if facts.suppression is not None:
        yield "The message was purged by an operator: it is on the suppress list, and is not read again."
    shown = message is not None and message.get("live")
    if shown:
        yield _found(facts, found)
    if facts.letters:
        letter = facts.letters[-1]
        yield (
            f"It failed for good in {letter.letter.stage} ({letter.letter.error_class}):"
            f" `mailstream dead-letters replay {letter.id}` tries it again."
        )
    if facts.state.deleted is not None and not facts.state.live:
        yield f"It was deleted in Gmail, as of historyId {facts.state.deleted.history_id}."
    if any(waiting for _, waiting in facts.changes):
        yield "It has been noticed, and waits for `mailstream worker extract` to come to it."
    if any(waiting and not work.part_path for work, waiting in facts.deferred):
        yield "It was put off (Gmail asked to wait, or the mailbox is parked), and waits for the slow worker."
    if facts.registers_waiting:
        yield "Its text is extracted, and waits for `mailstream worker index` to come to it."
    if facts.state.labels is not None and not mailbox.in_scope(facts.state.label_ids):
        labels = ", ".join(sorted(facts.state.label_ids)) or "none"
        yield f"The mailbox's policy leaves it out by its labels ({labels}): see `mailstream mailbox list`."
    if "" in facts.state.contents:
        yield "The log has it and the index has not: `mailstream reindex` builds the index anew from the log."
    if facts.changes and all(change.kind is ChangeKind.DELETE for change, _ in facts.changes):
        yield "All that is known of it is that it was deleted."
    if facts.changes:
        yield (
            "It was noticed and not fetched: gone from Gmail by then, or of an older epoch;"
            " `mailstream audit MAILBOX --repair` fetches what Gmail still has."
        )
    if mailbox.state is MailboxState.PARKED:
        yield f"Nobody has seen it, and the mailbox is parked ({mailbox.state_reason}): it is not read."
    if cursor is None or not cursor.listing.complete:
        listed = f"{cursor.listing.listed} of {cursor.listing.total}" if cursor is not None else "none"
        yield f"Nobody has seen it yet: the mailbox is still being listed ({listed} messages)."
    yield (
        "Nothing here has ever named this message: is the id right? Gmail's listing and history have not"
        " brought it; `mailstream audit MAILBOX --repair` compares them with the index."
    )


def _found(facts: _Facts, found: Trace) -> str:
    labels = set(facts.documents[""].get("label_ids", ()))
    hidden = sorted(labels & HIDDEN_LABELS)
    if hidden:
        return f"It is in the index, and searches leave it out unless they ask for its label {hidden[0]}."
    pending = sorted(path for path, outcome in found.parts.items() if outcome == Outcome.PENDING)
    if pending:
        return f"It is in the index; of {len(pending)} attachments the text (OCR) is still to come."
    lost = [letter for letter in facts.letters if letter.letter.part_path]
    if lost:
        return (
            f"It is in the index, but part {lost[-1].letter.part_path} failed for good"
            f" ({lost[-1].letter.error_class}): `mailstream dead-letters replay {lost[-1].id}` tries again."
        )
    missing = sorted(facts.state.contents.keys() - facts.documents.keys())
    if missing:
        return f"It is in the index, but {len(missing)} of its parts are not there yet."
    return "It is in the index, and can be found."
