"""The ephemeral attachment engine: bytes in, text and metadata out, nothing left behind.

Payloads live in a file without a name (memfd: memory, freed by the kernel with the last descriptor); small
ones arrive whole, larger ones in blocks, and the largest are not read at all. Receiving, detection, hashing
and extraction of one attachment happen in one async context; when it ends, however it ends, the bytes are
gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self

from schemas.outcomes import Outcome, Scan
from streams.extractors.limits import MEBIBYTE, Limits
from streams.extractors.text import decode, html_to_text
from streams.parser_pool import Job, ParserDiedError, ParserPool, ParserTimedOutError, PoolConfig

MAX_FILENAME_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The largest attachment by bytes really received, and deadlines by lane."""

    max_attachment_bytes: int = 50 * MEBIBYTE
    # All attachments in flight together: those above it wait for their turn.
    byte_budget: int = 256 * MEBIBYTE
    deadline_seconds: float = 30.0
    ocr_page_seconds: float = 30.0
    ocr_total_seconds: float = 900.0
    body_seconds: float = 10.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text with its place: a 1-based page or slide, and what a person calls it."""

    text: str
    page: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known about an attachment. ``sha256`` and the detected type are None/declared if not read."""

    size_bytes: int | None
    declared_content_type: str | None
    content_type: str
    filename: str | None
    sha256: str | None
    pages: int | None = None
    author: str | None = None
    title: str | None = None
    created: str | None = None
    seconds: float | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class AttachmentResult:
    """What became of an attachment; ``path`` holds its ordinals below the attachment it came in."""

    outcome: Outcome
    metadata: Metadata
    scan: Scan = Scan.OFF
    segments: tuple[Segment, ...] = ()
    skipped_reason: str | None = None
    engines: tuple[str, ...] = ()
    path: tuple[int, ...] = ()
    children: tuple[AttachmentResult, ...] = ()

    @property
    def text(self) -> str:
        """All text, places joined by an empty line."""
        return "\n\n".join(segment.text for segment in self.segments)

    def walk(self) -> Iterator[AttachmentResult]:
        """This result and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


class EphemeralAttachmentHandler:
    """The engine. Used as an async context: it owns a pool of parser processes."""

    def __init__(self, pool: PoolConfig, config: EngineConfig | None = None) -> None:
        self._config = config or EngineConfig()
        self._pool = ParserPool(pool)
        self._budget = _ByteBudget(self._config.byte_budget)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    @property
    def protections(self) -> list[str]:
        """What parsers are kept from, on this machine."""
        return self._pool.protections

    async def process_attachment(
        self,
        payload: bytes | AsyncIterator[bytes],
        content_type: str | None,
        *,
        filename: str | None = None,
        declared_size_bytes: int | None = None,
        ocr: bool = True,
    ) -> AttachmentResult:
        """Read one attachment and everything inside it.

        ``payload`` is the whole, or blocks of it as they arrive. Without ``ocr`` whatever needs it ends as
        ``pending``. Failures of the document are outcomes; only what the blocks' source raises is raised.
        """
        limit = self._config.max_attachment_bytes
        reserved = len(payload) if isinstance(payload, bytes) else declared_size_bytes or limit
        if max(reserved, declared_size_bytes or 0) > limit:
            return _too_large(content_type, filename, max(reserved, declared_size_bytes or 0))
        async with self._budget.reserve(reserved):
            held = _Held()
            try:
                async for block in _blocks(payload):
                    if held.size_bytes + len(block) > limit:
                        return _too_large(content_type, filename, None)
                    held.write(block)
                del payload
                return await self._extract(held.descriptor(), content_type, filename, ocr)
            finally:
                held.close()

    async def extract_body(self, body: bytes, content_type: str, charset: str | None) -> str:
        """The text of a mail's own body. A body that its parser cannot take is given without its tags."""
        job = Job(
            content_type=content_type,
            filename=None,
            charset=charset,
            ocr=False,
            limits=self._config.limits,
            seconds=self._config.body_seconds,
            total_seconds=self._config.body_seconds,
        )
        if content_type != "text/html":
            return decode(body, charset)
        held = _Held()
        try:
            held.write(body)
            result = await self._run(job, held.descriptor())
        finally:
            held.close()
        if result.outcome in (Outcome.TEXT, Outcome.EMPTY):
            return result.text
        return html_to_text(decode(body, charset)[: self._config.limits.max_characters])

    async def _extract(
        self, descriptor: int, content_type: str | None, filename: str | None, ocr: bool
    ) -> AttachmentResult:
        config = self._config
        job = Job(
            content_type=content_type,
            filename=safe_name(filename),
            charset=None,
            ocr=ocr,
            limits=config.limits,
            seconds=config.ocr_page_seconds if ocr else config.deadline_seconds,
            total_seconds=config.ocr_total_seconds if ocr else config.deadline_seconds,
        )
        return await self._run(job, descriptor)

    async def _run(self, job: Job, descriptor: int) -> AttachmentResult:
        """Collect a parser's records into results; what it did not come to say is said for it."""
        tree = _Tree(job)
        try:
            async for record in self._pool.run(job, descriptor):
                tree.add(record)
        except ParserTimedOutError:
            tree.interrupted(Outcome.TIMED_OUT)
        except ParserDiedError:
            # Its memory limit makes a parser die as often as its bugs do; neither is worth a second try.
            tree.interrupted(Outcome.LIMIT_EXCEEDED)
        return tree.result()


