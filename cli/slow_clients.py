"""uvicorn's HTTP, but a request must have come within seconds: who sends a byte now and then is hung up on.

uvicorn waits for ever for the rest of a request, and its limit of connections counts those that wait.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# From a request's first byte (of a connection's first request: from the connection) to the last of its body,
# which is a token at most.
REQUEST_SECONDS = 10.0


class PromptProtocol(H11Protocol):
    """Closes connections on which a request has begun and does not end."""

    _hang_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless the request is complete."""
        self._wait()
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._hang_up is None:
            self._hang_up = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None
