"""The HTTP scanner: its verdicts, and that no other answer is ever clean."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from connectors.clamav_check import EICAR
from connectors.errors import ConfigurationError, ScannerDroppedError, ScannerUnavailableError
from connectors.http_scanner import HttpScanner
from schemas.outcomes import Scan, ScanVerdict

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[HttpScanner]:
    app = web.Application(client_max_size=100_000_000)
    app.router.add_route("*", "/scan", handler)
    async with TestServer(app) as server:
        yield HttpScanner(str(server.make_url("/scan")), "secret")


async def test_bytes_go_out_and_a_verdict_comes_back() -> None:
    sizes = []

    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        if request.method == "GET":
            return web.json_response({"version": "Vendor 2/7"})
        body = await request.read()
        assert request.content_length == len(body)
        sizes.append(len(body))
        found = EICAR in body
        return web.json_response(
            {"verdict": "infected", "signature": "Eicar"} if found else {"verdict": "clean"}
        )

    async with served(handler) as scanner:
        await scanner.check()
        assert await scanner.version() == "Vendor 2/7"
        assert await scanner.scan(memoryview(EICAR)) == ScanVerdict(Scan.INFECTED, "Eicar")
        assert await scanner.scan(memoryview(bytes(3_000_000))) == ScanVerdict(Scan.CLEAN)
        assert await scanner.scan(memoryview(b"")) == ScanVerdict(Scan.CLEAN)
    assert sizes == [68, 68, 3_000_000, 0]


@pytest.mark.parametrize(
    "body", ["", "clean", "[]", '{"verdict": "CLEAN"}', '{"verdict": "off"}', "{}", "\xff"]
)
async def test_what_is_no_verdict_is_unscanned(body: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body.encode("latin-1"))

    async with served(handler) as scanner:
        assert await scanner.scan(memoryview(b"x")) == ScanVerdict(Scan.UNSCANNED)
        with pytest.raises(ConfigurationError, match="EICAR"):
            await scanner.check()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, ScannerUnavailableError),
        (500, ScannerUnavailableError),
        (503, ScannerUnavailableError),
        (401, ConfigurationError),
        (403, ConfigurationError),
        (404, ConfigurationError),
        (302, ConfigurationError),
        (413, None),
        (422, None),
        (204, None),
    ],
)
async def test_no_status_but_200_is_clean(status: int, error: type[Exception] | None) -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        headers = {"Location": "/scan"} if status == 302 else {}
        body = None if status == 204 else b'{"verdict": "clean"}'
        return web.Response(status=status, body=body, headers=headers)

    async with served(handler) as scanner:
        if error is None:
            assert await scanner.scan(memoryview(b"x")) == ScanVerdict(Scan.UNSCANNED)
        else:
            with pytest.raises(error):
                await scanner.scan(memoryview(b"x"))


async def test_one_that_hangs_up_or_is_not_there_gives_no_verdict() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with served(handler) as scanner:
        with pytest.raises(ScannerDroppedError):
            await scanner.scan(memoryview(bytes(1_000_000)))
        closed = scanner
    with pytest.raises(ScannerUnavailableError):
        await closed.version()
    for address in ("", "ftp://host", "scanner"):
        with pytest.raises(ConfigurationError, match="HTTP_SCANNER_URL"):
            HttpScanner(address, "")
