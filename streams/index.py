"""From registers to the index: read what stands, merge, embed what is new, write by compare-and-set.

A batch is worked through in rounds. A round reads the messages it touches and their parts, merges, and writes
the messages first and then the parts; whatever somebody else wrote in between goes into the next round.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.elasticsearch import Index, Stored, Vectors, Write
from connectors.encoder import Encoder
from connectors.errors import ConflictError, MailstreamError, UnavailableError, UndecodableEventError
from connectors.kafka import Record
from connectors.metrics import index_chunks_counter, index_conflicts_counter, index_documents_counter
from schemas.events import now_milliseconds
from schemas.identity import MESSAGE_PATH, document_id, message_key
from schemas.registers import AnyRegister, ContentRegister, decode_register
from streams.chunking import Chunk, chunk
from streams.dead_letters import DeadLetters
from streams.fields import MessageView, PartView, attachment_fields, message_fields, segments_of
from streams.gone import Gone

log = logging.getLogger(__name__)

# Conflicts are rare (a rebalance's overlap); a group that loses this often has a busy twin somewhere.
MAX_ROUNDS = 20
VECTOR_JSON_BYTES = 4_000  # 384 numbers of about ten characters


@dataclass(slots=True)
class _Group:
    """The registers of one message in a batch, each with the record it came in."""

    mailbox_id: str
    message_id: str
    registers: list[tuple[AnyRegister, Record]] = field(default_factory=list)

    @property
    def message_document(self) -> str:
        return document_id(self.mailbox_id, self.message_id)

    def part_document(self, part_path: str) -> str:
        return document_id(self.mailbox_id, self.message_id, part_path)

    def record_of(self, part_path: str) -> Record:
        """The record to name when the document of that part is rejected."""
        for register, record in reversed(self.registers):
            if isinstance(register, ContentRegister) and register.part_path == part_path:
                return record
        return self.registers[-1][1]


@dataclass(slots=True)
class _Planned:
    """A write, the group it belongs to, and the content that still has to be chunked and embedded."""

    group: _Group
    part_path: str
    write: Write
    content: ContentRegister | None = None


class Indexer:
    """Applies batches of ``mail.documents`` to the index. ``max_chunks`` bounds one document's vectors."""

    def __init__(
        self,
        index: Index,
        encoder: Encoder,
        dead_letters: DeadLetters,
        max_chunks: int,
        gone: Gone | None = None,
        known: Vectors | None = None,
    ) -> None:
        self._index = index
        self._gone = gone  # what has been purged
        self._known = known  # vectors that need not be computed again
        self._encoder = encoder
        self._dead_letters = dead_letters
        self._max_chunks = max_chunks

    async def handle(self, records: Sequence[Record]) -> None:
        """Apply a batch. Raises UnavailableError when the index does not take it; safe to repeat."""
        groups = await self._grouped(records)
        for _ in range(MAX_ROUNDS):
            if not groups:
                return
            groups = await self._round(groups)
        raise UnavailableError(f"{len(groups)} messages keep changing under our writes")

    async def _grouped(self, records: Iterable[Record]) -> list[_Group]:
        groups: dict[str, _Group] = {}
        late: list[tuple[AnyRegister, Record]] = []
        if self._gone is not None:
            await self._gone.refresh()
        for record in records:
            if record.value is None:
                continue  # a tombstone makes room in the topic; what the index shows is said by registers
            try:
                register = decode_register(record.key, record.value)
            except ValueError as error:
                reason = UndecodableEventError(f"not a register: {type(error).__name__}")
                await self._dead_letters.write(record, reason)
                continue
            if self._gone is not None and self._gone.has(register):
                late.append((register, record))
                continue
            owner = document_id(register.mailbox_id, register.message_id)
            group = groups.setdefault(owner, _Group(register.mailbox_id, register.message_id))
            group.registers.append((register, record))
        if self._gone is not None:
            await self._gone.null(late)
        return list(groups.values())

    async def _round(self, groups: Sequence[_Group]) -> list[_Group]:
        """One round; returns the groups that must go again."""
        index = await self._index.current(self._encoder.name)
        messages = await index.read([group.message_document for group in groups], MessageView.FIELDS)
        views = {
            group.message_document: MessageView.read(messages.get(group.message_document)).join(
                register for register, _ in group.registers
            )
            for group in groups
        }
        part_ids = [
            group.part_document(path) for group in groups for path in views[group.message_document].parts
        ]
        parts = await index.read(part_ids, PartView.FIELDS)

        again: dict[str, _Group] = {}
        planned = [
            plan
            for group in groups
            if (plan := _plan_message(group, views[group.message_document])) is not None
        ]
        part_plans = [
            plan for group in groups for plan in _plan_parts(group, views[group.message_document], parts)
        ]
        await self._embed([*planned, *part_plans])
        rejected = await self._write(index, planned, again)
        await self._write(index, [p for p in part_plans if p.group.message_document not in again], again)
        written = [p for p in part_plans if p.group.message_document not in rejected]
        await self._recheck(index, written, views, again)
        for group in groups:
            if group.message_document not in again:
                self._dead_letters.succeeded()
        return list(again.values())

    async def _write(self, index: Index, plans: Sequence[_Planned], again: dict[str, _Group]) -> set[str]:
        """Write; conflicts are added to ``again``, documents refused for good are returned."""
        rejected = set()
        results = await index.write([plan.write for plan in plans])
        for plan, result in zip(plans, results, strict=True):
            if result is None:
                kind = "attachment" if plan.part_path else "message"
                index_documents_counter.labels(kind=kind).inc()
            elif isinstance(result, ConflictError):
                index_conflicts_counter.inc()
                again[plan.group.message_document] = plan.group
            else:
                await self._reject(plan, result)
                rejected.add(plan.write.document_id)
        return rejected

    async def _reject(self, plan: _Planned, error: MailstreamError) -> None:
        await self._dead_letters.write(
            plan.group.record_of(plan.part_path),
            error,
            mailbox_id=plan.group.mailbox_id,
            message_id=plan.group.message_id,
            part_path=plan.part_path or None,
        )

    async def _recheck(
        self,
        index: Index,
        part_plans: Sequence[_Planned],
        views: Mapping[str, MessageView],
        again: dict[str, _Group],
    ) -> None:
        """A message may have been deleted or relabelled by another worker while its parts were written."""
        groups = {plan.group.message_document: plan.group for plan in part_plans}
        now = await index.read(sorted(groups), MessageView.FIELDS)
        again |= {
            document: group
            for document, group in groups.items()
            if not MessageView.read(now.get(document)).agrees_with(views[document])
        }

    async def _embed(self, plans: Sequence[_Planned]) -> None:
        """Chunk and embed the new contents of all plans, together: the model is fastest in large batches."""
        chunked: list[tuple[_Planned, list[Chunk], bool]] = []
        for plan in plans:
            if plan.content is not None:
                chunks, more = chunk(segments_of(plan.content), self._max_chunks)
                chunked.append((plan, chunks, more))
        wanted = [(plan.write.document_id, piece.text) for plan, chunks, _ in chunked for piece in chunks]
        vectors = await self._vectors(wanted)
        for plan, chunks, more in chunked:
            document = plan.write.document_id
            fields = {**plan.write.fields, "chunks": []}
            for piece in chunks:
                fields["chunks"].append(_chunk_fields(piece, vectors[document, piece.text]))
            if more:
                fields["truncated"] = True
            size_bytes = 2 * len(fields.get("text", "")) + VECTOR_JSON_BYTES * len(chunks) + 2_000
            plan.write = Write(plan.write.document_id, fields, plan.write.expected, False, size_bytes)

    async def _vectors(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[float]]:
        """The vectors of some texts, by document and text: those that are known, the others computed."""
        known: dict[tuple[str, str], list[float]] = {}
        if self._known is not None and wanted:
            known = await self._known.read({document for document, _ in wanted})
        new = [pair for pair in dict.fromkeys(wanted) if pair not in known]
        computed = await asyncio.to_thread(self._encoder.encode, [text for _, text in new]) if new else ()
        index_chunks_counter.inc(len(new))
        for pair, vector in zip(new, computed, strict=True):
            # Six decimals are beyond what cosine ranking can tell, and half the bytes.
            known[pair] = [round(float(number), 6) for number in vector]
        return known


