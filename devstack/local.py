"""The Maven provider's servers: how Kafka and Elasticsearch are set up on this machine, loopback only."""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from devstack.maven import Distribution
from devstack.probes import elasticsearch_answers, kafka_answers
from devstack.programs import DevstackError
from devstack.servers import LocalServer, handed_on

HOST = "127.0.0.1"
# Below the range from which the kernel gives ports to outgoing connections (32768 and up), so that a server
# that is down for a moment finds its port free when it comes back.
PORTS = range(20_000, 32_000)

_FORMAT_SECONDS = 120
_PORTS_KAFKA = 2
_PORTS_ELASTICSEARCH = 2

# for every provider's broker
KAFKA_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    # topics are created with their settings or not at all
    "auto.create.topics.enable": "false",
    # a record of 16 MiB and its headers
    "message.max.bytes": "17825792",
    "replica.fetch.max.bytes": "17825792",
    # one broker
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # few partitions: the first consumer group waits for their creation
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    # a killed broker's registration bars its successor for this long (9 s by default)
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    # so that compaction and retention are seen within a test
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "33554432",
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "5000",
}
# for every provider's node
ELASTICSEARCH_SETTINGS = {
    "cluster.name": "mailstream",
    "node.name": "devstack",
    "discovery.type": "single-node",
    "xpack.security.enabled": "false",
    # a developer's disk is often nearly full
    "cluster.routing.allocation.disk.threshold_enabled": "false",
}
# What the tests and a sample mailbox need, with room: Kafka's buffers hold several records of 16 MiB.
KAFKA_HEAP = ("-Xms256m", "-Xmx512m")
ELASTICSEARCH_HEAP = ("-Xms1g", "-Xmx1g")
# Half the processor time until both answer (30 s to 16 s on two cores): what compiles longer to run faster
# pays after minutes only.
BRIEF_OPTIONS = ("-XX:TieredStopAtLevel=1",)

_LOG4J2_PROPERTIES = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""

# not taken over from the distribution: logs and heap dumps that nobody would look for
_JVM_OPTIONS_LEFT_OUT = re.compile(r"^.*(-Xlog:gc|HeapDumpOnOutOfMemory).*$", re.MULTILINE)


def kafka_server(
    distribution: Distribution,
    java_home: Path,
    directory: Path,
    ports: tuple[int, ...] | None,
    *,
    detached: bool,
    scratch: bool,
    java_options: tuple[str, ...] = (),
    further_settings: Mapping[str, str] | None = None,
    format_options: tuple[str, ...] = (),
) -> LocalServer:
    """A Kafka broker and controller in this directory, not started. Formats its storage the first time.

    ``ports`` None: two free ones. ``further_settings`` replace ours, with further listeners for instance, and
    ``format_options`` are StorageTool's (``--add-scram``: users of such a listener). Raises ``DevstackError``
    when the storage cannot be formatted.
    """
    broker, controller = ports or free_ports(_PORTS_KAFKA)
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data"
    properties = directory / "server.properties"
    settings = {
        **KAFKA_SETTINGS,
        "listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "log.dirs": str(data),
        **(further_settings or {}),
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = [
        str(java_home / "bin" / "java"),
        *KAFKA_HEAP,
        *java_options,
        "-XX:+ExitOnOutOfMemoryError",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-cp",
        f"{distribution.kafka_libraries}/*",
    ]
    if not (data / "meta.properties").exists():
        storage = ("kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", str(properties))
        _run([*java, *storage, *format_options])
    bootstrap = f"{HOST}:{broker}"
    return LocalServer(
        name="Kafka",
        directory=directory,
        command=[*java, "kafka.Kafka", str(properties)],
        answers=partial(kafka_answers, bootstrap),
        environment=handed_on(),
        ports=(broker, controller),
        detached=detached,
        scratch=scratch,
    )


def elasticsearch_server(
    distribution: Distribution,
    java_home: Path,
    directory: Path,
    ports: tuple[int, ...] | None,
    *,
    detached: bool,
    scratch: bool,
    java_options: tuple[str, ...] = (),
) -> LocalServer:
    """An Elasticsearch node in this directory, not started.

    It refuses to run as root, so root's runs as ``nobody``, who must be able to enter the directory.
    """
    http, transport = ports or free_ports(_PORTS_ELASTICSEARCH)
    directory.mkdir(parents=True, exist_ok=True)
    configuration, data, logs, temporary = (directory / name for name in ("config", "data", "logs", "tmp"))
    for folder in (data, logs, temporary):
        folder.mkdir(exist_ok=True)
    if not configuration.exists():
        shutil.copytree(distribution.elasticsearch_home / "config", configuration)
    settings = {
        **ELASTICSEARCH_SETTINGS,
        "network.host": HOST,
        "http.port": http,
        "transport.port": transport,
        "path.data": str(data),
        "path.logs": str(logs),
    }
    # JSON is YAML, and quotes what a path may hold
    (configuration / "elasticsearch.yml").write_text(json.dumps(settings, indent=2))
    (configuration / "log4j2.properties").write_text(_LOG4J2_PROPERTIES)
    jvm_options = configuration / "jvm.options"
    jvm_options.write_text(_JVM_OPTIONS_LEFT_OUT.sub("", jvm_options.read_text()))
    pid_file = directory / "elasticsearch.pid"
    return LocalServer(
        name="Elasticsearch",
        directory=directory,
        command=[str(distribution.elasticsearch_home / "bin" / "elasticsearch"), "-p", str(pid_file)],
        answers=partial(elasticsearch_answers, f"http://{HOST}:{http}"),
        environment={
            **handed_on(),
            "ES_JAVA_HOME": str(java_home),
            "ES_JAVA_OPTS": " ".join((*ELASTICSEARCH_HEAP, *java_options)),
            "ES_PATH_CONF": str(configuration),
            "ES_TMPDIR": str(temporary),
        },
        identity=as_nobody(directory) if os.geteuid() == 0 else {},
        pid_file=pid_file,
        ports=(http, transport),
        detached=detached,
        scratch=scratch,
    )


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback interface on which nobody listens now. Raises ``DevstackError`` if none is."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return tuple(found)
    raise DevstackError(f"no free port between {PORTS.start} and {PORTS.stop} on {HOST}")


def enterable_by_others(directory: Path) -> bool:
    """Whether a user who owns nothing here can get to this directory's files."""
    return all(path.stat().st_mode & 0o001 for path in directory.resolve().parents if path.exists())


def directory_for_others() -> Path:
    """A new directory that such a user can get to."""
    for parent in (tempfile.gettempdir(), "/var/tmp", "/tmp"):  # noqa: S108 - a new one of our own, 0700
        if Path(parent).is_dir() and enterable_by_others(Path(parent) / "any"):
            return Path(tempfile.mkdtemp(prefix="mailstream-elasticsearch-", dir=parent))
    raise DevstackError("no temporary directory that other users can enter: set TMPDIR to one")


def as_nobody(directory: Path) -> dict[str, Any]:
    """Gives a directory to a user who owns nothing else; returns how Popen becomes that user."""
    try:
        user = pwd.getpwnam("nobody")
        uid, gid = user.pw_uid, user.pw_gid
    except KeyError:
        uid = gid = 65534
    for path in (directory, *directory.rglob("*")):
        os.chown(path, uid, gid)
    return {"user": uid, "group": gid, "extra_groups": []}


def _run(command: list[str]) -> None:
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FORMAT_SECONDS,
        check=False,
    )
    if result.returncode:
        raise DevstackError(
            "Kafka's storage could not be formatted:\n" + (result.stderr + result.stdout)[-1500:]
        )
