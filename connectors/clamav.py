"""clamd, over INSTREAM: bytes go to it in blocks, a verdict comes back.

ClamAV's own settings call clean what they have not looked through: what is beyond a limit, and what is
encrypted. Set to alert instead (``connectors/clamav_check.py`` makes sure), it names such content by
heuristics of its own, which are no infection: nobody has looked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.clamav_check import check_answers, check_configuration
from connectors.errors import (
    ConfigurationError,
    ScannerDroppedError,
    ScannerFullError,
    ScannerUnavailableError,
)
from schemas.outcomes import Scan, ScanVerdict

BLOCK_BYTES = 256 * 1024
ANSWER_SECONDS = 5.0  # for a question that takes no scan
_LENGTH = struct.Struct("!I")
_NOT_LOOKED_THROUGH = ("Heuristics.Limits.Exceeded", "Heuristics.Encrypted")
_TOO_LONG = "INSTREAM size limit exceeded"
_NO_ROOM = "stream: Can't "  # write to file, create temporary directory, allocate memory
_MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ClamdConfig:
    """Where clamd is, and what it must be able to take. ``temporary_directory``: where its files must lie."""

    address: str
    largest_bytes: int
    temporary_directory: Path
    configuration_file: Path | None = None


class ClamdScanner:
    """A scanner. Each scan has a connection of its own: what one costs, the next one does not feel."""

    def __init__(self, config: ClamdConfig) -> None:
        self._config = config
        self._path, self._host, self._port = _address(config.address)

    async def check(self) -> None:
        """See ``streams.scanning.Scanner``: also where clamd keeps bytes in a place where they must not lie.
        The error names the line of clamd.conf to set."""
        config = self._config
        if config.configuration_file is not None:
            check_configuration(config.configuration_file, config.largest_bytes, config.temporary_directory)
        here = config.temporary_directory if self._path is not None else None
        await check_answers(self._stream, config.largest_bytes, here)

    async def version(self) -> str:
        """Engine and signature database, ``ClamAV 1.4.3/27500``. Raises ScannerUnavailableError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._connected() as connection:
                await _send(connection, b"zVERSION\0")
                answer = await _answer(connection)
        except TimeoutError as error:
            raise ScannerUnavailableError(f"clamd does not answer at {self._config.address}") from error
        # The database's date adds nothing to its number.
        return "/".join(answer.split("/")[:2])

    async def scan(self, payload: memoryview) -> ScanVerdict:
        """See ``streams.scanning.Scanner``."""
        with contextlib.closing(_blocks(payload)) as blocks:
            return _verdict(await self._stream(blocks))

    async def _stream(self, blocks: Iterable[bytes | memoryview]) -> str:
        """What clamd says to a stream. Raises ScannerDroppedError where it hangs up instead."""
        async with self._connected() as connection:
            sent = await _send(connection, b"zINSTREAM\0")
            for block in blocks:
                # Who hangs up while we send may have said why: the answer is read all the same.
                sent = sent and await _send(connection, _LENGTH.pack(len(block)), block)
                if not sent:
                    break
            if sent:
                await _send(connection, _LENGTH.pack(0))
            return await _answer(connection)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[socket.socket]:
        """A socket and no stream: asyncio's streams forget what they were told when they cannot send."""
        loop = asyncio.get_running_loop()
        connection: socket.socket | None = None
        try:
            if self._path is not None:
                address: Any = self._path
                connection = socket.socket(socket.AF_UNIX)
            else:
                [(family, _, _, _, address), *_] = await loop.getaddrinfo(
                    self._host, self._port, type=socket.SOCK_STREAM
                )
                connection = socket.socket(family)
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
        except OSError as error:
            if connection is not None:
                connection.close()
            raise ScannerUnavailableError(
                f"clamd does not answer at {self._config.address}: {error.strerror or error}"
            ) from error
        with connection:
            yield connection


def _address(address: str) -> tuple[str | None, str | None, int | None]:
    """``unix:/path`` or ``host:port``. Raises ConfigurationError."""
    if address.startswith("unix:"):
        return address.removeprefix("unix:"), None, None
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(f"CLAMD_ADDRESS is unix:/path/of/its/socket or host:port, not {address}")
    return None, host.strip("[]"), int(port)


def _blocks(payload: memoryview) -> Generator[memoryview, None, None]:
    """Blocks that are let go of however this ends: an error's traceback must not keep the payload."""
    for start in range(0, len(payload), BLOCK_BYTES):
        with payload[start : start + BLOCK_BYTES] as block:
            yield block


async def _send(connection: socket.socket, *blocks: bytes | memoryview) -> bool:
    """Send; returns whether somebody still takes it."""
    loop = asyncio.get_running_loop()
    try:
        for block in blocks:
            await loop.sock_sendall(connection, block)
    except OSError:
        return False
    return True


async def _answer(connection: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    answer, resets = b"", 0
    while not answer.endswith(b"\0") and len(answer) < _MAX_ANSWER_BYTES:
        try:
            block = await loop.sock_recv(connection, _MAX_ANSWER_BYTES)
        except OSError as error:
            resets += 1
            if resets > 1:
                raise ScannerDroppedError("clamd hung up before its verdict") from error
            continue  # told once that the other side is gone, the socket gives what it had said before
        if not block:
            break
        answer += block
    if not answer.endswith(b"\0"):
        raise ScannerDroppedError("clamd hung up before its verdict")
    return answer[:-1].decode("utf-8", "replace").strip()


def _verdict(answer: str) -> ScanVerdict:
    """What clamd's words mean: only ``OK`` is clean. Raises ScannerUnavailableError where the trouble is its
    own and not the document's, and ScannerFullError where it may be either's."""
    if answer == "stream: OK":
        return ScanVerdict(Scan.CLEAN)
    if answer.startswith("stream: ") and answer.endswith(" FOUND"):
        signature = answer.removeprefix("stream: ").removesuffix(" FOUND")
        unseen = signature.startswith(_NOT_LOOKED_THROUGH)
        return ScanVerdict(Scan.UNSCANNED if unseen else Scan.INFECTED, signature)
    if answer.startswith(_NO_ROOM):
        raise ScannerFullError(f"clamd has no room: {answer[:200]}")
    if answer.startswith(("stream: ", _TOO_LONG)):
        return ScanVerdict(Scan.UNSCANNED)
    raise ScannerUnavailableError(f"clamd does not scan: {answer[:200]}")
