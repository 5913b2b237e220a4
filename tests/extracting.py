"""An extract worker whose Kafka, Gmail and engine are stand-ins, and the events for it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from connectors.errors import NotFoundError, ScannerUnavailableError
from connectors.gmail.message import MailMessage
from connectors.kafka import Record
from schemas import topics
from schemas.events import ChangeKind, DeadLetter, Deferred, MailboxRecord, MessageChange
from schemas.mime import Part
from schemas.outcomes import Outcome, Scan
from schemas.registers import AnyRegister, decode_register
from streams.attempts import Attempts
from streams.ephemeral import AttachmentResult, Metadata
from tests import standins

PRIVATE = "the merger with Hallgrim"
PARTITIONS = 6


class Broker(standins.Broker):
    def registers(self) -> list[AnyRegister]:
        return [
            decode_register(send.key, send.value or b"")
            for send in self.sent
            if send.topic == topics.DOCUMENTS.name
        ]

    def deferred(self) -> list[Deferred]:
        return [Deferred.decode(value or b"") for value in self.values(topics.DEFERRED.name)]

    def dead_letters(self) -> list[DeadLetter]:
        return [DeadLetter.decode(value or b"") for value in self.values(topics.DEAD_LETTERS.name)]


class Client:
    """A mailbox of one message; what it does can be replaced."""

    def __init__(self) -> None:
        self.answer: Callable[[], MailMessage] = lambda: mail_of()
        self.stale: set[str] = set()
        self.fetched: list[str] = []
        self.streamed: list[str] = []
        self.asked: list[tuple[bool, bool]] = []  # raw, background
        self.paused_seconds = 0.0
        self.gate = asyncio.Event()
        self.gate.set()

    async def message(self, message_id: str, *, raw: bool = False, background: bool = False) -> MailMessage:
        self.asked.append((raw, background))
        await self.gate.wait()
        self.fetched.append(message_id)
        return self.answer()

    async def attachment(self, message_id: str, reference: str, *, background: bool = False) -> bytes:
        if reference in self.stale:
            raise NotFoundError("stale")
        return f"bytes of {reference}".encode()

    async def attachment_stream(
        self, message_id: str, reference: str, *, background: bool = False
    ) -> AsyncGenerator[bytes, None]:
        self.streamed.append(reference)
        if reference in self.stale:
            raise NotFoundError("stale")
        yield b"streamed"


class Mailboxes:
    def __init__(self, client: Client) -> None:
        self.mailbox: MailboxRecord | None = MailboxRecord(mailbox_id="box", address="a@example.com", epoch=2)
        self.purged: set[str] = set()  # ids of messages
        self._client = client

    def suppressed(self, mailbox_id: str, message_id: str) -> bool:
        return message_id in self.purged

    async def record(self, mailbox_id: str) -> MailboxRecord | None:
        return self.mailbox

    def client(self, record: MailboxRecord) -> Client:
        return self._client


class Engine:
    """Reads everything but images, which need OCR."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.memory_attachment_bytes = 10 * 1024 * 1024
        self.scanner_away = False
        self.scan = Scan.OFF

    async def require_scanner(self) -> None:
        if self.scanner_away:
            raise ScannerUnavailableError("clamd does not answer")

    async def extract_body(self, body: bytes, content_type: str, charset: str | None, *, urgent: bool) -> str:
        return body.decode()

    async def process_attachment(
        self, payload: Any, content_type: str, *, filename: str | None, ocr: bool, **_: Any
    ) -> AttachmentResult:
        await self.require_scanner()
        data = payload if isinstance(payload, bytes) else b"".join([block async for block in payload])
        self.payloads.append(data)
        outcome = Outcome.PENDING if b"scan" in data and not ocr else Outcome.TEXT
        metadata = Metadata(
            size_bytes=len(data),
            declared_content_type=content_type,
            content_type=content_type,
            filename=filename,
            sha256="0" * 64,
        )
        return AttachmentResult(outcome=outcome, metadata=metadata, scan=self.scan)


def mail_of(*parts: Part, labels: tuple[str, ...] = ("INBOX",)) -> MailMessage:
    text = Part("text/plain", body=b"hello", headers=())
    root = Part("multipart/mixed", headers=(("Subject", PRIVATE),), children=(text, *parts))
    return MailMessage("m1", "t1", 77, labels, 1_700_000_000_000, 10, root)


def pdf(reference: str = "ref-1", size_bytes: int = 100) -> Part:
    return Part("application/pdf", filename="plan.pdf", reference=reference, size_bytes=size_bytes)


def change_of(kind: ChangeKind = ChangeKind.UPSERT, epoch: int = 2, **fields: Any) -> Record:
    change = MessageChange(mailbox_id="box", message_id="m1", kind=kind, epoch=epoch, history_id=90, **fields)
    return Record(topics.CHANGES.name, 3, 12, "box", change.encode())


def work_of(**fields: Any) -> Record:
    work = Deferred(mailbox_id="box", message_id="m1", epoch=2, **{"reason": "ocr", **fields})
    return Record(topics.DEFERRED.name, 0, 5, "id", work.encode())


def raises(error: Exception) -> Callable[[], MailMessage]:
    def answer() -> MailMessage:
        raise error

    return answer


def dies(path: Path, event: str) -> None:
    """A process that is killed while it works on ``event``."""
    attempts = Attempts(path)
    attempts._running.add(event)
    attempts._save()
    attempts._lock.close()  # as the kernel does
