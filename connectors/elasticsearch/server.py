"""How Elasticsearch is reached: where it is, and who we are to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elasticsearch import AsyncElasticsearch, AuthorizationException, BadRequestError, OrjsonSerializer

from connectors.elasticsearch.mapped import mapped
from connectors.errors import UnavailableError
from connectors.tls import tls_context
from schemas import mapping

REQUEST_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """Elasticsearch's ``url``, the key that it asks for, and whose certificates are believed."""

    url: str
    api_key: str = field(default="", repr=False)
    ca_file: Path | None = None  # None: the system's authorities

    def client(self, **options: Any) -> AsyncElasticsearch:
        """A client, to be closed by the caller. ``options`` are the client's; by default a request has a
        minute, and one that took too long is not repeated. Raises ConfigurationError."""
        if self.url.startswith("https:"):
            options["ssl_context"] = tls_context("ELASTICSEARCH", self.ca_file)
        if self.api_key:
            options["api_key"] = self.api_key
        return AsyncElasticsearch(
            self.url,
            serializer=OrjsonSerializer(),
            **{"request_timeout": REQUEST_TIMEOUT_SECONDS, "retry_on_timeout": False, **options},
        )

    async def check(self) -> None:
        """Raise ConfigurationError where it will not let us in; whether it is there now does not matter."""
        async with connected(self) as client:
            try:
                with mapped(), suppress(AuthorizationException):  # a key need not have the right to look
                    await client.indices.exists_alias(name=mapping.WRITE_ALIAS)
            except UnavailableError:
                return


@asynccontextmanager
async def connected(elasticsearch: Server | str) -> AsyncIterator[AsyncElasticsearch]:
    """A client of the server, closed at the end."""
    client = server(elasticsearch).client()
    try:
        yield client
    finally:
        await client.close()


async def create_index(client: AsyncElasticsearch, **options: Any) -> None:
    """Create an index, with the client's ``options``; one that somebody has created meanwhile is fine."""
    try:
        await client.indices.create(**options)
    except BadRequestError as error:
        if error.error != "resource_already_exists_exception":
            raise


def server(elasticsearch: Server | str) -> Server:
    """The server itself, or one at that URL that asks for nothing."""
    return Server(elasticsearch) if isinstance(elasticsearch, str) else elasticsearch
