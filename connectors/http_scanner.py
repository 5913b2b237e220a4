"""A malware scanner over HTTP: a vendor's, or a gateway to one.

``POST`` of the bytes answers ``{"verdict": "clean"|"infected"|"unscanned", "signature": ...}``, ``GET``
answers ``{"version": ...}``. Both carry the bearer token. Whatever else is answered is not clean.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from connectors.clamav_check import EICAR
from connectors.errors import ConfigurationError, ScannerDroppedError, ScannerUnavailableError
from schemas.outcomes import Scan, ScanVerdict

BLOCK_BYTES = 256 * 1024
ANSWER_SECONDS = 10.0  # for a question that takes no scan, and for being connected
MAX_ANSWER_BYTES = 64 * 1024


class HttpScanner:
    """A scanner. Each request has a connection of its own; no redirect is followed with a payload in hand."""

    def __init__(self, url: str, token: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigurationError("HTTP_SCANNER_URL is the http(s) address that takes the bytes")
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def check(self) -> None:
        """See ``streams.scanning.Scanner``: it must know EICAR."""
        if (await self.scan(memoryview(EICAR))).scan is not Scan.INFECTED:
            raise ConfigurationError(f"HTTP_SCANNER_URL: what answers at {self._url} does not know EICAR")

    async def version(self) -> str:
        """See ``streams.scanning.Scanner``."""
        status, answer = await self._ask("GET", ANSWER_SECONDS)
        if status != 200 or not isinstance(answer.get("version"), str):
            raise ScannerUnavailableError(f"the scanner does not tell its version (HTTP {status})")
        return str(answer["version"])

    async def scan(self, payload: memoryview) -> ScanVerdict:
        """See ``streams.scanning.Scanner``."""
        async with aclosing(_blocks(payload)) as blocks:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(payload))}
            # How long a scan may take is the caller's to say.
            status, answer = await self._ask("POST", None, data=blocks, headers=headers)
        if status != 200:
            return ScanVerdict(Scan.UNSCANNED)  # too large, or of a kind that it refuses
        verdict, signature = answer.get("verdict"), answer.get("signature")
        return ScanVerdict(
            Scan(verdict) if verdict in (Scan.CLEAN, Scan.INFECTED) else Scan.UNSCANNED,
            signature if isinstance(signature, str) else None,
        )

    async def _ask(
        self, method: str, seconds: float | None, headers: dict[str, str] | None = None, data: Any = None
    ) -> tuple[int, dict[str, Any]]:
        timeout = aiohttp.ClientTimeout(total=seconds, connect=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.request(
                    method, self._url, data=data, headers=headers, allow_redirects=False
                ) as response,
            ):
                self._refuse(response)
                return response.status, _object(await _body(response))
        except (aiohttp.ClientConnectorError, TimeoutError) as error:
            raise ScannerUnavailableError(f"the scanner does not answer at {self._url}") from error
        except aiohttp.ClientError as error:
            raise ScannerDroppedError("the scanner hung up before its verdict") from error

    def _refuse(self, response: aiohttp.ClientResponse) -> None:
        """Raises where the answer is about the scanner or our access, and not about the document."""
        status = response.status
        if status == 429 or status >= 500:
            raise ScannerUnavailableError(f"the scanner has no time (HTTP {status})")
        if status in (401, 403):
            raise ConfigurationError(f"HTTP_SCANNER_TOKEN is refused (HTTP {status})")
        if status in (404, 405) or 300 <= status < 400:
            raise ConfigurationError(f"HTTP_SCANNER_URL: no scanner at {self._url} (HTTP {status})")


async def _blocks(payload: memoryview) -> AsyncGenerator[memoryview, None]:
    for start in range(0, len(payload), BLOCK_BYTES):
        with payload[start : start + BLOCK_BYTES] as block:
            yield block
            await asyncio.sleep(0)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) < MAX_ANSWER_BYTES and (block := await response.content.read(MAX_ANSWER_BYTES)):
        body += block
    return body


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
