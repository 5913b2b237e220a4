"""What becomes of an event: registers, deferred work, a dead letter, or nothing."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import (
    AuthorizationError,
    GmailError,
    NotFoundError,
    RateLimitedError,
    ScannerUnavailableError,
    UnavailableError,
)
from connectors.gmail.message import MailMessage
from connectors.kafka import Record, Send
from connectors.metrics import gmail_attachments_skipped_counter
from schemas import topics
from schemas.events import (
    ChangeKind,
    DeadLetter,
    Deferred,
    MailboxRecord,
    MailboxState,
    MessageChange,
    now_milliseconds,
)
from schemas.identity import message_key, partition_for
from schemas.mime import Part
from schemas.outcomes import Outcome, Scan
from schemas.registers import AnyRegister, ContentRegister, DeletedRegister, LabelsRegister, decode_register
from streams import message as message_module
from streams.attempts import MAX_DEATHS, Attempts
from streams.dead_letters import MAX_CONSECUTIVE, DeadLetters, TooManyDeadLettersError
from streams.documents import Documents
from streams.ephemeral import AttachmentResult, Metadata
from streams.extract import Extract
from streams.message import MessageExtractor

PRIVATE = "the merger with Hallgrim"
PARTITIONS = 6


class Broker:
    def __init__(self) -> None:
        self.sent: list[Send] = []
        self.down = False

    async def send(self, records: Sequence[Send]) -> None:
        if self.down:
            raise UnavailableError("Kafka is away")
        self.sent += records

    def registers(self) -> list[AnyRegister]:
        return [
            decode_register(send.key, send.value or b"")
            for send in self.sent
            if send.topic == topics.DOCUMENTS.name
        ]

    def deferred(self) -> list[Deferred]:
        return [Deferred.decode(s.value or b"") for s in self.sent if s.topic == topics.DEFERRED.name]

    def dead_letters(self) -> list[DeadLetter]:
        return [DeadLetter.decode(s.value or b"") for s in self.sent if s.topic == topics.DEAD_LETTERS.name]


class Client:
    """A mailbox of one message; what it does can be replaced."""

    def __init__(self) -> None:
        self.answer: Callable[[], MailMessage] = lambda: _message()
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


def _message(*parts: Part, labels: tuple[str, ...] = ("INBOX",)) -> MailMessage:
    text = Part("text/plain", body=b"hello", headers=())
    root = Part("multipart/mixed", headers=(("Subject", PRIVATE),), children=(text, *parts))
    return MailMessage("m1", "t1", 77, labels, 1_700_000_000_000, 10, root)


def _pdf(reference: str = "ref-1", size_bytes: int = 100) -> Part:
    return Part("application/pdf", filename="plan.pdf", reference=reference, size_bytes=size_bytes)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def mailboxes(client: Client) -> Mailboxes:
    return Mailboxes(client)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def attempts_path(tmp_path: Path) -> Path:
    return tmp_path / "attempts.json"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_module, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def extract(broker: Broker, mailboxes: Mailboxes, engine: Engine, attempts_path: Path) -> Extract:
    documents = Documents(broker, PARTITIONS)  # type: ignore[arg-type]
    return Extract(
        mailboxes,  # type: ignore[arg-type]
        MessageExtractor(engine, documents),  # type: ignore[arg-type]
        documents,
        DeadLetters(broker, "fast"),  # type: ignore[arg-type]
        Attempts(attempts_path),
        "fast",
    )


def _change(kind: ChangeKind = ChangeKind.UPSERT, epoch: int = 2, **fields: Any) -> Record:
    change = MessageChange(mailbox_id="box", message_id="m1", kind=kind, epoch=epoch, history_id=90, **fields)
    return Record(topics.CHANGES.name, 3, 12, "box", change.encode())


def _work(**fields: Any) -> Record:
    work = Deferred(mailbox_id="box", message_id="m1", epoch=2, **{"reason": "ocr", **fields})
    return Record(topics.DEFERRED.name, 0, 5, "id", work.encode())


async def test_an_upsert_becomes_labels_then_content_then_parts(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = lambda: _message(_pdf())
    await extract.handle_change(_change())
    names = [register.name for register in broker.registers()]
    assert names == ["labels", "content/", "content/2"]
    labels = broker.registers()[0]
    assert isinstance(labels, LabelsRegister)
    assert (labels.history_id, labels.epoch) == (77, 2)
    expected = partition_for(message_key("box", "m1"), PARTITIONS)
    assert {send.partition for send in broker.sent} == {expected}


async def test_a_deletion_does_not_wait_for_a_fetch(extract: Extract, broker: Broker, client: Client) -> None:
    client.gate.clear()
    fetches = [asyncio.create_task(extract.handle_change(_change())) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.wait_for(extract.handle_change(_change(ChangeKind.DELETE)), 5)
    [deleted] = broker.registers()
    assert isinstance(deleted, DeletedRegister)
    client.gate.set()
    await asyncio.gather(*fetches)


async def test_label_changes_cost_no_fetch(extract: Extract, broker: Broker, client: Client) -> None:
    await extract.handle_change(_change(ChangeKind.LABEL_ADDED, label_ids=("STARRED", "Label_1")))
    assert [register.name for register in broker.registers()] == ["label/STARRED", "label/Label_1"]
    assert client.fetched == []


@pytest.mark.parametrize("state", [None, MailboxState.PURGED])
async def test_events_of_unknown_and_purged_mailboxes_are_dropped(
    extract: Extract, broker: Broker, mailboxes: Mailboxes, state: MailboxState | None
) -> None:
    assert mailboxes.mailbox is not None
    mailboxes.mailbox = mailboxes.mailbox.model_copy(update={"state": state}) if state else None
    for kind in ChangeKind:
        await extract.handle_change(_change(kind, label_ids=("INBOX",)))
    assert broker.sent == []


async def test_events_of_a_purged_message_are_dropped(
    extract: Extract, broker: Broker, mailboxes: Mailboxes
) -> None:
    mailboxes.purged = {"m1"}
    for kind in ChangeKind:
        await extract.handle_change(_change(kind, label_ids=("INBOX",)))
    assert broker.sent == []


async def test_events_of_an_older_epoch_are_dropped(extract: Extract, broker: Broker) -> None:
    await extract.handle_change(_change(ChangeKind.DELETE, epoch=1))
    assert broker.sent == []


async def test_a_message_that_is_gone_is_no_failure(extract: Extract, broker: Broker, client: Client) -> None:
    client.answer = _raises(NotFoundError("404"))
    await extract.handle_change(_change())
    assert broker.sent == []


async def test_throttling_defers_for_as_long_as_google_says(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = _raises(RateLimitedError("429", retry_after_seconds=3600))
    await extract.handle_change(_change())
    [work] = broker.deferred()
    assert work.part_path == ""
    assert 3_500_000 < work.not_before - now_milliseconds() <= 3_600_000


async def test_a_mailbox_that_is_paused_for_long_is_not_waited_for(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.paused_seconds = 7_200.0
    await extract.handle_change(_change())
    [work] = broker.deferred()
    assert work.not_before - now_milliseconds() > 7_000_000
    assert client.fetched == []


async def test_a_listing_says_how_to_fetch_and_gives_way_to_live_mail(
    extract: Extract, client: Client
) -> None:
    await extract.handle_change(_change(fetch="raw", origin="listing"))
    await extract.handle_change(_change())
    assert client.asked == [(True, True), (False, False)]


async def test_a_label_snapshot_costs_no_fetch(extract: Extract, broker: Broker, client: Client) -> None:
    await extract.handle_change(_change(ChangeKind.LABELS, label_ids=("INBOX",), origin="listing"))
    [register] = broker.registers()
    assert isinstance(register, LabelsRegister)
    assert (register.history_id, register.label_ids) == (90, ("INBOX",))
    assert client.fetched == []


async def test_a_refused_mailbox_defers_its_events(extract: Extract, broker: Broker, client: Client) -> None:
    client.answer = _raises(AuthorizationError("invalid_grant"))
    await extract.handle_change(_change())
    assert len(broker.deferred()) == 1
    assert broker.dead_letters() == []


async def test_a_permanent_error_is_a_dead_letter_with_its_event(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = _raises(GmailError("Gmail answered 400 invalidArgument"))
    record = _change()
    await extract.handle_change(record)
    [letter] = broker.dead_letters()
    assert (letter.stage, letter.error_class, letter.offset) == ("fast", "GmailError", 12)
    assert letter.event is not None


async def test_a_surprise_is_a_dead_letter_without_private_text(
    extract: Extract, broker: Broker, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.answer = _raises(KeyError(PRIVATE))
    await extract.handle_change(_change())
    [letter] = broker.dead_letters()
    assert letter.error_class == "KeyError"
    assert PRIVATE not in letter.encode().decode()
    assert PRIVATE not in caplog.text


async def test_bytes_that_are_no_event_are_a_dead_letter(extract: Extract, broker: Broker) -> None:
    await extract.handle_change(Record(topics.CHANGES.name, 0, 1, "box", b"\xff{"))
    await extract.handle_deferred(Record(topics.DEFERRED.name, 0, 1, "id", b'{"mailbox_id": 1}'))
    assert [letter.error_class for letter in broker.dead_letters()] == ["UndecodableEventError"] * 2


async def test_a_broken_broker_stops_the_worker(extract: Extract, broker: Broker) -> None:
    broker.down = True
    with pytest.raises(UnavailableError):
        await extract.handle_change(_change())


@pytest.mark.parametrize("ahead_milliseconds", [-3_600_000, 0, 3_600_000])
async def test_work_waits_as_long_as_it_was_to_whatever_the_clock_said_then(
    extract: Extract, broker: Broker, monkeypatch: pytest.MonkeyPatch, ahead_milliseconds: int
) -> None:
    monkeypatch.setattr("streams.extract.PATIENCE_SECONDS", 0.01)
    written_at = now_milliseconds() + ahead_milliseconds
    put_off = _work(not_before=written_at + 15_000)
    await extract.handle_deferred(replace(put_off, written_at=written_at))
    if ahead_milliseconds < 0:  # an hour behind: it has waited for an hour
        assert broker.deferred() == []
    else:
        [work] = broker.deferred()
        assert 10_000 < work.not_before - now_milliseconds() <= 15_000


async def test_a_scanner_that_is_away_holds_up_attachments_only(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    client.answer = lambda: _message(_pdf())
    engine.scanner_away = True
    await extract.handle_change(_change())
    [_, message] = broker.registers()
    assert isinstance(message, ContentRegister) and message.message is not None
    [work] = broker.deferred()
    assert work.reason == "unavailable"
    assert work.not_before > now_milliseconds() + 20_000
    fetched = len(client.fetched)
    await extract.handle_deferred(_work(reason="unavailable"))
    assert len(client.fetched) == fetched, "Gmail is asked for nothing before the scanner answers"
    assert len(broker.deferred()) == 2
    engine.scanner_away = False
    await extract.handle_deferred(_work(reason="unavailable"))
    part = broker.registers()[-1]
    assert isinstance(part, ContentRegister) and part.attachment is not None
    assert broker.dead_letters() == []


async def test_too_many_dead_letters_in_a_row_stop_the_worker(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = _raises(GmailError("400"))
    with pytest.raises(TooManyDeadLettersError):
        for _ in range(MAX_CONSECUTIVE + 1):
            await extract.handle_change(_change())
    assert len(broker.dead_letters()) == MAX_CONSECUTIVE


async def test_what_killed_three_processes_is_not_tried_again(
    broker: Broker, mailboxes: Mailboxes, engine: Engine, client: Client, attempts_path: Path
) -> None:
    for _ in range(MAX_DEATHS):
        _dies(attempts_path, f"{topics.CHANGES.name}/3/12")
    documents = Documents(broker, PARTITIONS)  # type: ignore[arg-type]
    letters = DeadLetters(broker, "fast")  # type: ignore[arg-type]
    extractor = MessageExtractor(engine, documents)  # type: ignore[arg-type]
    extract = Extract(mailboxes, extractor, documents, letters, Attempts(attempts_path), "fast")  # type: ignore[arg-type]
    await extract.handle_change(_change())
    assert [letter.error_class for letter in broker.dead_letters()] == ["worker_killed"]
    assert client.fetched == []


async def test_an_image_waits_for_the_slow_lane_without_being_fetched(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    client.answer = lambda: _message(Part("image/png", filename="a/b.png", reference="r", size_bytes=9))
    await extract.handle_change(_change())
    part = broker.registers()[-1]
    assert isinstance(part, ContentRegister)
    assert part.attachment is not None
    assert (part.attachment.outcome, part.attachment.filename) == (Outcome.PENDING, "b.png")
    [work] = broker.deferred()
    assert (work.part_path, work.reason, work.not_before <= now_milliseconds()) == ("2", "ocr", True)
    assert engine.payloads == []


async def test_the_slow_lane_reads_one_part_to_its_end(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = lambda: _message(_pdf("scan"), _pdf("other"))
    await extract.handle_deferred(_work(part_path="2"))
    [part] = broker.registers()
    assert isinstance(part, ContentRegister)
    assert part.part_path == "2"
    assert part.attachment is not None
    assert part.attachment.outcome is Outcome.TEXT


async def test_what_is_read_again_takes_one_fetch_of_the_message(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    client.answer = lambda: _message(_pdf("scan"), _pdf("other"), _pdf("third"))
    parts = {"2": 0, "4": 1}
    await extract.handle_deferred(_work(reason="reprocess", parts=parts, fetch="raw"))
    assert [register.name for register in broker.registers()] == ["content/2", "content/4"]
    assert (client.fetched, client.asked) == (["m1"], [(True, True)])
    # It was found infected, and no scanner took that back: it says nothing against it.
    verdicts = [r.version.verdict for r in broker.registers() if isinstance(r, ContentRegister)]
    assert verdicts == [0, 0]
    engine.scan = Scan.CLEAN
    broker.sent.clear()
    await extract.handle_deferred(_work(reason="reprocess", parts=parts))
    verdicts = [r.version.verdict for r in broker.registers() if isinstance(r, ContentRegister)]
    assert verdicts == [0, 2]
    assert broker.deferred() == []


async def test_a_message_read_again_says_its_labels_first(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = lambda: _message(_pdf("one"), _pdf("two"))
    await extract.handle_deferred(_work(reason="reprocess", parts={"": 0, "3": 0}))
    assert [register.name for register in broker.registers()] == ["labels", "content/", "content/3"]


async def test_what_must_wait_to_be_read_again_keeps_its_parts(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = _raises(RateLimitedError("429", retry_after_seconds=60))
    await extract.handle_deferred(_work(reason="reprocess", parts={"2": 1}))
    [work] = broker.deferred()
    assert (work.reason, work.parts) == ("reprocess", {"2": 1})


async def test_a_stale_reference_is_renewed(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    references = iter(["old", "new"])
    client.stale = {"old"}
    client.answer = lambda: _message(_pdf(next(references)))
    await extract.handle_change(_change())
    assert engine.payloads == [b"bytes of new"]
    assert broker.dead_letters() == []


async def test_a_large_body_is_streamed(extract: Extract, client: Client, engine: Engine) -> None:
    client.answer = lambda: _message(_pdf(size_bytes=20 * 1024 * 1024))
    await extract.handle_change(_change())
    assert engine.payloads == [b"streamed"]


async def test_a_stale_reference_is_renewed_for_a_stream_too(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    references = iter(["old", "new"])
    client.stale = {"old"}
    client.answer = lambda: _message(_pdf(next(references), size_bytes=20 * 1024 * 1024))
    await extract.handle_change(_change())
    assert engine.payloads == [b"streamed"]
    assert client.streamed == ["old", "new"]


async def test_an_unknown_size_is_streamed(extract: Extract, client: Client, engine: Engine) -> None:
    client.answer = lambda: _message(Part("application/pdf", filename="a.pdf", reference="ref"))
    await extract.handle_change(_change())
    assert engine.payloads == [b"streamed"]


@pytest.mark.parametrize(
    ("size_bytes", "headers", "disposition", "reason"),
    [
        (43, (), "inline", "tracking_pixel"),
        (43, (("Content-ID", "<pixel@x>"),), None, "tracking_pixel"),
        (1_500, (("Content-ID", "<logo@x>"),), None, "inline_image"),
        (1_500, (("Content-ID", "<unknown@x>"),), "attachment", None),
        (1_500, (), "attachment", None),
        (40_000, (("Content-ID", "<logo@x>"),), "inline", None),  # a screenshot
    ],
)
async def test_decoration_is_told_from_attachments_without_fetching_it(
    extract: Extract,
    broker: Broker,
    client: Client,
    size_bytes: int,
    headers: tuple[tuple[str, str], ...],
    disposition: str | None,
    reason: str | None,
) -> None:
    html = Part("text/html", body=b"<img src='cid:logo@x'><img src=\"CID:pixel@x\">")
    image = Part("image/png", headers, "../a.png", disposition, size_bytes=size_bytes, reference="ref")
    client.answer = lambda: _message(html, image)
    before = _skipped(reason)
    await extract.handle_change(_change())
    [content] = [register.attachment for register in broker.registers() if register.name == "content/3"]  # type: ignore[union-attr]
    assert content is not None
    assert content.outcome is (Outcome.SKIPPED if reason else Outcome.PENDING)
    assert content.skipped_reason == reason
    assert content.inline is (disposition == "inline" or ("unknown" not in str(headers) and bool(headers)))
    assert (content.filename, content.raw_filename) == ("a.png", "../a.png")
    assert len(broker.deferred()) == (0 if reason else 1)
    assert _skipped(reason) - before == (1 if reason else 0)


def _skipped(reason: str | None) -> float:
    return float(gmail_attachments_skipped_counter.labels(reason=str(reason))._value.get())


async def test_trash_is_known_by_its_labels_only(extract: Extract, broker: Broker, client: Client) -> None:
    client.answer = lambda: _message(_pdf(), labels=("TRASH",))
    await extract.handle_change(_change())
    assert [register.name for register in broker.registers()] == ["labels"]


async def test_work_that_may_not_start_yet_goes_to_the_end_of_the_queue(
    extract: Extract, broker: Broker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.extract.PATIENCE_SECONDS", 0.01)
    later = now_milliseconds() + 60_000
    await extract.handle_deferred(_work(not_before=later))
    [work] = broker.deferred()
    assert abs(work.not_before - later) < 1_000
    assert client.fetched == []


def _raises(error: Exception) -> Callable[[], MailMessage]:
    def answer() -> MailMessage:
        raise error

    return answer


def _dies(path: Path, event: str) -> None:
    """A process that is killed while it works on ``event``."""
    attempts = Attempts(path)
    attempts._running.add(event)
    attempts._save()
    attempts._lock.close()  # as the kernel does
