"""Small HTTP servers of a test's own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from connectors.clamav_check import EICAR


class Handler(BaseHTTPRequestHandler):
    """Says what it is told to in ``get`` and ``post``, in JSON, and nothing on the terminal."""

    def do_GET(self) -> None:
        self.get()

    def do_POST(self) -> None:
        self.post(self.body())

    def get(self) -> None:
        self.answer({}, 405)

    def post(self, body: bytes) -> None:
        self.answer({}, 405)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, content: object, status: int = 200, content_type: str = "application/json") -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Scanner(Handler):
    """A malware scanner as HTTP_SCANNER_URL names one."""

    def get(self) -> None:
        self.answer({"version": "1"})

    def post(self, body: bytes) -> None:
        found = {"verdict": "infected", "signature": "Test"}
        self.answer(found if self.is_infected(body) else {"verdict": "clean"})

    def is_infected(self, payload: bytes) -> bool:
        return EICAR in payload


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of this machine; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
