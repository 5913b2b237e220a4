"""A proxy in front of Elasticsearch that refuses, delays and cuts off, as told; it counts what it did.

It may speak TLS, and ask for an API key as Elasticsearch does.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, web

_PASSED_ON = ("Content-Type", "X-Elastic-Product")


class ElasticsearchProxy:
    """``busy_bulks`` and ``busy_items`` are refused (429) before ``slow_seconds`` counts; 0 is off."""

    def __init__(self, target: str, session: ClientSession, api_key: str | None = None) -> None:
        self.target = target
        self._session = session
        self._api_key = api_key
        self.url = ""
        self.busy_bulks = 0  # whole bulks still to be refused
        self.busy_items = 0  # items still to be refused, every other one of a bulk
        self.slow_seconds = 0.0
        self.seen: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, target: str, tls: ssl.SSLContext | None = None, api_key: str | None = None
    ) -> AsyncIterator["ElasticsearchProxy"]:
        """A proxy on a free port of this machine."""
        async with ClientSession() as session:
            proxy = cls(target, session, api_key)
            async with proxy._served(tls):
                yield proxy

    @asynccontextmanager
    async def _served(self, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        application = web.Application(client_max_size=200 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        try:
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self._api_key is not None and request.headers.get("Authorization") != f"ApiKey {self._api_key}":
            self.seen["key refused"] += 1
            error = {
                "type": "security_exception",
                "reason": "unable to authenticate with provided credentials",
            }
            return web.json_response(
                {"error": error, "status": 401}, status=401, headers={"X-Elastic-Product": "Elasticsearch"}
            )
        self.seen["request"] += 1
        if not request.path.endswith("_bulk"):
            return await self._forward(request, body)
        if self.busy_bulks:
            self.busy_bulks -= 1
            self.seen["busy bulk"] += 1
            error = {"type": "es_rejected_execution_exception", "reason": "busy"}
            return web.json_response(
                {"error": error, "status": 429}, status=429, headers={"X-Elastic-Product": "Elasticsearch"}
            )
        if self.slow_seconds:
            self.seen["slow bulk"] += 1
            await asyncio.sleep(self.slow_seconds)
        if self.busy_items:
            return await self._half(request, body)
        return await self._forward(request, body)

    async def _half(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Every other item is refused, the first among them; the others reach the server."""
        lines = body.splitlines(keepends=True)
        items = [lines[start : start + 2] for start in range(0, len(lines), 2)]
        refused = items[::2][: self.busy_items]
        passed = [item for item in items if item not in refused]
        self.busy_items -= len(refused)
        self.seen["busy item"] += len(refused)
        response: dict[str, Any] = {"took": 0, "items": []}
        if passed:
            answer = await self._forward(request, b"".join(line for item in passed for line in item))
            if answer.status != 200:
                return answer
            assert isinstance(answer.body, bytes)
            response = orjson.loads(answer.body)
        for position, item in enumerate(items):
            if item in refused:
                [(action, target)] = orjson.loads(item[0]).items()
                error = {"type": "es_rejected_execution_exception", "reason": "busy"}
                response["items"].insert(
                    position, {action: {"_id": target["_id"], "status": 429, "error": error}}
                )
        response["errors"] = True
        return web.json_response(response, headers={"X-Elastic-Product": "Elasticsearch"})

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {
            name: value for name, value in request.headers.items() if name in ("Content-Type", "Accept")
        }
        try:
            async with self._session.request(
                request.method, f"{self.target}{request.rel_url}", data=body, headers=headers
            ) as response:
                passed = {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
                return web.Response(body=await response.read(), status=response.status, headers=passed)
        except ClientError:
            # The server is gone: so are its connections.
            self.seen["cut off"] += 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
