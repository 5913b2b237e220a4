"""The testcontainers provider: the same servers as containers, on any engine that speaks Docker's API.

The libraries are imported where they are used: without an engine nobody needs to wait for them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from devstack.local import ELASTICSEARCH_HEAP, ELASTICSEARCH_SETTINGS, KAFKA_HEAP, KAFKA_SETTINGS
from devstack.maven import ELASTICSEARCH_VERSION, KAFKA_VERSION
from devstack.probes import elasticsearch_answers, kafka_answers
from devstack.programs import DevstackError
from devstack.servers import GRACE_SECONDS, READY_SECONDS, PortTakenError

KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
ELASTICSEARCH_IMAGE = f"elasticsearch:{ELASTICSEARCH_VERSION}"
_ENGINE_SECONDS = 5
_PORT_TAKEN = ("port is already allocated", "address already in use")


def engine_problem() -> str | None:
    """Why no container engine can be used, in a few words; None when one answers."""
    import docker
    from docker.errors import DockerException
    from testcontainers.core.docker_client import get_docker_host

    try:
        address = get_docker_host()
        client = (
            docker.DockerClient(address, timeout=_ENGINE_SECONDS)
            if address
            else docker.from_env(timeout=_ENGINE_SECONDS)
        )
        with contextlib.closing(client):
            client.ping()
    except (DockerException, OSError) as error:
        return " ".join(str(error).split())[:120]
    return None


def host() -> str:
    """Where the engine's published ports are reached from here."""
    from testcontainers.core.docker_client import DockerClient

    return str(DockerClient().host())


def kafka_server(host: str, port: int, *, detached: bool) -> ContainerServer:
    """A broker as a container, not started."""
    settings = {
        **KAFKA_SETTINGS,
        "listeners": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "controller.quorum.voters": "1@localhost:9093",
    }
    environment = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in settings.items()}
    return ContainerServer(
        name="Kafka",
        image=KAFKA_IMAGE,
        environment={**environment, "KAFKA_HEAP_OPTS": " ".join(KAFKA_HEAP)},
        inner_port=9092,
        host=host,
        port=port,
        answers=partial(kafka_answers, f"{host}:{port}"),
        detached=detached,
    )


def elasticsearch_server(host: str, port: int, *, detached: bool) -> ContainerServer:
    """A node as a container, not started."""
    return ContainerServer(
        name="Elasticsearch",
        image=ELASTICSEARCH_IMAGE,
        environment={
            **ELASTICSEARCH_SETTINGS,
            "xpack.ml.enabled": "false",
            "ingest.geoip.downloader.enabled": "false",  # it would go to the internet
            "ES_JAVA_OPTS": " ".join(ELASTICSEARCH_HEAP),
        },
        inner_port=9200,
        host=host,
        port=port,
        answers=partial(elasticsearch_answers, f"http://{host}:{port}"),
        detached=detached,
    )


@dataclass
class ContainerServer:
    """A server in a container, on a fixed port of the host, so that a restart keeps its address."""

    name: str
    image: str
    environment: dict[str, str]
    inner_port: int
    host: str
    port: int
    answers: Callable[[], bool]
    detached: bool = False
    pid: int | None = None
    scratch: bool = False
    container: Any = field(default=None, repr=False)  # docker's, once it is created

    def start(self) -> None:
        """See ``Server.start``."""
        if self.container is not None:
            self.container.start()
            return
        from docker.errors import APIError
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        # the reaper removes containers whose starting process is gone; detached ones are to stay
        testcontainers_config.ryuk_disabled = self.detached or testcontainers_config.ryuk_disabled
        container = DockerContainer(self.image).with_envs(**self.environment)
        # the engine's loopback only, unless the engine is on another machine
        published: Any = self.port
        if self.host in {"localhost", "127.0.0.1"}:
            published = ("127.0.0.1", self.port)
        container.ports[f"{self.inner_port}/tcp"] = published
        try:
            container.start()
        except APIError as error:
            with contextlib.suppress(APIError):
                container.stop()
            if any(words in str(error).lower() for words in _PORT_TAKEN):
                raise PortTakenError(f"{self.name} found port {self.port} taken") from error
            raise DevstackError(f"{self.name}'s container did not start: {error.explanation}") from error
        self.container = container.get_wrapped_container()

    def wait_until_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """See ``Server.wait_until_ready``."""
        deadline = time.monotonic() + timeout_seconds
        while not self.answers():
            self.container.reload()
            if self.container.status == "exited" or time.monotonic() > deadline:
                raise DevstackError(
                    f"{self.name}'s container is {self.container.status} and does not answer;"
                    f" its last log lines:\n{self.log_tail()}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """See ``Server.stop``. The container, with its data, stays until ``remove``."""
        if self.container is not None:
            self.container.stop(timeout=int(GRACE_SECONDS))

    def kill(self) -> None:
        """See ``Server.kill``."""
        self._running().kill()

    def pause(self) -> None:
        """See ``Server.pause``."""
        self._running().pause()

    def resume(self) -> None:
        """See ``Server.resume``."""
        self._running().unpause()

    def remove(self) -> None:
        """Remove the container with its data. Safe to repeat."""
        if self.container is not None:
            self.container.remove(force=True, v=True)
            self.container = None

    def log_tail(self, lines: int = 40) -> str:
        """See ``Server.log_tail``."""
        if self.container is None:
            return "(no log)"
        return str(self.container.logs(tail=lines).decode(errors="replace"))

    def describe(self) -> dict[str, Any]:
        """See ``Server.describe``."""
        return {"container": self.container.id if self.container is not None else None, "ports": [self.port]}

    def adopt(self, container_id: str) -> None:
        """Take over a container that another process started, if it is still there.

        Raises ``DevstackError`` when no engine answers.
        """
        from docker.errors import DockerException, NotFound
        from testcontainers.core.docker_client import DockerClient

        try:
            self.container = DockerClient().client.containers.get(container_id)
        except NotFound:
            self.container = None
        except (DockerException, OSError) as error:
            raise DevstackError("no container engine answers, but this stack runs in containers") from error

    def _running(self) -> Any:
        if self.container is None:
            raise DevstackError(f"{self.name} does not run")
        return self.container
