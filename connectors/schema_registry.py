"""A schema registry that speaks Confluent's REST API: Confluent's own, Karapace, Apicurio.

Subjects, their versions, their compatibility level; and its error codes: 40401 no such subject, 40403 no such
schema, 42201 no schema at all, 409 an incompatible one.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import aiohttp

from connectors.errors import ConfigurationError, MailstreamError, UnavailableError
from connectors.tls import refused_handshake, tls_context

Kind = Literal["JSON", "AVRO"]
CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
ANSWER_SECONDS = 30.0
_UNKNOWN = (40401, 40402, 40403)  # subject, version, schema


class IncompatibleSchemaError(MailstreamError):
    """The registry refuses a schema: it would break who reads by the one before. 409."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Where a schema stands in the registry."""

    subject: str
    version: int
    schema_id: int
    is_new: bool


class SchemaRegistry:
    """A registry, while it is open."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        username: str = "",
        password: str = "",
        token: str = "",
        ca_file: Path | None = None,
    ) -> AsyncIterator[SchemaRegistry]:
        """Connects when it is first asked. Raises ConfigurationError where the address is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{url!r} is no address of a schema registry: http(s)://host:port/path")
        headers = {"Accept": f"{CONTENT_TYPE}, application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        elif username:
            headers["Authorization"] = aiohttp.BasicAuth(username, password).encode()
        tls: ssl.SSLContext | bool = True
        if parts.scheme == "https":
            tls = tls_context("SCHEMA_REGISTRY", ca_file)
        connector = aiohttp.TCPConnector(ssl=tls)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
            yield cls(session, url.rstrip("/"))

    async def register(self, subject: str, schema: dict[str, Any], kind: Kind, level: str) -> Registration:
        """Make a schema the subject's latest version, where it is not one of its versions already.

        A subject that is new is set to that compatibility ``level`` first; one that is there keeps its own.
        Raises IncompatibleSchemaError, ConfigurationError, UnavailableError.
        """
        body = {"schema": json.dumps(schema, ensure_ascii=False), "schemaType": kind}
        known = await self._find(subject, body)
        if known is not None:
            return known
        name = quote(subject, safe="")
        status, _ = await self._ask("GET", f"/subjects/{name}/versions", accept=(404,))
        if status == 404:
            await self._ask("PUT", f"/config/{name}", {"compatibility": level})
        status, answer = await self._ask("POST", f"/subjects/{name}/versions", body, accept=(409,))
        if status == 409:
            raise IncompatibleSchemaError(
                f"the registry refuses {subject}: it is incompatible with the version before it"
                f" ({answer.get('message', 'no reason given')})"
            )
        registered = await self._find(subject, body)
        if registered is None:
            raise UnavailableError(f"the registry took {subject} and does not know it")
        return Registration(subject, registered.version, registered.schema_id, is_new=True)

    async def _find(self, subject: str, body: dict[str, Any]) -> Registration | None:
        name = quote(subject, safe="")
        status, answer = await self._ask("POST", f"/subjects/{name}", body, accept=(404,))
        if status == 404:
            if answer.get("error_code") not in _UNKNOWN:
                raise ConfigurationError(
                    f"{self._url} answers 404 and is no schema registry: does a path belong to the address"
                    " (of Apicurio: /apis/ccompat/v7)?"
                )
            return None
        return Registration(subject, int(answer["version"]), int(answer["id"]), is_new=False)

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, accept: tuple[int, ...] = ()
    ) -> tuple[int, dict[str, Any]]:
        """The answer, where it is 200 or one of ``accept``."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": CONTENT_TYPE} if data is not None else {}
        try:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                text = await response.text()
        except aiohttp.ClientConnectorCertificateError as error:
            assert isinstance(error.certificate_error, ssl.SSLError)
            raise refused_handshake(error.certificate_error, self._url, "SCHEMA_REGISTRY") from error
        except aiohttp.ClientConnectorSSLError as error:
            assert isinstance(error.os_error, ssl.SSLError)
            raise refused_handshake(error.os_error, self._url, "SCHEMA_REGISTRY") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"no schema registry answers at {self._url}") from error
        answer = _object(text)
        if response.status == 200 or response.status in accept:
            return response.status, answer
        raise _refusal(self._url, path, response.status, answer)


def _object(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(url: str, path: str, status: int, answer: dict[str, Any]) -> MailstreamError:
    said = str(answer.get("message", "without a reason"))
    if status in (401, 403):
        return ConfigurationError(
            f"the registry at {url} does not let us in (HTTP {status}): see --username, --password-file and"
            " --token-file"
        )
    if status in (429, 500, 502, 503, 504):
        return UnavailableError(f"the registry at {url} cannot answer now (HTTP {status}): {said}")
    return ConfigurationError(f"the registry at {url} refuses {path} (HTTP {status}): {said}")
