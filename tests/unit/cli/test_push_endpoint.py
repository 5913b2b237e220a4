"""The push endpoint: whom it believes, what it passes on, and that it never asks for a push again in vain."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cli import push as push_command
from cli.push import application, endpoint
from connectors.gmail import push as push_module
from connectors.gmail.push import Certificates, Hints, PushVerifier
from devstack.gmail.server import GmailEmulator
from devstack.gmail.signing import SigningKey
from schemas.events import MailboxRecord, MailboxState, SyncRequest
from tests import standins

AUDIENCE = "https://mail.example.com/push"
ACCOUNT = "gmail-push@emulated-project.iam.gserviceaccount.com"


class Broker(standins.Broker):
    def hints(self) -> list[tuple[str, int | None]]:
        requests = [SyncRequest.decode(send.value or b"") for send in self.sent]
        return [(request.mailbox_id, request.history_id) for request in requests]


class Registry:
    def __init__(self) -> None:
        records = [
            MailboxRecord(mailbox_id="a", address="Anna@example.com"),
            MailboxRecord(mailbox_id="p", address="parked@example.com", state=MailboxState.PARKED),
        ]
        self.values = {record.mailbox_id: record.encode() for record in records}

    async def refresh(self) -> bool:
        return False


@pytest.fixture(scope="module")
def emulator() -> Iterator[GmailEmulator]:
    with GmailEmulator({"anna@example.com": []}) as server:
        yield server


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest_asyncio.fixture
async def client(emulator: GmailEmulator, broker: Broker) -> AsyncIterator[TestClient[Any, Any]]:
    verifier = PushVerifier(Certificates(f"{emulator.url}/oauth2/v1/certs"), AUDIENCE, ACCOUNT)
    hints = Hints(broker, Registry())  # type: ignore[arg-type]
    async with TestClient(TestServer(application(verifier, hints))) as opened:
        yield opened


def _claims(emulator: GmailEmulator, **changed: Any) -> dict[str, Any]:
    now = int(emulator.clock())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    return {name: value for name, value in {**claims, **changed}.items() if value is not None}


def _token(emulator: GmailEmulator, **changed: Any) -> str:
    return emulator.oauth.signing_key.sign(_claims(emulator, **changed))


def _body(address: str = "anna@example.com", history_id: Any = 77, *, padded: bool = True) -> dict[str, Any]:
    data = base64.urlsafe_b64encode(json.dumps({"emailAddress": address, "historyId": history_id}).encode())
    text = data.decode() if padded else data.decode().rstrip("=")
    message = {"data": text, "messageId": "1", "publishTime": "2026-03-01T10:00:00.5Z"}
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


async def _post(client: TestClient[Any, Any], token: str | None, body: Any = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    content = body if isinstance(body, bytes) else json.dumps(body if body is not None else _body()).encode()
    async with client.post("/push", data=content, headers=headers) as response:
        return response.status


async def test_an_authentic_push_becomes_a_hint(
    emulator: GmailEmulator, client: TestClient[Any, Any], broker: Broker
) -> None:
    assert await _post(client, _token(emulator)) == 204
    [sent] = broker.sent
    request = SyncRequest.decode(sent.value or b"")
    assert (sent.key, request.kind, request.history_id) == ("a", "hint", 77)
    assert request.requested_at == 1_772_359_200_500


async def test_padding_and_the_kind_of_number_do_not_matter(
    emulator: GmailEmulator, client: TestClient[Any, Any], broker: Broker
) -> None:
    token = _token(emulator)
    for history_id in (1, "2"):
        assert await _post(client, token, _body("ANNA@Example.com", history_id, padded=False)) == 204
    assert broker.hints() == [("a", 1), ("a", 2)]


async def test_whoever_is_not_google_changes_nothing(
    emulator: GmailEmulator, client: TestClient[Any, Any], broker: Broker
) -> None:
    now = int(emulator.clock())
    key, stranger = emulator.oauth.signing_key, SigningKey()
    stranger.key_id = key.key_id  # the same name, another key
    good = _token(emulator)
    header, claims, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"%s"}' % key.key_id.encode()).decode().rstrip("=")
    other = base64.urlsafe_b64encode(json.dumps(_claims(emulator, sub="x")).encode()).decode().rstrip("=")
    refused = [
        None,
        "",
        "no token",
        "a.b.c",
        stranger.sign(_claims(emulator)),
        SigningKey().sign(_claims(emulator)),
        f"{none}.{claims}.",
        f"{header}.{other}.{signature}",
        _token(emulator, exp=now - 60, iat=now - 3700),
        _token(emulator, exp=None),
        _token(emulator, iss="https://evil.example.com"),
    ]
    for token in refused:
        assert await _post(client, token) == 401, token
    forbidden = [
        _token(emulator, aud="https://other.example.com"),
        _token(emulator, aud=None),
        _token(emulator, email="someone@example.com"),
        _token(emulator, email_verified=False),
        _token(emulator, email_verified="true"),
    ]
    for token in forbidden:
        assert await _post(client, token) == 403, token
    assert broker.sent == []


async def test_everything_authentic_is_acknowledged(
    emulator: GmailEmulator, client: TestClient[Any, Any], broker: Broker
) -> None:
    token = _token(emulator)
    bodies = [
        _body("nobody@example.com"),
        _body("parked@example.com"),
        _body(history_id="not a number"),
        {"message": {"data": "***"}},
        {"message": 7},
        [],
        b"no json",
    ]
    for body in bodies:
        assert await _post(client, token, body) == 204, body
    assert broker.sent == []


async def test_what_kafka_did_not_take_comes_again(
    emulator: GmailEmulator, client: TestClient[Any, Any], broker: Broker
) -> None:
    broker.down = True
    assert await _post(client, _token(emulator)) == 503
    broker.down = False
    assert await _post(client, _token(emulator)) == 204
    assert broker.hints() == [("a", 77)]


async def test_duplicates_and_older_ones_are_passed_on_once(
    emulator: GmailEmulator,
    client: TestClient[Any, Any],
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = _token(emulator)
    for _ in range(50):
        assert await _post(client, token) == 204
    assert await _post(client, token, _body(history_id=5)) == 204
    assert broker.hints() == [("a", 77)]
    monkeypatch.setattr(push_module, "FORWARDED_SECONDS", -1.0)
    assert await _post(client, token) == 204
    assert broker.hints() == [("a", 77)] * 2, "after a while an equal one is passed on again"


async def test_a_body_that_is_too_large_is_not_read(
    emulator: GmailEmulator, client: TestClient[Any, Any]
) -> None:
    assert await _post(client, _token(emulator), b" " * 70_000) == 413


async def test_new_keys_are_fetched_and_invented_ones_only_now_and_then(
    emulator: GmailEmulator,
    client: TestClient[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetches = 0
    fetch = Certificates._fetch

    async def counted(self: Certificates) -> Any:
        nonlocal fetches
        fetches += 1
        return await fetch(self)

    monkeypatch.setattr(Certificates, "_fetch", counted)
    monkeypatch.setattr(push_module, "UNKNOWN_KEY_SECONDS", 600.0)  # making twenty keys may take ten
    assert await _post(client, _token(emulator)) == 204
    for _ in range(20):
        assert await _post(client, SigningKey().sign(_claims(emulator))) == 401
    assert fetches == 1
    monkeypatch.setattr(push_module, "UNKNOWN_KEY_SECONDS", -1.0)
    emulator.oauth.signing_key = SigningKey()  # Google rotates
    assert await _post(client, _token(emulator)) == 204


async def test_without_certificates_nobody_is_believed_and_nobody_refused(broker: Broker) -> None:
    verifier = PushVerifier(Certificates("http://127.0.0.1:9/certs"), AUDIENCE, ACCOUNT)
    hints = Hints(broker, Registry())  # type: ignore[arg-type]
    async with TestClient(TestServer(application(verifier, hints))) as client:
        assert await _post(client, SigningKey().sign({"aud": AUDIENCE, "exp": 1, "iat": 0})) == 503
    assert broker.sent == []


async def test_who_sends_a_byte_now_and_then_is_hung_up_on(
    emulator: GmailEmulator, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads that never end, and authentic requests whose bodies never do; meanwhile others are served."""
    monkeypatch.setattr(push_command, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(push_command, "BODY_SECONDS", 0.5)
    verifier = PushVerifier(Certificates(f"{emulator.url}/oauth2/v1/certs"), AUDIENCE, ACCOUNT)
    runner = endpoint(verifier, Hints(broker, Registry()))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    token = _token(emulator)
    heads = [b"", b"POST /push HTTP/1.1\r\nX-A: "]
    bodies = [
        f"POST /push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{framing}".encode()
        for framing in ("Content-Length: 500\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1f4\r\n{")
    ]
    try:
        async with asyncio.timeout(20):
            dripping = [asyncio.create_task(_drip(host, port, begin)) for begin in heads * 20 + bodies * 20]
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection(host, port)
            content = json.dumps(_body()).encode()
            writer.write(
                f"POST /push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            assert await reader.readline() == b"HTTP/1.1 204 No Content\r\n"
            writer.close()
            answers = await asyncio.gather(*dripping)
    finally:
        await runner.cleanup()
    assert {answer.split(b"\r\n")[0] for answer in answers[:40]} == {b""}
    assert {answer.split(b"\r\n")[0] for answer in answers[40:]} == {b"HTTP/1.1 408 Request Timeout"}
    assert broker.hints() == [("a", 77)]


async def _drip(host: str, port: int, begin: bytes) -> bytes:
    """Send ``begin``, then a byte now and then; what had come back when the connection was closed."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(begin)
    answer = b""
    with suppress(ConnectionError):
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    if not (block := await reader.read(1000)):
                        break
                    answer += block
            if begin:
                writer.write(b"1")
    writer.close()
    return answer


async def test_what_unpacks_to_much_is_not_unpacked(
    emulator: GmailEmulator, client: TestClient[Any, Any]
) -> None:
    packed = gzip.compress(bytes(50 << 20))
    headers = {"Authorization": f"Bearer {_token(emulator)}", "Content-Encoding": "gzip"}
    async with client.post("/push", data=packed, headers=headers) as response:
        assert response.status == 413


async def test_a_replayed_push_moves_nothing(
    emulator: GmailEmulator, client: TestClient[Any, Any], broker: Broker
) -> None:
    """Whoever has seen a token may send hints while it lasts: they ask for news, and say nothing else."""
    token = _token(emulator)
    assert await _post(client, token) == 204
    assert await _post(client, token, _body(history_id=10**18)) == 204
    requests = [SyncRequest.decode(send.value or b"") for send in broker.sent]
    assert [request.kind for request in requests] == ["hint", "hint"]
    expired = _token(emulator, iat=int(emulator.clock()) - 3700, exp=int(emulator.clock()) - 100)
    assert await _post(client, expired) == 401
    assert len(broker.sent) == 2
