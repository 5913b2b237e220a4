"""A schema registry as Confluent documents its API, as far as ``register`` goes: what it answers and refuses.

It takes schemas in JSON only, and calls a schema incompatible that lacks a field of the one before it.
"""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

from tests.serving import Handler

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class RegistryServer(ThreadingHTTPServer):
    """What it holds: versions by subject, levels by subject, and the answers it gave."""

    def __init__(self, authorization: str | None = None, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http" if certificate is None else "https"
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.authorization = authorization
        self.subjects: dict[str, list[str]] = {}
        self.levels: dict[str, str] = {}
        self.ids: dict[str, int] = {}
        self.answers: list[tuple[str, str, int]] = []
        self.status: int | None = None  # to answer everything with

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match [unquote(part) for part in path.strip("/").split("/")], method:
            case ["subjects", subject, "versions"], "GET":
                versions = self.subjects.get(subject)
                return (200, list(range(1, len(versions) + 1))) if versions else _error(40401)
            case ["config", subject], "PUT":
                self.levels[subject] = body["compatibility"]
                return 200, body
            case ["subjects", subject], "POST":
                return self._look_up(subject, body["schema"])
            case ["subjects", subject, "versions"], "POST":
                return self._register(subject, body["schema"])
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _look_up(self, subject: str, schema: str) -> tuple[int, Any]:
        if subject not in self.subjects:
            return _error(40401)
        if schema not in self.subjects[subject]:
            return _error(40403)
        version = self.subjects[subject].index(schema) + 1
        return 200, {"subject": subject, "version": version, "id": self.ids[schema], "schema": schema}

    def _register(self, subject: str, schema: str) -> tuple[int, Any]:
        made = json.loads(schema)
        if not isinstance(made.get("properties"), dict):
            return _error(42201)
        versions = self.subjects.setdefault(subject, [])
        if versions and json.loads(versions[-1])["properties"].keys() - made["properties"].keys():
            return _error(409)
        if schema not in versions:
            versions.append(schema)
        return 200, {"id": self.ids.setdefault(schema, len(self.ids) + 1)}


_MESSAGES = {
    40401: "Subject not found.",
    40403: "Schema not found",
    42201: "Either the input schema or one its references is invalid",
    409: "Schema being registered is incompatible with an earlier schema",
    401: "Unauthorized",
}


def _error(code: int) -> tuple[int, Any]:
    return int(str(code)[:3]), {"error_code": code, "message": _MESSAGES[code]}


class _Handler(Handler):
    server: RegistryServer

    def _handle(self) -> None:
        body = self.body()
        wanted = self.server.authorization
        if wanted is not None and self.headers.get("Authorization") != wanted:
            status, answer = _error(401)
        elif self.server.status is not None:
            status, answer = self.server.status, {"error_code": 50003, "message": "no master"}
        elif body and self.headers["Content-Type"] != CONTENT_TYPE:
            status, answer = 415, {"error_code": 415, "message": "HTTP 415 Unsupported Media Type"}
        else:
            status, answer = self.server.answer(self.command, self.path, json.loads(body) if body else None)
        self.server.answers.append((self.command, self.path, status))
        self.answer(answer, status, CONTENT_TYPE)

    do_GET = do_POST = do_PUT = _handle  # noqa: N815

    def handle(self) -> None:
        with suppress(ssl.SSLError, ConnectionError):  # a handshake that the client ends
            super().handle()


@contextmanager
def registry_server(
    authorization: str | None = None, certificate: Path | None = None
) -> Iterator[RegistryServer]:
    """A registry that is empty, on a port of its own; with a certificate by TLS."""
    with RegistryServer(authorization, certificate) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
