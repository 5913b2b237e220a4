"""The ephemeral attachment engine: bytes in, text and metadata out, nothing left behind.

Payloads live in a file without a name (memfd: memory, freed by the kernel with the last descriptor), small
ones and large ones alike; the largest are not read at all. Receiving, hashing, scanning and extraction of one
attachment happen in one async context; when it ends, however it ends, the bytes are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Self

from connectors.errors import ConfigurationError
from schemas.languages import DEFAULT_LANGUAGES, ocr_languages, ocr_package
from schemas.mime import MAX_PARAMETER_CHARACTERS, charset_of
from schemas.outcomes import Outcome, Scan, ScanVerdict
from streams.extractors.assembly import (
    UNKNOWN_TYPE,
    Assembly,
    AttachmentResult,
    Metadata,
    raw_name,
    safe_name,
)
from streams.extractors.charsets import decode_surely
from streams.extractors.detect import media_type
from streams.extractors.limits import MEBIBYTE, Limits
from streams.extractors.text import without_tags
from streams.held import ByteBudget, Held
from streams.once import Once
from streams.parser_pool import Job, ParserDiedError, ParserPool, ParserTimedOutError, PoolConfig
from streams.scanning import Scanner, Scanning

__all__ = ["AttachmentResult", "EngineConfig", "EphemeralAttachmentHandler", "Metadata", "Payload"]

Payload = bytes | bytearray | memoryview | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Classes of attachments by bytes really received, and deadlines by lane.

    Up to ``memory_attachment_bytes`` a payload may come whole; larger ones come in blocks; those above
    ``max_attachment_bytes`` are not read.
    """

    memory_attachment_bytes: int = 10 * MEBIBYTE
    max_attachment_bytes: int = 50 * MEBIBYTE
    # All attachments in flight together: those above it wait for their turn.
    byte_budget: int = 256 * MEBIBYTE
    # From the first block to the last: bytes that dawdle are held no longer than bytes that are read.
    receive_seconds: float = 30.0
    deadline_seconds: float = 30.0
    ocr_page_seconds: float = 30.0
    ocr_total_seconds: float = 900.0
    body_seconds: float = 10.0
    scan_seconds: float = 25.0
    # With a scanner: what it has no verdict on is not read.
    block_unscanned: bool = True
    languages: tuple[str, ...] = DEFAULT_LANGUAGES  # of OCR, by tesseract's codes
    limits: Limits = field(default_factory=Limits)


