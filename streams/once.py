"""Once per content: bytes that many mailboxes receive are scanned and read once, while that is remembered.

What is kept is derived text and verdicts, never bytes, and only what another attempt would not change. Names,
declared types and places belong to each attachment and are never taken from another. A cache that is away
costs time, not results.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import PurePath
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from connectors.errors import MailstreamError
from connectors.metrics import content_cache_counter
from schemas.outcomes import Outcome, Scan, ScanVerdict
from schemas.registers import ENGINE_VERSION
from streams.extractors.assembly import AttachmentResult, Metadata
from streams.parser_pool import Job

log = logging.getLogger(__name__)

Value = TypeVar("Value")

# Ends that the same engine would come to again. A limit or a deadline may have been the machine's, not the
# document's.
_FINAL = frozenset(
    {
        Outcome.TEXT,
        Outcome.EMPTY,
        Outcome.ENCRYPTED,
        Outcome.CORRUPT,
        Outcome.UNSUPPORTED,
        Outcome.CONTAINER,
    }
)
# Formats that are told by their first bytes, whatever claims to be of them.
_TOLD_BY_CONTENT = (
    *("application/pdf", "application/rtf", "application/zip", "application/epub+zip"),
    *("application/vnd.", "application/msword", "application/x-ole-storage"),
    *("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/gif", "image/webp", "image/hei"),
)
# A document that came to one of these ends is of its type whatever it is called.
_PROVEN = _FINAL - {Outcome.CORRUPT, Outcome.UNSUPPORTED} | {Outcome.TIMED_OUT, Outcome.LIMIT_EXCEEDED}
# What an attachment brings along itself, and what decides only when it is given up.
_NOT_SETTINGS = frozenset(
    {"content_type", "filename", "charset", "ocr", "urgent", "seconds", "total_seconds"}
)
# Above this an entry is slow to fetch, and so rare that it is not met twice.
MAX_ENTRY_CHARACTERS = 4_000_000
# How long a cache that failed is not asked.
AWAY_SECONDS = 30.0

_RESULT = TypeAdapter(AttachmentResult)
_VERDICT = TypeAdapter(ScanVerdict)


class ContentCache(Protocol):
    """Entries by key, JSON objects, gone within a day. Its methods raise MailstreamError when it is away."""

    async def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The entries that are there, by key."""

    async def put(self, entries: Mapping[str, Any]) -> None:
        """Keep entries."""


