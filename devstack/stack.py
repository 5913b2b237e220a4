"""A real Kafka and a real Elasticsearch for the demo, the tests and the benchmarks.

Three providers. ``external``: the addresses stand in KAFKA_BOOTSTRAP and ELASTICSEARCH_URL.
``testcontainers``: a container engine answers. ``maven``: processes on this machine. STACK names one;
otherwise the first that applies is used.
"""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaError

from devstack import containers, maven
from devstack.programs import DevstackError

PROVIDERS = ("external", "testcontainers", "maven")
# Two attempts may find the same free port; another one is found then.
START_ATTEMPTS = 3


@dataclass
class Stack:
    """The servers' addresses; ``servers`` are ours to kill and start again, where we started processes."""

    provider: str
    kafka_bootstrap: str
    elasticsearch_url: str
    servers: dict[str, maven.Server] = field(default_factory=dict)

    def restart(self, name: str) -> None:
        """Start a server again that was killed or stopped: same ports, same data."""
        server = self.servers[name]
        server.stop()
        server.start()
        server.wait_until_ready()

    def log_tail(self, name: str) -> str:
        """The last lines that a server of ours has logged."""
        return self.servers[name].log_tail() if name in self.servers else "(not our process)"


def choose_provider() -> str:
    """The provider for this environment. Raises DevstackError when STACK names none."""
    chosen = os.environ.get("STACK")
    if chosen:
        if chosen not in PROVIDERS:
            raise DevstackError(f"STACK={chosen} is none of {', '.join(PROVIDERS)}")
        return chosen
    if os.environ.get("KAFKA_BOOTSTRAP") and os.environ.get("ELASTICSEARCH_URL"):
        return "external"
    return "testcontainers" if containers.engine_answers() else "maven"


@contextlib.contextmanager
def start_stack(provider: str | None = None) -> Iterator[Stack]:
    """A stack that is ready, ended with the context. Raises DevstackError in a line that says what to do."""
    provider = provider or choose_provider()
    if provider == "external":
        yield _external()
    elif provider == "testcontainers":
        with containers.start() as (bootstrap, url):
            yield Stack(provider, bootstrap, url)
    else:
        with maven.reachable_directory() as directory, _ended_by_signals():
            stack = start_processes(directory, detached=False)
            try:
                yield stack
            finally:
                stop_processes(stack)


def _external() -> Stack:
    try:
        bootstrap, url = os.environ["KAFKA_BOOTSTRAP"], os.environ["ELASTICSEARCH_URL"]
    except KeyError as missing:
        raise DevstackError(f"STACK=external needs {missing.args[0]}") from missing
    for name, address, ready in (
        ("Kafka", bootstrap, kafka_ready),
        ("Elasticsearch", url, elasticsearch_ready),
    ):
        if not ready(address):
            raise DevstackError(f"{name} does not answer at {address}")
    return Stack("external", bootstrap, url)


def start_processes(directory: Path, *, detached: bool) -> Stack:
    """Both servers as processes, their data under ``directory``; ``detached`` ones outlive this process."""
    for attempt in range(1, START_ATTEMPTS + 1):
        kafka, bootstrap = maven.kafka_server(directory / f"kafka-{attempt}", kafka_ready, detached=detached)
        elasticsearch, url = maven.elasticsearch_server(
            directory / f"elasticsearch-{attempt}", elasticsearch_ready, detached=detached
        )
        stack = Stack("maven", bootstrap, url, {"kafka": kafka, "elasticsearch": elasticsearch})
        try:
            for server in stack.servers.values():
                server.start()
            for server in stack.servers.values():
                server.wait_until_ready()
        except BaseException as error:
            stop_processes(stack)
            lost_a_port = isinstance(error, DevstackError) and "in use" in str(error).lower()
            if not lost_a_port or attempt == START_ATTEMPTS:
                raise
        else:
            return stack
    raise AssertionError("the last attempt returns or raises")


def stop_processes(stack: Stack) -> None:
    """End the stack's processes, both at once."""
    for server in stack.servers.values():
        server.signal(signal.SIGTERM)
    for server in stack.servers.values():
        server.stop()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the context like Ctrl-C does, so that no server stays behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: whoever is there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def kafka_ready(bootstrap: str) -> bool:
    """Whether Kafka answers at that address."""
    host, _, port = bootstrap.rpartition(":")
    try:
        # Cheaper than a client, and quiet while the broker is still coming up.
        socket.create_connection((host, int(port)), timeout=3).close()
    except (OSError, ValueError):
        return False

    async def ask() -> bool:
        client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=3_000)
        try:
            await client.bootstrap()
        except (KafkaError, OSError):
            return False
        finally:
            await client.close()
        return True

    return asyncio.run(ask())


def elasticsearch_ready(url: str) -> bool:
    """Whether Elasticsearch answers at that address and can take documents."""
    address = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=3)
    try:
        connection.request("GET", "/_cluster/health")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return answer.get("status") in {"green", "yellow"}