class _Held:
    """Bytes on their way to a parser, in a file of memory that has no name."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.memfd_create("attachment", os.MFD_CLOEXEC), "wb", buffering=0)
        self.size_bytes = 0

    def write(self, block: bytes) -> None:
        self._file.write(block)
        self.size_bytes += len(block)

    def descriptor(self) -> int:
        self._file.seek(0)
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


class _Tree:
    """Results under construction, by path."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._open: dict[tuple[int, ...], dict[str, Any]] = {}
        self._segments: dict[tuple[int, ...], list[Segment]] = {}
        self._closed: dict[tuple[int, ...], dict[str, Any]] = {}
        self._interruption: Outcome | None = None

    def add(self, record: dict[str, Any]) -> None:
        path = tuple(record.get("path", ()))
        match record["type"]:
            case "open":
                self._open[path] = record
            case "segment":
                segment = Segment(record["text"], record["page"], record["label"])
                self._segments.setdefault(path, []).append(segment)
            case "close":
                self._closed[path] = record

    def interrupted(self, outcome: Outcome) -> None:
        self._interruption = outcome

    def result(self) -> AttachmentResult:
        """The attachment's result, with those of what it holds below it."""
        if () not in self._open:
            self._open[()] = {"filename": self._job.filename, "content_type": self._job.content_type}
        results = {path: self._one(path) for path in self._open}
        for path in sorted(results, key=len, reverse=True):
            if path:
                parent = results[path[:-1]]
                children = (*parent.children, results[path])
                ordered = tuple(sorted(children, key=lambda child: child.path))
                results[path[:-1]] = replace(parent, children=ordered)
        return results[()]

    def _one(self, path: tuple[int, ...]) -> AttachmentResult:
        opened, closed = self._open[path], self._closed.get(path)
        segments = tuple(self._segments.get(path, ()))
        truncated = bool(closed and closed["truncated"])
        if closed is not None:
            outcome = Outcome(closed["outcome"])
        else:
            assert self._interruption is not None, "what was opened was closed, or cut off"
            # Finished pages are kept: they are text, though not all of it.
            outcome, truncated = (Outcome.TEXT, True) if segments else (self._interruption, False)
        found = closed or {}
        return AttachmentResult(
            outcome=outcome,
            metadata=Metadata(
                size_bytes=opened.get("size_bytes"),
                declared_content_type=opened.get("declared_content_type") or self._declared(path),
                content_type=opened.get("content_type") or "application/octet-stream",
                filename=safe_name(opened.get("filename")),
                sha256=opened.get("sha256"),
                pages=found.get("pages"),
                author=found.get("author"),
                title=found.get("title"),
                created=found.get("created"),
                seconds=found.get("seconds"),
                truncated=truncated,
            ),
            segments=segments,
            engines=tuple(found.get("engines", ())),
            path=path,
        )

    def _declared(self, path: tuple[int, ...]) -> str | None:
        return None if path else self._job.content_type


class _ByteBudget:
    """Bytes in flight over all attachments of the process; first come, first served."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = asyncio.Condition()

    def reserve(self, size: int) -> _Reservation:
        return _Reservation(self, min(size, self._total))

    async def take(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= size)
            self._free -= size

    async def give(self, size: int) -> None:
        async with self._changed:
            self._free += size
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Reservation:
    budget: _ByteBudget
    size: int

    async def __aenter__(self) -> None:
        await self.budget.take(self.size)

    async def __aexit__(self, *_: object) -> None:
        await self.budget.give(self.size)


async def _blocks(payload: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(payload, bytes):
        yield payload
    else:
        async for block in payload:
            yield block


def _too_large(content_type: str | None, filename: str | None, size_bytes: int | None) -> AttachmentResult:
    return AttachmentResult(
        outcome=Outcome.TOO_LARGE,
        metadata=Metadata(
            size_bytes=size_bytes,
            declared_content_type=content_type,
            content_type=content_type or "application/octet-stream",
            filename=safe_name(filename),
            sha256=None,
        ),
        skipped_reason="too_large",
    )


def safe_name(name: str | None) -> str | None:
    """A file name to show: the last component, without control and direction characters, not too long."""
    if not name:
        return None
    shown = "".join(
        c for c in name if c.isprintable() and c not in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068"
    )
    shown = PurePosixPath(shown.replace("\\", "/")).name.strip()
    return shown[-MAX_FILENAME_CHARACTERS:] or None
