"""Apicurio Registry, a real registry with Confluent's API, from Maven Central; kept in the user's cache.

Confluent's own and Karapace are on none of the registries of packages. Downloading takes 160 MB once, a start
about 15 s; it keeps its schemas in memory.
"""

import hashlib
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.local import free_ports
from devstack.maven import cache_directory, locked
from devstack.programs import find_java_home, find_maven
from devstack.servers import LocalServer

VERSION = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
MINIMUM_JAVA = 21
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_DOWNLOAD_SECONDS = 1800


def installed() -> Path:
    """The folder with ``quarkus-run.jar``. Raises RuntimeError where it cannot be had, or is another file."""
    home = cache_directory() / "tools" / f"apicurio-registry-{VERSION}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked(home.parent / "apicurio.lock"):
            if not home.exists():  # the process before us may have done it
                _install(home)
    return home


def _install(home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="unfinished-") as directory:
        for goal, *options in (
            ("get", f"-Dartifact={_ARTIFACT}", "-Dtransitive=false"),
            ("copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={directory}"),
        ):
            subprocess.run(
                [str(find_maven()), "-B", "-q", f"{_PLUGIN}:{goal}", *options],
                cwd=directory,
                timeout=_DOWNLOAD_SECONDS,
                check=True,
            )
        [archive] = Path(directory).glob("*.tar.gz")
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            raise RuntimeError(f"{archive.name} has sha256 {found}, expected {SHA256}")
        built = Path(directory) / "built"
        with tarfile.open(archive) as packed:
            packed.extractall(built, filter="data")
        built.rename(home)


@contextmanager
def apicurio(directory: Path) -> Iterator[str]:
    """An empty registry; gives the address of its Confluent-compatible API."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    server = LocalServer(
        name="Apicurio",
        directory=directory,
        command=[
            *(str(find_java_home(MINIMUM_JAVA) / "bin" / "java"), "-Xmx384m", "-XX:TieredStopAtLevel=1"),
            *(f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1"),
            *("-Dquarkus.management.enabled=false", "-jar", str(installed() / "quarkus-run.jar")),
        ],
        answers=lambda: _answers(url),
        ports=(port,),
    )
    server.start()
    try:
        server.wait_until_ready()
        yield url
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
