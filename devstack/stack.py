"""A Kafka and an Elasticsearch to work with: ``with start_stack() as stack: ...``.

Three providers fulfil one contract (``tests/services/test_devstack.py``): ``maven`` runs the real servers as
processes on this machine, ``testcontainers`` as containers, ``external`` takes those that somebody else runs.
The environment variable ``STACK`` chooses; without it: the external ones where ``KAFKA_BOOTSTRAP`` and
``ELASTICSEARCH_URL`` are both set, else containers where an engine answers, else Maven.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack import containers, external, local
from devstack.maven import cache_directory, install
from devstack.programs import DevstackError, find_java_home
from devstack.servers import PortTakenError, Server

PROVIDERS = ("maven", "testcontainers", "external")

# A chosen port is taken between the look and the start about once in thousands of starts.
_PORT_ATTEMPTS = 5


@dataclass
class Stack:
    """Two servers that answer. What ``external`` ones cannot do raises ``DevstackError``."""

    provider: str
    kafka_bootstrap: str
    elasticsearch_url: str
    kafka: Server
    elasticsearch: Server
    cleanup: Callable[[], None] | None = None

    def stop(self) -> None:
        """End both servers; a directory of our own making is removed. Safe to repeat."""
        with contextlib.ExitStack() as steps:  # each step is taken, whatever the one before it raises
            if self.cleanup is not None:
                steps.callback(self.cleanup)
            for server in (self.kafka, self.elasticsearch):
                # what is thrown away need not be flushed first
                steps.callback(server.kill if server.scratch else server.stop)


@contextmanager
def start_stack(
    directory: Path | None = None, provider: str | None = None, *, brief: bool = False
) -> Iterator[Stack]:
    """Servers for the length of the block; both answer when it begins.

    ``brief`` ones are for minutes of work: on this machine they start sooner, and never run at full speed.

    ``directory`` takes logs and data (None: a temporary one, removed at the end). As root, Elasticsearch runs
    as another user; where that one cannot enter ``directory``, its data lie in a temporary directory for the
    run. However this process ends, SIGKILL included, its servers end within a second or so.

    Raises ``DevstackError`` that says what to install or to set, or with a server's last log lines.
    """
    stack = open_stack(provider or choose_provider(), directory, brief=brief)
    try:
        yield stack
    finally:
        stack.stop()


def choose_provider(environment: Mapping[str, str] | None = None) -> str:
    """Which provider serves, see the module. Raises ``DevstackError`` on a ``STACK`` that is none of them."""
    values = os.environ if environment is None else environment
    chosen = values.get("STACK")
    if chosen:
        if chosen not in PROVIDERS:
            raise DevstackError(f"STACK={chosen} is not one of {', '.join(PROVIDERS)}")
        return chosen
    if values.get("KAFKA_BOOTSTRAP") and values.get("ELASTICSEARCH_URL"):
        return "external"
    return "maven" if containers.engine_problem() else "testcontainers"


def open_stack(
    provider: str,
    directory: Path | None = None,
    *,
    detached: bool = False,
    brief: bool = False,
    known: Mapping[str, Any] | None = None,
    kafka_settings: Mapping[str, str] | None = None,
) -> Stack:
    """Start a provider's servers and wait for both. ``detached`` ones outlive this process.

    ``known`` holds the ``describe()`` of each server of an earlier start: its ports are kept, and what still
    runs is left alone. ``kafka_settings`` replace those of Maven's broker.
    """
    if provider == "external":
        return external_stack()
    ports = {name: tuple(server["ports"]) for name, server in (known or {}).items()}
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        if provider == "testcontainers":
            stack = _container_stack(ports, known or {}, detached=detached)
        elif provider == "maven":
            stack = _maven_stack(
                directory, ports, detached=detached, brief=brief, kafka_settings=kafka_settings
            )
        else:
            raise DevstackError(f"the provider {provider} is not one of {', '.join(PROVIDERS)}")
        try:
            # both are started before either is waited for: they boot side by side
            stack.elasticsearch.start()
            stack.kafka.start()
            stack.kafka.wait_until_ready()
            stack.elasticsearch.wait_until_ready()
        except PortTakenError:
            stack.stop()
            if attempt == _PORT_ATTEMPTS:
                raise
            ports = {}
        except BaseException:
            stack.stop()
            raise
        else:
            return stack
    raise AssertionError("unreachable")


def external_stack(environment: Mapping[str, str] | None = None) -> Stack:
    """The servers that the environment names. Raises ``DevstackError`` unless both answer."""
    bootstrap, url = external.addresses(os.environ if environment is None else environment)
    stack = Stack("external", bootstrap, url, external.kafka(bootstrap), external.elasticsearch(url))
    stack.kafka.wait_until_ready()
    stack.elasticsearch.wait_until_ready()
    return stack


def _maven_stack(
    directory: Path | None,
    ports: Mapping[str, tuple[int, ...]],
    *,
    detached: bool,
    brief: bool,
    kafka_settings: Mapping[str, str] | None,
) -> Stack:
    java_home = find_java_home()
    java_options = local.BRIEF_OPTIONS if brief else ()
    distribution = install(cache_directory())
    ours = directory is None
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="mailstream-stack-"))
        directory.chmod(0o711)  # root's Elasticsearch is another user
    directory = directory.resolve()
    node_directory, node_ours = directory / "elasticsearch", ours
    if os.geteuid() == 0 and not local.enterable_by_others(node_directory):
        if detached:
            raise DevstackError(
                f"{directory} cannot be entered by the user nobody, as whom root's Elasticsearch runs:"
                " choose a directory that others may enter"
            )
        node_directory, node_ours = local.directory_for_others(), True

    def remove() -> None:
        for path, remove_it in ((node_directory, node_ours), (directory, ours)):
            if remove_it:
                shutil.rmtree(path, ignore_errors=True)

    try:
        node = local.elasticsearch_server(
            distribution,
            java_home,
            node_directory,
            ports.get("elasticsearch"),
            detached=detached,
            scratch=node_ours,
            java_options=java_options,
        )
        broker = local.kafka_server(
            distribution,
            java_home,
            directory / "kafka",
            ports.get("kafka"),
            detached=detached,
            scratch=ours,
            java_options=java_options,
            further_settings=kafka_settings,
        )
    except BaseException:
        remove()
        raise
    bootstrap, url = f"{local.HOST}:{broker.ports[0]}", f"http://{local.HOST}:{node.ports[0]}"
    return Stack("maven", bootstrap, url, broker, node, remove)


def _container_stack(
    ports: Mapping[str, tuple[int, ...]], known: Mapping[str, Any], *, detached: bool
) -> Stack:
    problem = containers.engine_problem()
    if problem:
        raise DevstackError(
            f"no container engine answers ({problem}): start one, or use STACK=maven, which needs none"
        )
    host = containers.host()
    (broker_port,) = ports.get("kafka") or local.free_ports(1)
    (node_port,) = ports.get("elasticsearch") or local.free_ports(1)
    broker = containers.kafka_server(host, broker_port, detached=detached)
    node = containers.elasticsearch_server(host, node_port, detached=detached)
    for name, server in (("kafka", broker), ("elasticsearch", node)):
        if name in ports:  # the same start as before, so the same containers
            server.adopt(known[name]["container"])
    return container_stack(f"{host}:{broker_port}", f"http://{host}:{node_port}", broker, node)


def container_stack(
    bootstrap: str, url: str, broker: containers.ContainerServer, node: containers.ContainerServer
) -> Stack:
    """Two containers as a stack, whose ``stop`` removes them with their data."""

    def remove() -> None:
        broker.remove()
        node.remove()

    return Stack("testcontainers", bootstrap, url, broker, node, remove)
