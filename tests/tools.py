"""Programs that tests call and that come as Go modules: built once a user and version, into the cache.

``python -m tests.tools`` builds what is missing; ``make test-full`` does so first. It takes minutes, so
``make test`` leaves out the tests with the mark ``full``, which call them.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devstack.maven import cache_directory, locked

_BUILD_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Tool:
    """A main package of a Go module. The version is part of the cache's name: another pin is another file."""

    package: str
    version: str
    name: str


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0", "kubeconform"),
        Tool("github.com/docker/compose/v2/cmd", "v2.40.3", "docker-compose"),
    )
}


def tool(name: str) -> Path:
    """The program, built where the cache lacks it. Raises RuntimeError that says what is missing."""
    wanted = TOOLS[name]
    directory = cache_directory() / "tools"
    program = directory / f"{wanted.name}-{wanted.version}"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory / f"{wanted.name}.lock"):
            if not program.exists():  # the process before us may have built it
                _build(wanted, program)
    return program


def _build(wanted: Tool, program: Path) -> None:
    sys.stderr.write(f"building {wanted.name}, which takes minutes\n")
    with tempfile.TemporaryDirectory(dir=program.parent, prefix="unfinished-") as directory:
        built = Path(directory) / wanted.name
        # Within a module of our own: `go install` refuses modules that exclude some version of another.
        for command in (
            ("mod", "init", "tools"),
            ("get", f"{wanted.package}@{wanted.version}"),
            ("build", "-trimpath", "-ldflags=-s -w", "-o", str(built), wanted.package),
        ):
            _go(wanted.name, directory, *command)
        built.replace(program)


def _go(name: str, directory: str, *arguments: str) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    try:
        subprocess.run(
            ["go", *arguments],
            cwd=directory,
            env=environment,
            timeout=_BUILD_SECONDS,
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"{name} is built with Go (1.24 or newer), which is missing") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{name} was not built: {error.stderr[-500:]}") from error


if __name__ == "__main__":
    for known in TOOLS:
        sys.stdout.write(f"{tool(known)}\n")
