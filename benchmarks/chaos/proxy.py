"""A TCP proxy before a server, which cuts and slows connections when it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS = 10.0
_BLOCK_BYTES = 64 * 1024


class Proxy:
    """Passes on what comes to ``port`` (0: a free one) to ``target``, a port of this machine or a path.

    It runs in a thread of its own; its methods may be called from any.
    """

    def __init__(self, target: int | Path, port: int = 0) -> None:
        self._target = target
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.WriteTransport] = set()
        self._refuses = False
        self._delay_seconds = 0.0
        self.cuts = 0  # connections that were cut or refused
        self.delays = 0  # blocks that came late
        self._thread = threading.Thread(target=self._run, name=f"proxy-{target}", daemon=True)
        self._stopping = asyncio.Event()
        self._ready = threading.Event()

    def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise OSError(f"the proxy of {self._target} does not listen")

    def stop(self) -> None:
        """Hang up."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_SECONDS)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Within the block every connection is cut, and each new one refused."""
        self._refuses = True
        self._loop.call_soon_threadsafe(self._cut)
        try:
            yield
        finally:
            self._refuses = False

    @contextmanager
    def slow(self, delay_seconds: float) -> Iterator[None]:
        """Within the block every 64 KiB, or what there is, waits that long."""
        self._delay_seconds = delay_seconds
        try:
            yield
        finally:
            self._delay_seconds = 0.0

    def _cut(self) -> None:
        for connection in list(self._connections):
            self.cuts += 1
            connection.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with suppress(OSError):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._stopping.wait()
            self._cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            self.cuts += 1
            writer.transport.abort()
            return
        try:
            behind_reader, behind_writer = await self._open()
        except OSError:
            writer.transport.abort()
            return
        ends = {writer.transport, behind_writer.transport}
        self._connections |= {writer.transport}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, behind_writer))
                group.create_task(self._pump(behind_reader, writer))
        except* OSError:
            pass
        finally:
            self._connections -= ends
            for end in ends:
                end.abort()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(HOST, self._target)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(_BLOCK_BYTES):
            if self._delay_seconds:
                self.delays += 1
                await asyncio.sleep(self._delay_seconds)
            writer.write(block)
            await writer.drain()
        # One side has nothing more to say: nor has the other anybody to say it to.
        raise ConnectionResetError
