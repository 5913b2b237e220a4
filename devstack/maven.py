"""Kafka and Elasticsearch from Maven Central: fetched once a user, checked by hash, started as processes."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.programs import DevstackError, find_jdk, find_maven

KAFKA_VERSION = "4.1.0"
ELASTICSEARCH_VERSION = "9.3.2"
# Of the sorted lines "<sha256>  <file name>" of Kafka's jars, and of the Elasticsearch archive.
KAFKA_SHA256 = "abc74d9c872611b642837999891ba670e06c717e2bc191c04acf4b88b0c74d9c"
ELASTICSEARCH_SHA256 = "99b5b540c8d3a5c53cbe1e4f35c46acefff59131760ddc330a7616cd319086f1"
_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"

START_SECONDS = 120.0
STOP_SECONDS = 20.0
LOG_LINE_CHARACTERS = 300
# What an unprivileged Elasticsearch runs as when we are root; every Unix has it.
UNPRIVILEGED_USER = "nobody"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>mailstream</groupId><artifactId>devstack</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
  </dependency></dependencies>
</project>
"""


def cache_directory() -> Path:
    """Where the servers are kept. Root keeps them where Elasticsearch, which is not root, can read them."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mailstream"
    return Path("/var/cache/mailstream") if os.geteuid() == 0 else Path.home() / ".cache" / "mailstream"


def kafka_home() -> Path:
    """The directory of Kafka's jars, fetched when it is missing. Raises DevstackError."""

    def fetch(directory: Path) -> None:
        pom = directory / "pom.xml"
        pom.write_text(_POM.format(version=KAFKA_VERSION))
        _maven(["-f", str(pom), f"{_DEPENDENCY_PLUGIN}:copy-dependencies", f"-DoutputDirectory={directory}"])
        pom.unlink()
        lines = sorted(f"{_sha256(jar)}  {jar.name}\n" for jar in directory.iterdir())
        _verify("Kafka", hashlib.sha256("".join(lines).encode()).hexdigest(), KAFKA_SHA256)

    return _installed(f"kafka-{KAFKA_VERSION}", fetch)


def elasticsearch_home() -> Path:
    """The unpacked Elasticsearch, fetched when it is missing. Raises DevstackError."""

    def fetch(directory: Path) -> None:
        artifact = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{ELASTICSEARCH_VERSION}:zip"
        _maven([f"{_DEPENDENCY_PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={directory}"])
        [archive] = directory.glob("*.zip")
        _verify("Elasticsearch", _sha256(archive), ELASTICSEARCH_SHA256)
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(directory)
        archive.unlink()
        [unpacked] = directory.iterdir()
        for path in list(unpacked.iterdir()):
            path.rename(directory / path.name)
        unpacked.rmdir()
        for script in (directory / "bin").iterdir():
            script.chmod(0o755)

    return _installed(f"elasticsearch-{ELASTICSEARCH_VERSION}", fetch)


def _installed(name: str, fetch: Callable[[Path], None]) -> Path:
    """``name`` in the cache; two processes that miss it at once fetch it once."""
    home = cache_directory() / name
    if home.exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=home.parent, prefix=f"{name}.") as directory:
                fetched = Path(directory) / "fetched"
                fetched.mkdir(mode=0o755)
                fetch(fetched)
                fetched.rename(home)
    return home


