"""The Gmail client against the emulated Gmail: what it reads, and which error each refusal becomes."""

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from connectors.errors import (
    AuthorizationError,
    FailedPreconditionError,
    GmailUnavailableError,
    HistoryExpiredError,
    MailstreamError,
    NotFoundError,
    PageTokenExpiredError,
    RateLimitedError,
)
from connectors.gmail.client import GmailClient
from devstack.gmail.faults import parse_faults
from devstack.gmail.server import GmailEmulator
from devstack.sample.mailbox import write_sample_mailbox
from schemas import mime
from schemas.events import ChangeKind, MailboxRecord
from schemas.outcomes import Outcome
from schemas.registers import ContentRegister, decode_register
from streams.documents import Documents
from streams.ephemeral import EngineConfig, EphemeralAttachmentHandler
from streams.message import FetchedMessage, MessageExtractor
from streams.parser_pool import PoolConfig
from tests.gmail_api import ANNA
from tests.part_paths import differences, gmail_client, listed
from tests.standins import Broker


@pytest.fixture
def client(emulator: GmailEmulator) -> Iterator[GmailClient]:
    with gmail_client(emulator) as opened:
        yield opened


async def _collected(blocks: AsyncIterator[bytes]) -> bytes:
    return b"".join([block async for block in blocks])


async def test_every_message_is_listed_and_read(emulator: GmailEmulator, client: GmailClient) -> None:
    position = await client.position()
    ids = await listed(client)
    assert position.messages == len(ids) == len(emulator.mailboxes[ANNA].truth())
    for message_id in ids:
        message = await client.message(message_id)
        assert message.message_id == message_id
        assert message.history_id <= position.history_id
        assert mime.walk(message.root)


async def test_a_service_account_reads_the_same(emulator: GmailEmulator, client: GmailClient) -> None:
    with gmail_client(emulator, emulator.service_account_info()) as delegated:
        assert await listed(delegated) == await listed(client)


async def test_an_attachment_arrives_whole_and_in_blocks(emulator: GmailEmulator) -> None:
    payload = bytes(range(256)) * 8_000  # 2 MB: several blocks
    message_id = emulator.mailboxes[ANNA].add(_base64_mail(payload)).id
    with gmail_client(emulator) as client:
        [leaf] = mime.attachments((await client.message(message_id)).root)
        assert await client.attachment(message_id, leaf.part.reference or "") == payload
        [leaf] = mime.attachments((await client.message(message_id)).root)
        assert await _collected(client.attachment_stream(message_id, leaf.part.reference or "")) == payload


def _base64_mail(payload: bytes) -> bytes:
    body = base64.encodebytes(payload)
    head = b"Content-Type: application/octet-stream; name=b.bin\nContent-Transfer-Encoding: base64\n\n"
    return head + body


async def test_all_kinds_of_change_come_in_order(emulator: GmailEmulator, client: GmailClient) -> None:
    mailbox = emulator.mailboxes[ANNA]
    start = (await client.position()).history_id
    added = mailbox.add(b"Subject: new\n\nhello").id
    mailbox.modify(added, add=["STARRED"], remove=[])
    mailbox.modify(added, add=[], remove=["STARRED"])
    mailbox.delete(added)
    page = await client.history_page(start, None)
    kinds = [entry.kind for entry in page.entries if entry.message_id == added]
    assert kinds == [
        ChangeKind.UPSERT,
        ChangeKind.LABEL_ADDED,
        ChangeKind.LABEL_REMOVED,
        ChangeKind.DELETE,
    ]
    ids = [entry.history_id for entry in page.entries]
    assert ids == sorted(ids)
    assert page.history_id >= ids[-1]