class Once:
    """Remembers in ``cache`` under keys that ``secret`` makes; whoever has a file but not the secret cannot
    ask whether somebody received it. Belongs to one event loop."""

    def __init__(self, cache: ContentCache, secret: bytes) -> None:
        self._cache = cache
        self._secret = secret
        self._running: dict[str, asyncio.Future[Any]] = {}
        self._away_until = 0.0
        self._is_away = False

    def key(self, kind: str, *parts: str) -> str:
        """The key of an entry: HMAC-SHA256 in hexadecimal."""
        return hmac.new(self._secret, json.dumps([kind, *parts]).encode(), hashlib.sha256).hexdigest()

    async def verdict(
        self,
        sha256: str,
        version: Callable[[], Awaitable[str]],
        scan: Callable[[], Awaitable[ScanVerdict]],
    ) -> ScanVerdict:
        """What the scanner of this ``version`` says of the bytes. Raises what ``scan`` raises."""
        try:
            key = self.key("verdict", sha256, await version())
        except MailstreamError:
            return await scan()  # whatever is wrong with the scanner, it is for the scan to say
        return await self._alone(key, lambda: self._verdict(key, scan))

    async def _verdict(self, key: str, scan: Callable[[], Awaitable[ScanVerdict]]) -> ScanVerdict:
        known = _read(_VERDICT, (await self.get([key])).get(key))
        _count("verdict", known)
        if known is not None:
            return known
        verdict = await scan()
        if verdict.scan in (Scan.CLEAN, Scan.INFECTED):
            await self.put({key: _VERDICT.dump_python(verdict, mode="json")})
        return verdict

    async def result(
        self,
        about: Metadata,
        verdict: ScanVerdict,
        job: Job,
        read: Callable[[], Awaitable[tuple[AttachmentResult, bool]]],
    ) -> AttachmentResult:
        """What ``job`` makes of the bytes that ``about`` describes; ``read`` does it, and says whether it
        came to its own end. Raises what ``read`` raises."""
        exact = self._text_key(about, job, named=True)
        flight = self._text_key(about, job, named=False)
        while True:
            by, found = await self._alone(flight, lambda: self._result(about, job, exact, read))
            if by == exact or _is_of_the_bytes_alone(found):
                return _as(found, about, verdict)

    async def _result(
        self,
        about: Metadata,
        job: Job,
        exact: str,
        read: Callable[[], Awaitable[tuple[AttachmentResult, bool]]],
    ) -> tuple[str, AttachmentResult]:
        shared = self._text_key(about, job, named=False)
        keys = [shared, exact]
        if not job.ocr:
            # What has been read with OCR already need not wait for it again.
            keys += [self._text_key(about, replace(job, ocr=True), named=named) for named in (False, True)]
        entries = await self.get(keys)
        read_ones = (_read(_RESULT, entries.get(key)) for key in keys)
        known = next((result for result in read_ones if result is not None), None)
        _count("text", known)
        if known is not None:
            return exact, known
        result, complete = await read()
        if complete and all(_is_final(item) for item in result.walk()):
            size = sum(len(segment.text) for item in result.walk() for segment in item.segments)
            if size <= MAX_ENTRY_CHARACTERS:
                key = shared if _is_of_the_bytes_alone(result) else exact
                await self.put({key: _RESULT.dump_python(_bare(result), mode="json", exclude_defaults=True)})
        return exact, result

    def _text_key(self, about: Metadata, job: Job, *, named: bool) -> str:
        settings = {
            item.name: repr(getattr(job, item.name)) for item in fields(job) if item.name not in _NOT_SETTINGS
        }
        names = [job.content_type, job.filename, job.charset] if named else None
        parts = json.dumps([ENGINE_VERSION, job.ocr, settings, names], sort_keys=True)
        return self.key("text", about.sha256 or "", parts)

    async def _alone(self, key: str, make: Callable[[], Awaitable[Value]]) -> Value:
        """One call at a time for a key: who comes meanwhile gets the same result, or, where there is none,
        makes it himself."""
        while (running := self._running.get(key)) is not None:
            await asyncio.wait([running])
            if not running.cancelled():
                content_cache_counter.labels(kind="concurrent", found="hit").inc()
                value: Value = running.result()
                return value
        future = self._running[key] = asyncio.get_running_loop().create_future()
        try:
            value = await make()
            future.set_result(value)
            return value
        finally:
            del self._running[key]
            future.cancel()  # no effect where there is a result

    # --- the cache, or none ---------------------------------------------------------------------------

    async def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The entries that are there. Nothing where the cache is away."""
        found: dict[str, Any] = {}
        if time.monotonic() >= self._away_until:
            try:
                found = await self._cache.get(keys)
                self._back()
            except MailstreamError as error:
                self._away(error)
        return found

    async def put(self, entries: Mapping[str, Any]) -> None:
        """Keep entries, if the cache is there."""
        if time.monotonic() < self._away_until:
            return
        try:
            await self._cache.put(entries)
            self._back()
        except MailstreamError as error:
            self._away(error)

    def _away(self, error: MailstreamError) -> None:
        content_cache_counter.labels(kind="away", found="miss").inc()
        self._away_until = time.monotonic() + AWAY_SECONDS
        if not self._is_away:
            self._is_away = True
            log.warning("the content cache is away, everything is read anew: %s", error)

    def _back(self) -> None:
        if self._is_away:
            self._is_away = False
            log.info("the content cache is back")


def _count(kind: str, known: object) -> None:
    content_cache_counter.labels(kind=kind, found="miss" if known is None else "hit").inc()


def _read(form: TypeAdapter[Value], entry: Any) -> Value | None:
    """An entry, if it is one: an older program may have written it in another form."""
    try:
        return form.validate_python(entry) if entry is not None else None
    except ValidationError:
        return None


def _is_final(result: AttachmentResult) -> bool:
    # What a container's rule leaves out, such as a mail's logo, it leaves out every time.
    left_out = result.outcome is Outcome.SKIPPED and result.path
    return (result.outcome in _FINAL or bool(left_out)) and not result.metadata.truncated


def _is_of_the_bytes_alone(result: AttachmentResult) -> bool:
    """Whether the same bytes would give this under any name."""
    if result.outcome not in _PROVEN or not result.metadata.content_type.startswith(_TOLD_BY_CONTENT):
        return False
    stem = PurePath(result.metadata.filename or "").stem.partition(".")[0]
    # What a gzip holds is called as the gzip is: that name is nobody else's.
    names = (f"{item.metadata.filename} {item.metadata.raw_filename}" for item in result.walk() if item.path)
    return not stem or all(stem not in name for name in names)


def _bare(result: AttachmentResult) -> AttachmentResult:
    """The result without what belongs to the attachment, and without the scanner's verdict."""
    nobody = Metadata(None, None, result.metadata.content_type, None, None)
    return _as(result, nobody, ScanVerdict(Scan.OFF))


def _as(result: AttachmentResult, about: Metadata, verdict: ScanVerdict) -> AttachmentResult:
    """The result as that of the attachment that ``about`` describes."""
    metadata = replace(
        result.metadata,
        size_bytes=about.size_bytes,
        declared_content_type=about.declared_content_type,
        filename=about.filename,
        sha256=about.sha256,
        inline=about.inline,
        raw_filename=about.raw_filename,
    )
    return replace(_scanned(result, verdict.scan), metadata=metadata, signature=verdict.signature)


def _scanned(result: AttachmentResult, scan: Scan) -> AttachmentResult:
    children = tuple(_scanned(child, scan) for child in result.children)
    return replace(result, scan=scan, children=children)
