"""One fetched message: its labels, its text, and every attachment through the ephemeral engine.

``MessageExtractor.upsert`` is the fast lane: everything but OCR. ``read_parts`` is the slow lane:
some parts again, this time to their end. Both end in registers; no bytes outlive the call.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from connectors.errors import MailstreamError, NotFoundError
from connectors.gmail.message import MailMessage
from connectors.metrics import gmail_attachments_processed_counter, gmail_attachments_skipped_counter
from schemas import mime
from schemas.events import Deferred, MailboxRecord
from schemas.identity import MESSAGE_PATH
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    LabelsRegister,
    MessageContent,
    PartReference,
    Segment,
    content_version,
)
from streams.decoration import inline_paths, known_decoration
from streams.documents import Documents
from streams.ephemeral import AttachmentResult, EphemeralAttachmentHandler
from streams.extractors.assembly import raw_name, safe_name
from streams.mailboxes import Mailbox

Result = TypeVar("Result")

# A message that is smaller is fetched whole where one of its attachments is wanted.
RAW_BYTES = 10_000_000
# A transient failure is waited out in place for this long in all, then the event goes to mail.deferred.
PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FetchedMessage:
    """A message and where it came from."""

    mailbox: MailboxRecord
    client: Mailbox
    message: MailMessage
    background: bool = False  # what is fetched for it gives way to live mail


class MessageExtractor:
    """Turns fetched messages into registers."""

    def __init__(self, engine: EphemeralAttachmentHandler, documents: Documents) -> None:
        self._engine = engine
        self._documents = documents

    async def upsert(self, fetched: FetchedMessage) -> None:
        """Send the message's labels, its content and its attachments', as far as they need no OCR.

        Raises what the fetches raise; what was sent until then stays, and is sent again without harm.
        """
        if not fetched.mailbox.in_scope(fetched.message.label_ids):
            await self._send(fetched, [_labels_register(fetched)])
            return
        leaves = mime.attachments(fetched.message.root)
        await self._send_message(fetched, leaves)
        inline = inline_paths(fetched.message.root)
        for leaf in leaves:
            await self._attachment(fetched, leaf, inline=leaf.path in inline, ocr=False)

    async def require_scanner(self) -> None:
        """Raises ScannerUnavailableError where attachments could not be read now."""
        await self._engine.require_scanner()

    async def read_parts(self, fetched: FetchedMessage, parts: Mapping[str, int]) -> None:
        """Send the content of some parts and of all that they hold, OCR included; the message's own is that
        of the empty path.

        ``parts`` says which verdict stood on each: what is found clean now takes back that it was not.
        """
        leaves = mime.attachments(fetched.message.root)
        if MESSAGE_PATH in parts:
            await self._send_message(fetched, leaves)
        inline = inline_paths(fetched.message.root)
        for leaf in leaves:
            if leaf.path in parts:
                await self._attachment(
                    fetched, leaf, inline=leaf.path in inline, ocr=True, standing=parts[leaf.path]
                )

    async def _send_message(self, fetched: FetchedMessage, leaves: Sequence[mime.Leaf]) -> None:
        # The labels go first: an index that knows a newer deletion then knows what to make of the rest.
        # Together, because they are one document.
        content = await self._message_register(fetched, leaves)
        await self._send(fetched, [_labels_register(fetched), content])

    async def _send(self, fetched: FetchedMessage, registers: Sequence[AnyRegister]) -> None:
        await self._documents.send(registers, live=not fetched.background)

    # --- the message's own document ------------------------------------------------------------------

    async def _message_register(
        self, fetched: FetchedMessage, leaves: Sequence[mime.Leaf]
    ) -> ContentRegister:
        message, root = fetched.message, fetched.message.root
        texts, bodies = [], []
        for leaf in mime.body_leaves(root):
            body = leaf.part.body if leaf.part.body is not None else await self._fetch(fetched, leaf)
            bodies.append((body, leaf.part.charset))
            texts.append(
                await self._engine.extract_body(
                    *(body, leaf.part.content_type, leaf.part.charset), urgent=not fetched.background
                )
            )
        content = MessageContent(
            thread_id=message.thread_id,
            rfc_message_id=(root.header("Message-ID") or "").strip().strip("<>") or None,
            subject=root.header("Subject") or "",
            sender=root.header("From") or "",
            to=_values(root, "To"),
            cc=_values(root, "Cc"),
            bcc=_values(root, "Bcc"),
            reply_to=_values(root, "Reply-To"),
            sent_at=message.received_at,
            size_bytes=message.size_bytes,
            text="\n\n".join(text for text in texts if text.strip()),
            text_sha256=mime.text_digest(bodies),
            parts=tuple(
                PartReference(
                    part_path=leaf.path,
                    filename=leaf.part.filename,
                    content_type=leaf.part.content_type,
                    size_bytes=leaf.part.size_bytes,
                )
                for leaf in leaves
            ),
        )
        outcome = Outcome.TEXT if content.text else Outcome.EMPTY
        return ContentRegister(
            mailbox_id=fetched.mailbox.mailbox_id,
            message_id=message.message_id,
            version=content_version(fetched.mailbox.epoch, outcome, _digest(content), source=message.source),
            message=content,
        )

    # --- one attachment ------------------------------------------------------------------------------

    async def _attachment(
        self, fetched: FetchedMessage, leaf: mime.Leaf, *, inline: bool, ocr: bool, standing: int = 0
    ) -> None:
        decoration = known_decoration(leaf.part.content_type, leaf.part.size_bytes, inline)
        if decoration is not None:
            registers = [_unread(fetched, leaf, inline, Outcome.SKIPPED, decoration)]
        elif not ocr and leaf.part.content_type.startswith("image/"):
            # Nothing can be read from it in this lane, so it is not fetched in this lane either.
            registers = [_unread(fetched, leaf, inline, Outcome.PENDING)]
        else:
            result = await self._engine.process_attachment(
                await self._payload(fetched, leaf),
                leaf.part.content_type,
                filename=leaf.part.filename,
                declared_size_bytes=leaf.part.size_bytes,
                inline=inline,
                ocr=ocr,
                urgent=not fetched.background,
            )
            registers = [
                _register(fetched, leaf, item, 0 if item.path else standing) for item in result.walk()
            ]
        await self._send(fetched, registers)
        contents = [register.attachment for register in registers if register.attachment is not None]
        if any(content.outcome is Outcome.PENDING for content in contents):
            await self._documents.defer(
                Deferred(
                    mailbox_id=fetched.mailbox.mailbox_id,
                    message_id=fetched.message.message_id,
                    epoch=fetched.mailbox.epoch,
                    part_path=leaf.path,
                    reason="ocr",
                    # One request then brings the attachment, where two would be needed.
                    fetch="raw" if (fetched.message.size_bytes or RAW_BYTES) < RAW_BYTES else "full",
                )
            )
        for content in contents:
            if content.outcome is not Outcome.PENDING:
                gmail_attachments_processed_counter.labels(outcome=content.outcome).inc()
            if content.skipped_reason is not None:
                gmail_attachments_skipped_counter.labels(reason=content.skipped_reason).inc()

    async def _payload(self, fetched: FetchedMessage, leaf: mime.Leaf) -> bytes | AsyncIterator[bytes]:
        if leaf.part.body is not None:
            return leaf.part.body
        size_bytes = leaf.part.size_bytes
        if size_bytes is None or size_bytes > self._engine.memory_attachment_bytes:
            # Whole, it would be held as JSON, as base64 and as bytes at once.
            return self._stream(fetched, leaf)
        return await self._fetch(fetched, leaf)

    async def _stream(self, fetched: FetchedMessage, leaf: mime.Leaf) -> AsyncIterator[bytes]:
        """A body in blocks; nothing is asked for before the first is taken."""
        client, message_id, background = fetched.client, fetched.message.message_id, fetched.background
        part = leaf.part
        for attempt in ("with the reference at hand", "with a fresh one"):
            blocks = client.attachment_stream(message_id, part.reference or "", background=background)
            try:
                async with contextlib.aclosing(blocks):
                    async for block in blocks:
                        yield block
                return
            except NotFoundError:  # a stale reference is refused before the first block
                if attempt == "with a fresh one":
                    raise
                part = await self._renewed(fetched, leaf)

    async def _fetch(self, fetched: FetchedMessage, leaf: mime.Leaf) -> bytes:
        """A body that came as a reference; a stale reference is renewed by asking for the message again."""
        client, message_id, background = fetched.client, fetched.message.message_id, fetched.background

        async def body(part: mime.Part) -> bytes:
            reference = part.reference or ""
            return await patiently(lambda: client.attachment(message_id, reference, background=background))

        try:
            return await body(leaf.part)
        except NotFoundError:
            part = await self._renewed(fetched, leaf)
            return part.body if part.body is not None else await body(part)

    async def _renewed(self, fetched: FetchedMessage, leaf: mime.Leaf) -> mime.Part:
        """The part with a reference that is not stale: of the message, asked for again."""
        fresh = await patiently(
            lambda: fetched.client.message(fetched.message.message_id, background=fetched.background)
        )
        return {other.path: other.part for other in mime.walk(fresh.root)}[leaf.path]


def _labels_register(fetched: FetchedMessage) -> LabelsRegister:
    message, mailbox = fetched.message, fetched.mailbox
    return LabelsRegister(
        mailbox_id=mailbox.mailbox_id,
        message_id=message.message_id,
        epoch=mailbox.epoch,
        history_id=message.history_id,
        label_ids=message.label_ids,
        source=message.source,
    )


def _register(
    fetched: FetchedMessage, leaf: mime.Leaf, result: AttachmentResult, standing: int
) -> ContentRegister:
    return _content_register(
        fetched,
        _part_path(leaf, result),
        AttachmentContent(
            **asdict(result.metadata),
            outcome=result.outcome,
            scan=result.scan,
            signature=result.signature,
            skipped_reason=result.skipped_reason,
            engines=result.engines,
            segments=tuple(Segment(**asdict(segment)) for segment in result.segments),
            children=tuple(_part_path(leaf, child) for child in result.children),
        ),
        standing,
    )


def _unread(
    fetched: FetchedMessage, leaf: mime.Leaf, inline: bool, outcome: Outcome, reason: str | None = None
) -> ContentRegister:
    """What is known of an attachment whose bytes were not asked for."""
    part = leaf.part
    return _content_register(
        fetched,
        leaf.path,
        AttachmentContent(
            filename=safe_name(part.filename),
            raw_filename=raw_name(part.filename),
            content_type=part.content_type,
            declared_content_type=part.content_type,
            size_bytes=part.size_bytes,
            outcome=outcome,
            skipped_reason=reason,
            inline=inline,
        ),
    )


def _content_register(
    fetched: FetchedMessage, part_path: str, content: AttachmentContent, standing: int = 0
) -> ContentRegister:
    return ContentRegister(
        mailbox_id=fetched.mailbox.mailbox_id,
        message_id=fetched.message.message_id,
        part_path=part_path,
        version=content_version(
            *(fetched.mailbox.epoch, content.outcome, _digest(content), content.scan, standing),
            source=fetched.message.source,
        ),
        attachment=content,
    )


def _part_path(leaf: mime.Leaf, result: AttachmentResult) -> str:
    """The MIME position, then the ordinals inside the archive or the nested mail."""
    return "/".join((leaf.path, *map(str, result.path)))


def _values(root: mime.Part, name: str) -> tuple[str, ...]:
    return tuple(value for key, value in root.headers if key.lower() == name.lower() and value.strip())


def _digest(content: MessageContent | AttachmentContent) -> str:
    # How long it took is no part of what was found.
    stable = content.model_dump_json(exclude={"seconds"}, exclude_none=True)
    return hashlib.sha256(stable.encode()).hexdigest()[:16]


async def patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    """Wait out a short transient failure; after PATIENCE_SECONDS in all the error is the caller's."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    wait_seconds = 0.25
    while True:
        try:
            return await call()
        except MailstreamError as error:
            wait_seconds = max(wait_seconds * 2, error.retry_after_seconds or 0.0)
            if not error.transient or time.monotonic() + wait_seconds > deadline:
                raise
        await asyncio.sleep(wait_seconds)