def _chunk_fields(piece: Chunk, vector: list[float]) -> dict[str, Any]:
    fields: dict[str, Any] = {"ordinal": piece.ordinal, "text": piece.text, "vector": vector}
    if piece.page is not None:
        fields["page"] = piece.page
    if piece.label is not None:
        fields["label"] = piece.label
    return fields


def _plan_message(group: _Group, view: MessageView) -> _Planned | None:
    """The message's own document: whole when its content is new or gone, else only what changed."""
    if not view.changed:
        return None
    identity = {
        "kind": "message",
        "mailbox_id": group.mailbox_id,
        "message_id": group.message_id,
        "message_key": message_key(group.mailbox_id, group.message_id),
        "part_path": MESSAGE_PATH,
        "indexed_at": now_milliseconds(),
    }
    fields = {**identity, **view.stored_fields()}
    whole = view.new_content is not None or view.stored is None or (view.was_live and not view.live)
    if view.new_content is not None and view.live:
        fields |= message_fields(view.new_content)
    write = Write(group.message_document, fields, view.stored, partial=not whole)
    return _Planned(group, MESSAGE_PATH, write, view.new_content if view.live else None)


def _plan_parts(group: _Group, view: MessageView, stored: Mapping[str, Stored]) -> Iterable[_Planned]:
    """The documents of the message's parts: new contents, and what they repeat of the message."""
    for path in sorted(view.parts):
        known = stored.get(group.part_document(path))
        part = PartView.read(known)
        content = view.part_contents.get(path)
        document = group.part_document(path)
        identity = {
            "kind": "attachment",
            "mailbox_id": group.mailbox_id,
            "message_id": group.message_id,
            "message_key": message_key(group.mailbox_id, group.message_id),
            "part_path": path,
            "indexed_at": now_milliseconds(),
        }
        repeated = {**view.repeated_fields(), "live": view.live}
        if not view.live:
            if part.live:
                tombstone = {**identity, "live": False, "registers": {}}
                yield _Planned(group, path, Write(document, tombstone, known))
        elif content is not None and part.older_than(content):
            fields = {**identity, **repeated, **attachment_fields(content)}
            yield _Planned(group, path, Write(document, fields, known), content)
        elif known is not None and part.content is not None and part.repeats != repeated:
            fields = {**repeated, "indexed_at": identity["indexed_at"]}
            yield _Planned(group, path, Write(document, fields, known, partial=True))