def _maven(arguments: list[str]) -> None:
    command = [find_maven(), "-q", "-B", *arguments]
    answer = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "JAVA_HOME": str(find_jdk())}
    )
    if answer.returncode:
        reason = next((line for line in answer.stdout.splitlines() if "ERROR" in line), answer.stderr[-300:])
        raise DevstackError(f"Maven could not fetch a server (is there a network?): {reason}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(name: str, got: str, expected: str) -> None:
    if got != expected:
        raise DevstackError(f"{name} arrived with the checksum {got}, expected {expected}: not used")


@dataclass
class Server:
    """One server process on fixed ports and data, so that it can be killed and started again."""

    name: str
    command: list[str]
    environment: dict[str, str]
    directory: Path
    ready: Callable[[], bool]
    user: str | None = None
    detached: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where it writes what it has to say."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def start(self) -> None:
        """Start the process. Call it from a thread that lives as long as the server should."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
                preexec_fn=None if self.detached else _die_with_parent,
            )

    def wait_until_ready(self) -> None:
        """Raises DevstackError with the last log lines when it does not come up."""
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.pid is None or time.monotonic() > deadline:
                self.stop()
                raise DevstackError(f"{self.name} did not start:\n{self.log_tail()}")
            time.sleep(0.2)

    def signal(self, sent: signal.Signals) -> None:
        """Send a signal to the process and everything it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sent)

    def stop(self) -> None:
        """End it: politely, then not."""
        if self.process is None:
            return
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.signal(signal.SIGKILL)
        self.process.wait()

    def kill(self) -> None:
        """SIGKILL, as a machine that loses its power."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(line[:LOG_LINE_CHARACTERS] for line in text.splitlines()[-lines:])


def _die_with_parent() -> None:
    # Also after a SIGKILL of the parent no server stays behind (prctl(PR_SET_PDEATHSIG, SIGKILL)).
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, on the loopback interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


def kafka_server(directory: Path, ready: Callable[[str], bool], *, detached: bool) -> tuple[Server, str]:
    """A single-node Kafka in KRaft mode, formatted and not yet started, and its bootstrap address."""
    home, java = kafka_home(), find_jdk() / "bin" / "java"
    directory.mkdir(parents=True, exist_ok=True)
    broker, controller = free_ports(2)
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": directory / "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 5,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.num.partitions": 5,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "message.max.bytes": 32 * 1024 * 1024,
        "socket.request.max.bytes": 128 * 1024 * 1024,
    }
    config = directory / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    classpath = ["-cp", f"{home}/*"]
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    formatted = subprocess.run(
        [java, *classpath, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config],
        capture_output=True,
        text=True,
    )
    if formatted.returncode:
        raise DevstackError(f"Kafka could not format its storage: {formatted.stderr.strip()[-300:]}")
    bootstrap = f"127.0.0.1:{broker}"
    server = Server(
        "kafka",
        [str(java), "-Xmx512m", *classpath, "kafka.Kafka", str(config)],
        {},
        directory,
        lambda: ready(bootstrap),
        detached=detached,
    )
    return server, bootstrap


def elasticsearch_server(
    directory: Path, ready: Callable[[str], bool], *, detached: bool
) -> tuple[Server, str]:
    """A single-node Elasticsearch, not yet started, and its address."""
    home = elasticsearch_home()
    config, data, logs, temporary = (directory / name for name in ("config", "data", "logs", "tmp"))
    for path in (directory, config, data, logs, temporary):
        path.mkdir(parents=True, exist_ok=True)
    [port, transport] = free_ports(2)
    (config / "elasticsearch.yml").write_text(
        "discovery.type: single-node\n"
        "network.host: 127.0.0.1\n"
        f"http.port: {port}\n"
        f"transport.port: {transport}\n"
        f"path.data: {data}\n"
        f"path.logs: {logs}\n"
        "xpack.security.enabled: false\n"
        # A full disk of the developer's is no reason to refuse a test's documents.
        "cluster.routing.allocation.disk.threshold_enabled: false\n"
    )
    # Elasticsearch refuses a temporary directory that its configuration lies under, as /tmp would be here.
    (config / "jvm.options").write_text(
        f"-Xms768m\n-Xmx768m\n-XX:+UseG1GC\n-Djava.io.tmpdir={temporary}\n"
    )
    shutil.copy(home / "config" / "log4j2.properties", config)
    user = None
    if os.geteuid() == 0:
        user = UNPRIVILEGED_USER  # Elasticsearch refuses to be root
        for path in (directory, *directory.rglob("*")):
            shutil.chown(path, user)
    url = f"http://127.0.0.1:{port}"
    server = Server(
        "elasticsearch",
        [str(home / "bin" / "elasticsearch")],
        {"ES_JAVA_HOME": str(find_jdk()), "ES_PATH_CONF": str(config)},
        directory,
        lambda: ready(url),
        user=user,
        detached=detached,
    )
    return server, url


@contextlib.contextmanager
def reachable_directory() -> Iterator[Path]:
    """A directory that another user can be let into: pytest's and the demo's own are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="mailstream-stack-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
