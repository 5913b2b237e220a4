"""Who sends the search API a byte now and then is hung up on; whoever asks in one go is answered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

from cli import slow_clients
from cli.slow_clients import PromptProtocol


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the request to its end, takes longer than a request may, and answers."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest_asyncio.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(slow_clients, "REQUEST_SECONDS", 0.4)
    server = uvicorn.Server(
        uvicorn.Config(
            _app, port=0, http=PromptProtocol, log_config=None, lifespan="off", timeout_keep_alive=30
        )
    )
    socket = server.config.bind_socket()
    task = asyncio.create_task(server._serve([socket]))
    yield socket.getsockname()[1]
    server.should_exit = True
    await task


HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "begin",
    [b"", b"G", HEAD + b"X-A: ", HEAD + b"Content-Length: 500\r\n\r\n{"],
    ids=["nothing", "a letter", "a head", "a body"],
)
async def test_a_request_that_does_not_end_is_ended(port: int, begin: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)
    reading = asyncio.create_task(reader.read())
    async with asyncio.timeout(5):
        while not reading.done():
            await asyncio.sleep(0.05)
            if begin and not reading.done():
                writer.write(b"a")
    # Who is hung up on while a byte is on its way is told so by a reset.
    if not isinstance(reading.exception(), ConnectionResetError):
        assert not reading.result().startswith(b"HTTP/1.1 200")
    writer.close()


async def test_what_has_come_is_answered_however_long_that_takes(port: int) -> None:
    """Twice on one connection, with a pause: only a request that has begun must end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        for _ in range(2):
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{")
            await asyncio.sleep(0.1)
            writer.write(b"}")
            answer = await reader.readuntil(b"\r\n\r\nok")
            assert answer.startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.6)
        writer.write(HEAD + b"X")
        assert await reader.read() == b""
    writer.close()