class EphemeralAttachmentHandler:
    """The engine. Used as an async context: it owns a pool of parser processes."""

    def __init__(
        self,
        pool: PoolConfig,
        config: EngineConfig | None = None,
        scanner: Scanner | None = None,
        once: Once | None = None,
    ) -> None:
        self._config = config or EngineConfig()
        self._pool = ParserPool(pool)
        self._scanning = None
        if scanner is not None:
            self._scanning = Scanning(scanner, self._config.scan_seconds, closed=self._config.block_unscanned)
        self._scanner = scanner
        self._once = once
        self._budget = ByteBudget(self._config.byte_budget)
        self._may_ocr = False

    async def __aenter__(self) -> Self:
        await self._check_languages()
        if self._scanning is not None:
            await self._scanning.start()
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    async def process_attachment(
        self,
        payload: Payload,
        content_type: str | None,
        *,
        filename: str | None = None,
        declared_size_bytes: int | None = None,
        inline: bool = False,
        ocr: bool = True,
        urgent: bool = False,
    ) -> AttachmentResult:
        """Read one attachment and everything inside it.

        ``payload`` is the whole, or blocks of it as they arrive; ``content_type`` may carry a charset;
        ``inline`` is shown in the text of its mail. Without ``ocr`` whatever needs it ends as ``pending``.
        What is ``urgent`` does not wait for a parser behind what is not.
        Failures of the document are outcomes. Raises what the blocks' source raises, UnavailableError where
        no parser can be started, ScannerUnavailableError where no scanner answers, and ConfigurationError
        where OCR is asked for and tesseract is missing, or where the scanner is not to be believed.
        """
        if ocr:
            self._require_tesseract()
        limit = self._config.max_attachment_bytes
        known = None if isinstance(payload, AsyncIterator) else len(payload)
        declared = max(known or 0, declared_size_bytes or 0)
        about = _about(content_type, filename, inline)
        if declared > limit:
            return _too_large(replace(about, size_bytes=declared))
        # What is declared may be a lie: blocks take room for the largest until they have all arrived.
        async with self._budget.reserve(limit if known is None else known) as reservation:
            with contextlib.closing(Held()) as held:
                try:
                    complete = await self._receive(payload, held)
                except TimeoutError:
                    return AttachmentResult(Outcome.TIMED_OUT, about)
                if not complete:
                    return _too_large(about)
                del payload
                await reservation.shrink(held.size_bytes)
                about = replace(about, size_bytes=held.size_bytes, sha256=held.sha256)
                verdict = await self._verdict(held)
                scan = verdict.scan
                if scan is Scan.INFECTED or (scan is Scan.UNSCANNED and self._config.block_unscanned):
                    return AttachmentResult(
                        Outcome.BLOCKED, about, scan, verdict.signature, skipped_reason=scan.value
                    )
                return await self._read(about, verdict, self._job(about, ocr, urgent), held)

    async def require_scanner(self) -> None:
        """Raises ScannerUnavailableError where an attachment could not be read without a verdict now."""
        if self._scanning is not None:
            await self._scanning.require()

    async def extract_body(
        self, body: bytes, content_type: str, charset: str | None, *, urgent: bool = False
    ) -> str:
        """The text of a mail's own body, in a parser where reading it takes more than decoding. A body that
        no parser takes is given all the same: as it is declared, and without its tags. Text beyond the
        limit on characters is cut."""
        config = self._config
        limit = config.limits.max_characters
        is_html = content_type == "text/html"
        sure = None if is_html else decode_surely(body, charset)
        if sure is None:
            about = _about(content_type, None)
            job = replace(
                self._job(about, ocr=False, urgent=urgent),
                charset=charset,
                seconds=config.body_seconds,
                total_seconds=config.body_seconds,
            )
            with contextlib.closing(Held()) as held:
                await held.write(body)
                result = await self._run(job, held, Assembly(about, ScanVerdict(Scan.OFF)))
            if result.outcome in (Outcome.TEXT, Outcome.EMPTY):
                return result.text
            # No parser's help here: what it choked on must not come to this process.
            sure = decode_surely(body, charset) or body.decode("cp1252", "replace")
        return (without_tags(sure[:limit]) if is_html else sure)[:limit]

    async def _receive(self, payload: Payload, held: Held) -> bool:
        """Take the blocks in; False when they are more than an attachment may have. Raises TimeoutError."""
        # What waits for its turn with Gmail holds no bytes: the clock starts with the first block.
        async with asyncio.timeout(None) as clock, contextlib.aclosing(_blocks(payload)) as blocks:
            async for block in blocks:
                if clock.when() is None:
                    clock.reschedule(asyncio.get_running_loop().time() + self._config.receive_seconds)
                if held.size_bytes + len(block) > self._config.max_attachment_bytes:
                    return False
                await held.write(block)
        return True

    @property
    def memory_attachment_bytes(self) -> int:
        """Up to here an attachment may be handed over whole."""
        return self._config.memory_attachment_bytes

    def _job(self, about: Metadata, ocr: bool, urgent: bool) -> Job:
        config = self._config
        return Job(
            content_type=about.declared_content_type,
            filename=about.filename,
            charset=_charset(about.declared_content_type),
            ocr=ocr,
            inline=about.inline,
            limits=config.limits,
            seconds=config.ocr_page_seconds if ocr else config.deadline_seconds,
            total_seconds=config.ocr_total_seconds if ocr else config.deadline_seconds,
            languages=ocr_languages(config.languages),
            urgent=urgent,
        )

    async def _verdict(self, held: Held) -> ScanVerdict:
        if self._once is None or self._scanner is None:
            return await self._scan(held)
        return await self._once.verdict(held.sha256, self._scanner.version, lambda: self._scan(held))

    async def _read(self, about: Metadata, verdict: ScanVerdict, job: Job, held: Held) -> AttachmentResult:
        assembly = Assembly(about, verdict)
        if self._once is None:
            return await self._run(job, held, assembly)

        async def read() -> tuple[AttachmentResult, bool]:
            return await self._run(job, held, assembly), assembly.complete

        return await self._once.result(about, verdict, job, read)

    async def _scan(self, held: Held) -> ScanVerdict:
        if self._scanning is None:
            return ScanVerdict(Scan.OFF)
        with held.view() as view:
            return await self._scanning.verdict(view, held.sha256)

    async def _run(self, job: Job, held: Held, assembly: Assembly) -> AttachmentResult:
        """Collect a parser's records into results; what it did not come to say is said for it."""
        try:
            async with contextlib.aclosing(self._pool.run(job, held.descriptor())) as records:
                async for record in records:
                    assembly.add(record)
        except ParserTimedOutError:
            assembly.interrupted(Outcome.TIMED_OUT)
        except (ParserDiedError, KeyError, TypeError, ValueError):
            # Its memory limit makes a parser die as often as its bugs do, and one that talks nonsense is as
            # good as dead; neither is worth a second try.
            assembly.interrupted(Outcome.LIMIT_EXCEEDED)
        return assembly.result()

    async def _check_languages(self) -> None:
        """Raise ConfigurationError where tesseract is there and does not know a language that is set."""
        if shutil.which("tesseract") is None:
            return
        listing = await asyncio.create_subprocess_exec(
            "tesseract", "--list-langs", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        known = (await listing.communicate())[0].decode(errors="replace").split()
        missing = [language for language in self._config.languages if language not in known]
        if missing:
            names, packages = ", ".join(missing), " ".join(map(ocr_package, missing))
            raise ConfigurationError(
                f"LANGUAGES: tesseract does not know {names}: install {packages}, or write it as"
                " `tesseract --list-langs` does"
            )

    def _require_tesseract(self) -> None:
        # Without this a missing program would pass for damaged images, and they would be settled as such.
        if not self._may_ocr and shutil.which("tesseract") is None:
            raise ConfigurationError("tesseract is not installed: install it, or read without OCR")
        self._may_ocr = True


async def _blocks(payload: Payload) -> AsyncGenerator[bytes | memoryview, None]:
    if not isinstance(payload, AsyncIterator):
        yield memoryview(payload).cast("B")
        return
    try:
        async for block in payload:
            yield block
    finally:
        # A source that is not read to its end holds a connection: let it go now, not when it is collected.
        if isinstance(payload, AsyncGenerator):
            await payload.aclose()


def _about(content_type: str | None, filename: str | None, inline: bool = False) -> Metadata:
    return Metadata(
        size_bytes=None,
        declared_content_type=content_type,
        content_type=media_type(content_type) or UNKNOWN_TYPE,
        filename=safe_name(filename),
        raw_filename=raw_name(filename),
        sha256=None,
        inline=inline,
    )


def _too_large(about: Metadata) -> AttachmentResult:
    return AttachmentResult(Outcome.TOO_LARGE, about, skipped_reason="too_large")


def _charset(content_type: str | None) -> str | None:
    if not content_type or ";" not in content_type:
        return None
    header = Message()
    header["Content-Type"] = " ".join(content_type[:MAX_PARAMETER_CHARACTERS].splitlines())
    return charset_of(header)