async def test_each_refusal_becomes_its_error(emulator: GmailEmulator, client: GmailClient) -> None:
    [message_id, *_] = await listed(client)
    start = (await client.position()).history_id
    cases: list[tuple[dict[str, object], type[MailstreamError]]] = [
        ({"kind": "rate_limit", "status": 429, "retry_after_seconds": 1}, RateLimitedError),
        ({"kind": "rate_limit", "status": 403}, RateLimitedError),
        ({"kind": "server_error"}, GmailUnavailableError),
        ({"kind": "connection_reset"}, GmailUnavailableError),
        ({"kind": "failed_precondition"}, FailedPreconditionError),
        ({"kind": "gone_between_list_and_get"}, NotFoundError),
    ]
    for fault, expected in cases:
        emulator.faults.faults = parse_faults([{**fault, "method": "messages.get", "count": 5}])
        with pytest.raises(expected) as caught:
            await client.message(message_id)
        assert type(caught.value) is expected
        assert caught.value.transient is (expected is not NotFoundError)
        if fault.get("retry_after_seconds"):
            assert caught.value.retry_after_seconds == 1
    emulator.faults.faults = parse_faults([{"kind": "expired_history", "count": 1}])
    with pytest.raises(HistoryExpiredError):
        await client.history_page(start, None)
    emulator.faults.faults = []
    with pytest.raises(PageTokenExpiredError):
        await client.list_page("no such token")


async def test_a_stale_reference_is_not_found(emulator: GmailEmulator, client: GmailClient) -> None:
    with_parts = [
        message
        for message_id in await listed(client)
        if mime.attachments((message := await client.message(message_id)).root)
    ]
    message = with_parts[0]
    [leaf, *_] = mime.attachments(message.root)
    for _ in range(4):
        await client.message(message.message_id)
    with pytest.raises(NotFoundError):
        await client.attachment(message.message_id, leaf.part.reference or "")
    with pytest.raises(NotFoundError):
        await _collected(client.attachment_stream(message.message_id, leaf.part.reference or ""))


async def test_refused_credentials_are_no_passing_trouble(emulator: GmailEmulator) -> None:
    info = {**emulator.client_credentials(ANNA), "refresh_token": "revoked"}
    with gmail_client(emulator, info) as client, pytest.raises(AuthorizationError) as caught:
        await client.position()
    assert not caught.value.transient


async def test_a_gmail_that_is_away_is_passing_trouble(emulator: GmailEmulator, client: GmailClient) -> None:
    await client.position()
    emulator.stop()
    with pytest.raises(GmailUnavailableError):
        await client.position()


def test_parts_are_the_same_from_full_and_from_raw(tmp_path: Path) -> None:
    write_sample_mailbox(tmp_path / "sample.mbox")
    compared, different = differences(tmp_path / "sample.mbox")
    assert compared == 101
    assert different == []


async def test_what_is_too_large_is_never_asked_for(emulator: GmailEmulator, tmp_path: Path) -> None:
    """By the engine, over the real client: metadata are all that is known of it."""
    large = emulator.mailboxes[ANNA].add(_base64_mail(bytes(1_000_001))).id
    fits = emulator.mailboxes[ANNA].add(_base64_mail(bytes(1_000_000))).id
    broker = Broker()
    limits = EngineConfig(memory_attachment_bytes=100_000, max_attachment_bytes=1_000_000)
    mailbox = MailboxRecord(mailbox_id="box", address=ANNA)
    async with EphemeralAttachmentHandler(PoolConfig(tmp_path, processes=1), limits) as engine:
        extractor = MessageExtractor(engine, Documents(broker, 6))  # type: ignore[arg-type]
        with gmail_client(emulator) as client:
            ends = {}
            for message_id in (large, fits):
                before = emulator.stats()["requests"].get("attachments.get", 0)
                message = await client.message(message_id)
                await extractor.upsert(FetchedMessage(mailbox, client, message))
                register = decode_register(broker.sent[-1].key, broker.sent[-1].value or b"")
                assert isinstance(register, ContentRegister) and register.attachment is not None
                asked = emulator.stats()["requests"].get("attachments.get", 0) - before
                ends[message_id] = (asked, register.attachment.outcome, register.attachment.skipped_reason)
    assert ends == {large: (0, Outcome.TOO_LARGE, "too_large"), fits: (1, Outcome.UNSUPPORTED, None)}
