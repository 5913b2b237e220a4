"""Whether a server answers, asked over its own protocol."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

_ANSWER_SECONDS = 5.0


def kafka_answers(bootstrap: str) -> bool:
    """Whether a broker answers a request for its metadata. A running event loop is no hindrance."""
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    try:  # the cheap question first: the client logs an error for each refusal
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
    except (OSError, ValueError):
        return False
    with ThreadPoolExecutor(1) as pool:  # this thread may have a running loop
        return pool.submit(asyncio.run, _describe(bootstrap)).result()


async def _describe(bootstrap: str) -> bool:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(_ANSWER_SECONDS * 1000))
    try:
        async with asyncio.timeout(2 * _ANSWER_SECONDS):
            await client.start()
            return bool((await client.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        with contextlib.suppress(KafkaError, OSError):
            await client.close()


def elasticsearch_answers(url: str) -> bool:
    """Whether the cluster is at least yellow: every primary shard can be read and written."""
    parts = urlsplit(url)
    headers = {}
    if parts.username:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_ANSWER_SECONDS)
        try:
            path = parts.path.rstrip("/") + "/_cluster/health?wait_for_status=yellow&timeout=1s"
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return False
