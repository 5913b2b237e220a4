"""Programs of the system that we start: a JDK, Maven, tesseract. Each is looked for, not assumed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# Elasticsearch 9 runs on 21 and later; Kafka 4 on 17 and later, so one JDK serves both.
MINIMUM_JAVA = 21

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
# Where Linux distributions, macOS and SDKMAN put their JDKs: a default ``java`` of 17 often has a newer one
# beside it.
_JDK_PATTERNS = (
    "/usr/lib/jvm/*",
    "/usr/lib64/jvm/*",
    "/usr/java/*",
    "/opt/*jdk*",
    "/opt/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "~/.sdkman/candidates/java/*",
)
_ASK_SECONDS = 30


class DevstackError(Exception):
    """The servers on this machine cannot be had. The message is for the person at the terminal."""


def find_java_home(minimum: int = MINIMUM_JAVA, environment: Mapping[str, str] | None = None) -> Path:
    """The home of a full JDK of at least this version: JAVA_HOME, then the PATH, then the usual folders.

    Raises ``DevstackError`` that names the package to install.
    """
    seen: set[Path] = set()
    found: list[int] = []
    for home in _java_homes(os.environ if environment is None else environment):
        if home in seen:
            continue
        seen.add(home)
        version = java_version(home)
        if version is None:
            continue
        if version >= minimum and (home / "bin" / "javac").exists():
            return home
        found.append(version)
    others = f" (found only: {', '.join(map(str, sorted(found)))})" if found else ""
    raise DevstackError(
        f"no JDK {minimum} or later{others}: install the package openjdk-{minimum}-jdk-headless or newer,"
        " or set JAVA_HOME"
    )


def java_version(home: Path) -> int | None:
    """The major version that this JDK's ``java`` says it is; None where there is no ``java`` that answers."""
    java = home / "bin" / "java"
    if not java.exists():
        return None
    try:
        answer = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def find_maven() -> Path:
    """The ``mvn`` on the PATH. Raises ``DevstackError`` that names the package to install."""
    return _on_path("mvn", "maven", "which downloads Kafka and Elasticsearch")


def find_tesseract() -> Path:
    """The ``tesseract`` on the PATH. Raises ``DevstackError`` that names the package to install."""
    return _on_path("tesseract", "tesseract-ocr", "which reads scans")


def find_clamd() -> Path:
    """The ``clamd`` on the PATH, or where it is kept for administrators. Raises ``DevstackError``."""
    return _on_path("clamd", "clamav-daemon", "which looks for malware", _administrators_path())


def find_dovecot() -> Path:
    """The ``dovecot`` on the PATH, or where it is kept for administrators. Raises ``DevstackError``."""
    return _on_path("dovecot", "dovecot-imapd", "an IMAP server", _administrators_path())


def _administrators_path() -> str:
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def _on_path(program: str, package: str, purpose: str, path: str | None = None) -> Path:
    found = shutil.which(program, path=path)
    if found is None:
        raise DevstackError(f"{program}, {purpose}, is missing: install the package {package}")
    return Path(found)


def _java_homes(environment: Mapping[str, str]) -> Iterator[Path]:
    if environment.get("JAVA_HOME"):
        yield Path(environment["JAVA_HOME"]).resolve()
    on_path = shutil.which("java", path=environment.get("PATH"))
    if on_path:
        yield Path(on_path).resolve().parent.parent
    for pattern in _JDK_PATTERNS:
        yield from _newest_first(_glob(pattern))


def _glob(pattern: str) -> Iterable[Path]:
    path = Path(pattern).expanduser()
    return (home.resolve() for home in Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _newest_first(homes: Iterable[Path]) -> list[Path]:
    def numbers(home: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", home.name)]

    return sorted(homes, key=numbers, reverse=True)
