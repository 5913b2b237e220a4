"""Programs that tests call and that come as Go modules: built once a user and version, into the cache.

``python -m tests.tools`` builds what is missing; ``make test`` does so first, because it takes minutes.
"""

import os
import subprocess
import sys
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
        Tool("helm.sh/helm/v3/cmd/helm", "v3.22.0", "helm"),
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
    unfinished = program.with_name(f"{program.name}.d")
    command = ["go", "install", "-trimpath", "-ldflags=-s -w", f"{wanted.package}@{wanted.version}"]
    # The module's own sums are checked by go, against its lock in the module above us.
    environment = {**os.environ, "GOBIN": str(unfinished), "CGO_ENABLED": "0"}
    try:
        subprocess.run(
            command, env=environment, timeout=_BUILD_SECONDS, check=True, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"{wanted.name} is built with Go (1.24 or newer), which is missing") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{wanted.name} was not built: {error.stderr[-500:]}") from error
    [built] = unfinished.iterdir()
    built.replace(program)
    unfinished.rmdir()


if __name__ == "__main__":
    for known in TOOLS:
        sys.stdout.write(f"{tool(known)}\n")
