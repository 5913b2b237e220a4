"""A Tika server of Maven Central: what the extraction benchmark measures against."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.maven import cache_directory, locked
from devstack.programs import DevstackError, find_java_home, find_maven

VERSION = "3.3.2"
_SHA256 = "cdbe7fde72583dec8528f9c0ed962cacb7f6624f9900b1f733df638410f77540"
# The newest of this plugin that takes a jar without its parent's POM, which not every mirror has.
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.10:copy"
_START_SECONDS = 120.0
_FILE_SECONDS = 900.0


def install() -> Path:
    """The server's jar, downloaded and verified once a user. Raises ``DevstackError``."""
    jar = cache_directory() / f"tika-server-standard-{VERSION}.jar"
    jar.parent.mkdir(parents=True, exist_ok=True)
    with locked(jar.with_suffix(".lock")):
        if not jar.exists():
            _download(jar)
    return jar


def _download(jar: Path) -> None:
    artifact = f"org.apache.tika:tika-server-standard:{VERSION}"
    with tempfile.TemporaryDirectory(dir=jar.parent, prefix="unfinished-") as directory:
        command = [str(find_maven()), "-B", "-q", _PLUGIN, f"-Dartifact={artifact}"]
        ended = subprocess.run(
            [*command, f"-DoutputDirectory={directory}"], capture_output=True, text=True, check=False
        )
        found = Path(directory) / jar.name
        if ended.returncode or not found.exists():
            raise DevstackError(f"mvn could not download {artifact}:\n{ended.stdout[-1000:]}")
        with found.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != _SHA256:
            raise DevstackError(f"{jar.name}: expected sha256 {_SHA256}, got {digest}")
        shutil.move(found, jar)


@dataclass(frozen=True, slots=True)
class TikaProcess:
    """A running server."""

    address: str
    pid: int


@contextlib.contextmanager
def server(*, ocr: bool = True) -> Iterator[TikaProcess]:
    """A running server. It uses tesseract where that is on the PATH, and without ``ocr`` finds none."""
    java, jar = find_java_home() / "bin" / "java", install()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tika-") as directory:
        with (Path(directory) / "tika.log").open("wb") as log:
            process = subprocess.Popen(
                [str(java), "-Xmx1g", "-jar", str(jar), "--host", "127.0.0.1", "--port", str(port)],
                cwd=directory,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it forks the process that parses
                env=os.environ if ocr else {**os.environ, "PATH": str(java.parent)},
            )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(process, address)
            yield TikaProcess(address, process.pid)
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/version", timeout=5):
            return
        time.sleep(0.5)
    raise DevstackError("the Tika server does not start")


def read_text(address: str, payload: bytes, filename: str) -> str:
    """What Tika reads, embedded documents included; empty where it reads nothing."""
    return ask(address, payload, filename)[0]


def ask(address: str, payload: bytes, filename: str) -> tuple[str, str]:
    """What Tika reads, embedded documents included, and why it did not (empty where it did). It is told the
    name, as it would be of a file. A server that restarts itself after a bad file is waited for."""
    name = urllib.request.quote(filename)  # type: ignore[attr-defined]
    headers = {
        "Accept": "text/plain",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
    }
    request = urllib.request.Request(f"{address}/tika", data=payload, headers=headers, method="PUT")
    for attempt in range(3):
        try:
            with urllib.request.urlopen(request, timeout=_FILE_SECONDS) as answer:
                return str(answer.read().decode("utf-8", "replace")), ""
        except urllib.error.HTTPError as error:
            if error.code in (422, 500):  # it cannot read this
                return "", f"HTTP {error.code}"
            if error.code != 503:
                raise
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(10 * (attempt + 1))
    return "", "no answer"
