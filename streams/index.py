"""From registers to the index: read what stands, merge, embed what is new, write by compare-and-set.

A batch is worked through in rounds. A round reads the messages it touches and their parts, merges, and writes
the messages first and then the parts; whatever somebody else wrote in between goes into the next round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from connectors.elasticsearch import Index, Stored, Write
from connectors.elasticsearch.vectors import Vectors
from connectors.encoder import Encoder
from connectors.errors import (
    ConflictError,
    DocumentTooLargeError,
    IndexReplacedError,
    MailstreamError,
    UnavailableError,
)
from connectors.kafka import Record
from connectors.logs import about
from connectors.metrics import (
    index_bulk_errors_counter,
    index_chunks_counter,
    index_conflicts_counter,
    index_documents_counter,
    stage_events_counter,
)
from connectors.tracing import spans, trace_of
from schemas import topics
from schemas.headers import Headers, is_live
from schemas.identity import document_id
from schemas.mapping import MAX_CHUNKS
from schemas.registers import AnyRegister, decode_register
from streams.attempts import Attempts, event_of
from streams.chunking import Chunk, chunk
from streams.dead_letters import DeadLetters, undecodable
from streams.embeddings import leaning
from streams.fields import (
    MessageView,
    PartView,
    heading_of,
    segments_of,
)
from streams.forward import DocumentsLog, overtaken
from streams.gone import Gone
from streams.plans import Group, Planned, part_views, plan_message, plan_parts
from streams.turns import Turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Conflicts are rare (a rebalance's overlap); a group that loses this often has a busy twin somewhere.
MAX_ROUNDS = 20
# Elasticsearch is waited for in place: a new process would take a rebalance and the loading of the model, and
# nothing is acked meanwhile, so that nothing more is read than fits into memory.
OUTAGE_SECONDS = 600.0
OUTAGE_POLL_SECONDS = 5.0  # the longest; the first is short, for a shard that is only just starting
# Texts that the model is given at once: half a second of two cores. Then somebody else has his turn. Of eight
# at once it reads a tenth fewer a second, of 32 no more.
EMBEDDED_AT_ONCE = 16

# As long as any topic before this one keeps a record that may speak of a message.
FORGET_MILLISECONDS = max(
    topic.retention_milliseconds or 0 for topic in (topics.CHANGES, topics.BACKFILL, topics.DEFERRED)
)


Answer = TypeVar("Answer")


class Indexer:
    """Applies batches of ``mail.documents`` to the index. ``max_chunks`` bounds one document's vectors;
    ``patient`` embeds what is not urgent, where another encoder does."""

    def __init__(
        self,
        index: Index,
        encoder: Encoder,
        dead_letters: DeadLetters,
        max_chunks: int,
        documents: DocumentsLog | None = None,
        gone: Gone | None = None,
        known: Vectors | None = None,
        forget_milliseconds: int = FORGET_MILLISECONDS,
        attempts: Attempts | None = None,
        patient: Encoder | None = None,
    ) -> None:
        self._index = index
        self._forget_milliseconds = forget_milliseconds  # how long a deleted message is remembered
        self._gone = gone  # what has been purged
        self._known = known  # vectors that need not be computed again
        self._encoder = encoder
        self._patient = patient or encoder
        self._dead_letters = dead_letters
        self._max_chunks = min(max_chunks, MAX_CHUNKS)
        self._documents = documents
        self._attempts = attempts  # what processes died on, where somebody counts
        # Batches are written side by side; the model takes one slice at a time, with all cores, and beside it
        # what is urgent: a slice takes seconds where others want the cores, too.
        self._encoding = Turns(1, reserved=1)

    async def handle(self, records: Sequence[Record]) -> None:
        """Apply a batch. Raises UnavailableError when the index does not take it; safe to repeat."""
        started_ns = time.time_ns()
        urgent = any(is_live(record.headers) for record in records)
        groups = await self._grouped(records)
        works = _works(groups)
        done = sum(not record.ahead for group in groups for _, record in group.registers)
        rounds = 0
        while groups:
            if rounds == MAX_ROUNDS:
                raise UnavailableError(f"{len(groups)} messages keep changing under our writes")
            groups = await outlasting(partial(self._round, groups, urgent=urgent))
            rounds += 1
        spans("index", started_ns, time.time_ns(), works)
        _count("done", done)

    async def _grouped(self, records: Iterable[Record]) -> list[Group]:
        groups: dict[str, Group] = {}
        late: list[tuple[AnyRegister, Record]] = []
        if self._gone is not None:
            await self._gone.refresh()
        for record in records:
            if record.value is None:
                _count("ignored")
                continue  # a tombstone makes room in the topic; what the index shows is said by registers
            try:
                register = decode_register(record.key, record.value, record.headers)
            except ValueError as error:
                if not record.ahead:  # else in its turn
                    await self._dead_letters.write(record, undecodable(error))
                    _count("dead_letter")
                continue
            if self._gone is not None and self._gone.has(register):
                _count("ignored")
                late.append((register, record))
                continue
            owner = document_id(register.mailbox_id, register.message_id)
            group = groups.setdefault(owner, Group(register.mailbox_id, register.message_id))
            group.registers.append((register, record))
        if self._gone is not None:
            await self._gone.null(late)
        return list(groups.values())

    async def _round(self, groups: Sequence[Group], *, urgent: bool) -> list[Group]:
        """One round; returns the groups that must go again."""
        index = await self._index.current(self._encoder.name)
        messages = await index.read([group.message_document for group in groups], MessageView.FIELDS)
        stored = {
            group.message_document: MessageView.read(messages.get(group.message_document)) for group in groups
        }
        await self._recall(groups, stored)
        views = {group.message_document: stored[group.message_document].join(group.seen) for group in groups}
        part_ids = [
            group.part_document(path) for group in groups for path in views[group.message_document].parts
        ]
        parts = await index.read(part_ids, PartView.FIELDS)
        for group in groups:
            view = views[group.message_document]
            view.pass_over(part_views(group, view, parts).values())

        again: dict[str, Group] = {}
        # What may take the process with it. Waiting for servers is not part of it: who is killed meanwhile is
        # not killed by an event.
        async with self._tracked(groups):
            plans = [
                plan_message(group, views[group.message_document], self._forget_milliseconds)
                for group in groups
            ]
            planned = [plan for plan in plans if plan is not None]
            part_plans = [
                plan for group in groups for plan in plan_parts(group, views[group.message_document], parts)
            ]
            await self._embed([*planned, *part_plans], urgent=urgent)
        await self._write(index, planned, again)
        await self._write(index, [p for p in part_plans if p.group.message_document not in again], again)
        await self._recheck(index, part_plans, views, again)
        for group in groups:
            if group.message_document not in again:
                await self._forward(group, views[group.message_document], parts)
                if not group.refused:
                    self._dead_letters.succeeded()
        return list(again.values())

    def _tracked(self, groups: Iterable[Group]) -> AbstractAsyncContextManager[None]:
        if self._attempts is None:
            return nullcontext()
        return self._attempts.track_together(
            {event_of(record) for group in groups for _, record in group.registers}
        )

    async def _recall(self, groups: Sequence[Group], stored: Mapping[str, MessageView]) -> None:
        """Messages that turn out to be seen after their deletion get the contents from before it back."""
        if self._documents is None:
            return
        wanted: dict[int, dict[int, Group]] = {}  # by partition and offset
        for group in groups:
            known = stored[group.message_document]
            if known.passed_over and known.join(group.seen).live:
                missing = known.passed_over - {record.offset for _, record in group.registers}
                partition = group.registers[0][1].partition
                wanted.setdefault(partition, {}).update(dict.fromkeys(missing, group))
        for partition, owners in wanted.items():
            for record in await self._documents.read(partition, sorted(owners)):
                register = decode_register(record.key, record.value) if record.value is not None else None
                owner = owners[record.offset]
                if register is not None and register.message_id == owner.message_id:
                    owner.registers.append((register, record))

    async def _forward(self, group: Group, view: MessageView, parts: Mapping[str, Stored]) -> None:
        if self._documents is not None:
            winners = overtaken(group.registers, view, part_views(group, view, parts))
            await self._documents.write_again(group.registers[0][1].partition, winners)

    async def _write(self, index: Index, plans: Sequence[Planned], again: dict[str, Group]) -> None:
        """Write; groups with conflicts, or with documents refused for good, are added to ``again``. Raises
        UnavailableError, also where another index takes the place of this one."""
        results = await index.write([plan.write for plan in plans])
        replaced: IndexReplacedError | None = None
        for plan, result in zip(plans, results, strict=True):
            if result is None:
                kind = "attachment" if plan.part_path else "message"
                index_documents_counter.labels(kind=kind).inc()
            elif isinstance(result, ConflictError):
                index_conflicts_counter.inc()
                again[plan.group.message_document] = plan.group
            elif isinstance(result, IndexReplacedError):
                replaced = result
            elif isinstance(result, DocumentTooLargeError) and plan.chunks:
                log.warning("document %s is too large with %d chunks", plan.write.document_id, plan.chunks)
                plan.group.max_chunks[plan.part_path] = plan.chunks // 2
                again[plan.group.message_document] = plan.group
            else:
                await self._reject(plan, result)
                plan.group.refuse(plan.part_path)
                again[plan.group.message_document] = plan.group
        if replaced is not None:
            # Nobody changes these documents: that takes as long as it takes, however many rounds that is.
            raise replaced

    async def _reject(self, plan: Planned, error: MailstreamError) -> None:
        record = plan.group.record_of(plan.part_path)
        if record.ahead:
            return  # it is a dead letter when its turn comes
        with about(plan.group.mailbox_id, plan.group.message_id):
            log.warning("document %s is refused: %s", plan.write.document_id, error)
        await self._dead_letters.write(
            record,
            error,
            mailbox_id=plan.group.mailbox_id,
            message_id=plan.group.message_id,
            part_path=plan.part_path or None,
        )

    async def _recheck(
        self,
        index: Index,
        part_plans: Sequence[Planned],
        views: Mapping[str, MessageView],
        again: dict[str, Group],
    ) -> None:
        """A message may have been deleted or relabelled by another worker while its parts were written."""
        groups = {plan.group.message_document: plan.group for plan in part_plans}
        now = await index.read(sorted(groups), MessageView.FIELDS)
        again |= {
            document: group
            for document, group in groups.items()
            if not MessageView.read(now.get(document)).agrees_with(views[document])
        }

    async def _embed(self, plans: Sequence[Planned], *, urgent: bool) -> None:
        """Chunk and embed the new contents of all plans, together: the model is fastest in large batches."""
        chunked: list[tuple[Planned, list[Chunk], bool]] = []
        texts: dict[tuple[str, str], str] = {}  # what is embedded, by document and chunk
        for plan in plans:
            if plan.content is not None:
                most = plan.group.max_chunks.get(plan.part_path, self._max_chunks)
                chunks, more = chunk(segments_of(plan.content), most)
                plan.chunks = len(chunks)
                chunked.append((plan, chunks, more))
                heading = heading_of(plan.content)
                texts |= {(plan.write.document_id, each.text): _embedded(heading, each) for each in chunks}
        vectors = await self._vectors(texts, urgent=urgent)
        for plan, chunks, more in chunked:
            document = plan.write.document_id
            fields = {**plan.write.fields, "chunk_count": len(chunks), "chunks": []}
            for piece in chunks:
                fields["chunks"].append(_chunk_fields(piece, vectors[document, piece.text]))
            if more:
                fields["truncated"] = True
            plan.write = Write(plan.write.document_id, fields, plan.write.expected)

    async def _vectors(
        self, texts: Mapping[tuple[str, str], str], *, urgent: bool
    ) -> Mapping[tuple[str, str], NDArray[np.float32]]:
        """The vectors of texts by document and chunk, a document's first chunk before its others: those that
        are known, the others computed."""
        known: dict[tuple[str, str], NDArray[np.float32]] = {}
        if self._known is not None and texts:
            known = await self._known.read({document for document, _ in texts})
        # What is known leans already: beside a chunk that is new it would be of another beginning.
        changed = {pair[0] for pair in texts if pair not in known}
        computed: dict[tuple[str, str], NDArray[np.float32]] = {}
        # By length, so that few texts of a slice are padded to the longest of it.
        new = sorted((pair for pair in texts if pair[0] in changed), key=lambda pair: len(texts[pair]))
        for start in range(0, len(new), EMBEDDED_AT_ONCE):
            some = new[start : start + EMBEDDED_AT_ONCE]
            async with self._encoding.take(urgent=urgent):
                encoder = self._encoder if urgent else self._patient
                vectors = await asyncio.to_thread(encoder.encode, [texts[pair] for pair in some])
            computed |= dict(zip(some, vectors, strict=True))
            index_chunks_counter.inc(len(some))
        firsts: dict[str, NDArray[np.float32]] = {}
        for pair in texts:
            if pair in computed:
                first = firsts.setdefault(pair[0], computed[pair])
                known[pair] = leaning(computed[pair], first)
        return known


async def outlasting(step: Callable[[], Awaitable[Answer]]) -> Answer:
    """What ``step`` returns; while Elasticsearch is away it is tried again, for OUTAGE_SECONDS. Raises
    UnavailableError after that."""
    waited_seconds = 0.0
    while True:
        try:
            return await step()
        except UnavailableError as error:
            if waited_seconds >= OUTAGE_SECONDS:
                raise
            log.warning("%s; trying again", error)
            index_bulk_errors_counter.labels(kind="unavailable").inc()
            wait_seconds = min(0.25 + waited_seconds, OUTAGE_POLL_SECONDS)
            await asyncio.sleep(wait_seconds)
            waited_seconds += wait_seconds


def _works(groups: Iterable[Group]) -> list[tuple[Headers, str, str]]:
    """What a batch is to the traces: each message once for each trace that it belongs to."""
    works = {
        (trace, group.mailbox_id, group.message_id): None
        for group in groups
        for _, record in group.registers
        if (trace := trace_of(record.headers))
    }
    return list(works)


def _count(outcome: str, events: int = 1) -> None:
    stage_events_counter.labels(stage="index", outcome=outcome).inc(events)


def _embedded(heading: str, piece: Chunk) -> str:
    return f"{heading}\n\n{piece.text}" if heading and not piece.text.startswith(heading) else piece.text


def _chunk_fields(piece: Chunk, vector: NDArray[np.float32]) -> dict[str, Any]:
    fields: dict[str, Any] = {"ordinal": piece.ordinal, "text": piece.text, "vector": vector}
    if piece.page is not None:
        fields["page"] = piece.page
    if piece.label is not None:
        fields["label"] = piece.label
    return fields
