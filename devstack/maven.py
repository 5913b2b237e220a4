"""The Maven provider's downloads: real Kafka and Elasticsearch, verified, cached once per user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from devstack.checksums import SHA256
from devstack.programs import DevstackError, find_maven

KAFKA_VERSION = "4.1.0"
# The newest that is published there in this form, the server's own integration-test distribution.
ELASTICSEARCH_VERSION = "9.5.0"
_SLF4J_VERSION = "1.7.36"  # of the slf4j-api that Kafka 4.1 brings: without a binding it would log nothing
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION, "jar"),
    ("org.slf4j", "slf4j-simple", _SLF4J_VERSION, "jar"),
    ("org.elasticsearch.distribution.integ-test-zip", "elasticsearch", ELASTICSEARCH_VERSION, "zip"),
)
# 170 MB; an hour of a slow line is not an error, a line that is dead is.
_DOWNLOAD_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where the programs lie: Kafka's jars, and the unpacked Elasticsearch."""

    kafka_libraries: Path
    elasticsearch_home: Path


def install(cache: Path) -> Distribution:
    """Download, verify and unpack what the cache lacks. Safe to repeat, and in two processes at once.

    Raises ``DevstackError`` on a missing ``mvn``, a failed download, or a checksum that is not the pinned
    one; the cache is unchanged then.
    """
    # the checksums are part of the name: another pin is another folder
    pins = hashlib.sha256(repr(sorted(SHA256.items())).encode()).hexdigest()[:12]
    home = cache / f"kafka-{KAFKA_VERSION}-elasticsearch-{ELASTICSEARCH_VERSION}-{pins}"
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "install.lock"):
            if not home.exists():  # the process before us may have done it
                _install(cache, home)
    return Distribution(home / "kafka", home / "elasticsearch")


def _install(cache: Path, home: Path) -> None:
    maven = find_maven()
    with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as unfinished:
        downloads = Path(unfinished) / "downloads"
        _download(maven, downloads)
        verify(downloads)
        built = Path(unfinished) / "built"
        built.mkdir()
        archive = next(downloads.glob("*.zip"))
        _unzip(archive, built / "elasticsearch")
        archive.unlink()
        downloads.rename(built / "kafka")
        # as root, Elasticsearch runs as another user, who must be able to read this
        for path in (built, *built.rglob("*")):
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
        built.rename(home)


def _download(maven: Path, downloads: Path) -> None:
    pom = downloads.with_name("pom.xml")
    pom.write_text(_pom())
    log = downloads.with_name("maven.log")
    with log.open("wb") as output:
        command = [str(maven), "-B", "-q", "-f", str(pom), _PLUGIN, f"-DoutputDirectory={downloads}"]
        try:
            subprocess.run(
                [*command, "-DincludeScope=runtime"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=_DOWNLOAD_SECONDS,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            reasons = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line]
            raise DevstackError(
                "mvn could not download Kafka and Elasticsearch (is this machine online?):\n"
                + "\n".join(reasons[:3])
            ) from error


def verify(downloads: Path) -> None:
    """Compare every file with its pinned checksum. Raises ``DevstackError`` that lists what differs."""
    found = {path.name: _sha256(path) for path in sorted(downloads.iterdir())}
    wrong = [
        f"{name}: expected sha256 {SHA256.get(name, 'of no such file')}, got {found.get(name, 'no file')}"
        for name in sorted(SHA256.keys() | found.keys())
        if SHA256.get(name) != found.get(name)
    ]
    if wrong:
        raise DevstackError(
            "downloaded files are not the pinned ones, nothing was installed (a damaged copy may lie in"
            " Maven's own local repository: delete it there and try again):\n" + "\n".join(wrong)
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unzip(archive: Path, destination: Path) -> None:
    unpacked = destination.with_name("unpacked")
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(unpacked)  # verified above
        for entry in zipped.infolist():
            mode = entry.external_attr >> 16  # extractall drops it, and bin/ needs it
            if mode:
                (unpacked / entry.filename).chmod(mode & 0o777)
    (top,) = unpacked.iterdir()
    top.rename(destination)
    shutil.rmtree(unpacked)


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId>"
        f"<version>{version}</version><type>{kind}</type></dependency>"
        for group, artifact, version, kind in _ARTIFACTS
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>mailstream</groupId><artifactId>devstack</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>\n"
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; waits for the process that has it. The kernel frees it when a process dies."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cache_directory() -> Path:
    """This user's cache (XDG_CACHE_HOME). For root, whose home others may not enter, the system's."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if os.geteuid() == 0 and not chosen:
        return Path("/var/cache/mailstream")
    return (Path(chosen) if chosen else Path.home() / ".cache") / "mailstream"
