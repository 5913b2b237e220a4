"""A stack that outlives the command that started it: ``up``, ``status`` and ``down``, told apart by name.

What is known of it stands in ``state.json`` in its directory; whether a server runs is asked of the server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from devstack import containers, external
from devstack.maven import locked
from devstack.probes import elasticsearch_answers, kafka_answers
from devstack.programs import DevstackError
from devstack.servers import LocalServer, Server
from devstack.stack import Stack, choose_provider, container_stack, open_stack

_STATE = "state.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Status:
    """A stack as it is now. The addresses are None when there is none of that name."""

    name: str
    directory: Path
    running: bool  # both servers answer
    provider: str | None = None
    kafka_bootstrap: str | None = None
    elasticsearch_url: str | None = None
    kafka_pid: int | None = None
    elasticsearch_pid: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as an object of JSON."""
        return {
            "name": self.name,
            "directory": str(self.directory),
            "running": self.running,
            "provider": self.provider,
            "kafka_bootstrap": self.kafka_bootstrap,
            "elasticsearch_url": self.elasticsearch_url,
            "kafka_pid": self.kafka_pid,
            "elasticsearch_pid": self.elasticsearch_pid,
        }


def state_directory() -> Path:
    """This user's state (XDG_STATE_HOME). For root, whose home others may not enter, the system's."""
    chosen = os.environ.get("XDG_STATE_HOME")
    if os.geteuid() == 0 and not chosen:
        return Path("/var/lib/mailstream/devstack")
    return (Path(chosen) if chosen else Path.home() / ".local" / "state") / "mailstream" / "devstack"


def up(name: str, base: Path) -> Status:
    """Start the stack of this name, or what is missing of it; return when both servers answer.

    Safe to repeat, and in two processes at once. Addresses and data of an earlier start are kept where that
    is possible. Raises ``DevstackError``; what this call started is ended then.
    """
    directory = _directory(name, base)
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / "up.lock"):
        now = status(name, base)
        if now.running:
            return now
        state = _read(directory)
        # a stack stays with the provider that has its data
        provider = state["provider"] if state else choose_provider()
        known = {server: state[server] for server in ("kafka", "elasticsearch")} if state else None
        stack = open_stack(provider, directory, detached=True, known=known)
        try:
            _write(directory, stack)
        except BaseException:
            stack.stop()
            raise
    return status(name, base)


def status(name: str, base: Path) -> Status:
    """How the stack of this name is now. Raises ``DevstackError`` on a name that cannot be one."""
    directory = _directory(name, base)
    state = _read(directory)
    if state is None:
        return Status(name, directory, running=False)
    stack = _attach(state)
    running = kafka_answers(stack.kafka_bootstrap) and elasticsearch_answers(stack.elasticsearch_url)
    return Status(
        name,
        directory,
        running,
        stack.provider,
        stack.kafka_bootstrap,
        stack.elasticsearch_url,
        stack.kafka.pid,
        stack.elasticsearch.pid,
    )


def down(name: str, base: Path, *, remove: bool = False) -> bool:
    """End the stack of this name; its data stay unless ``remove``. Safe to repeat.

    Returns whether there was one. Containers go with their data, external servers stay as they are.
    """
    directory = _directory(name, base)
    if not directory.exists():
        return False
    with locked(directory / "up.lock"):
        state = _read(directory)
        was_there = False
        if state is not None:
            stack = _attach(state)
            was_there = any(_is_there(server) for server in (stack.kafka, stack.elasticsearch))
            stack.stop()
            if stack.provider != "maven":
                (directory / _STATE).unlink()  # nothing to come back to
    if remove:
        shutil.rmtree(directory, ignore_errors=True)
    return was_there


def _is_there(server: Server) -> bool:
    if isinstance(server, LocalServer):
        return server.running
    return isinstance(server, external.ExternalServer) or server.describe()["container"] is not None


def _directory(name: str, base: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise DevstackError(f"{name!r} is no name for a stack: use letters, digits, '.', '_' and '-'")
    return base.resolve() / name


def _read(directory: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((directory / _STATE).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DevstackError(f"{directory / _STATE} is damaged: remove it and end its servers") from error
    return state


def _write(directory: Path, stack: Stack) -> None:
    unfinished = directory / f"{_STATE}.new"
    unfinished.write_text(
        json.dumps(
            {
                "provider": stack.provider,
                "kafka_bootstrap": stack.kafka_bootstrap,
                "elasticsearch_url": stack.elasticsearch_url,
                "kafka": stack.kafka.describe(),
                "elasticsearch": stack.elasticsearch.describe(),
            }
        )
    )
    unfinished.chmod(0o600)  # an external address may hold a password
    unfinished.rename(directory / _STATE)


def _attach(state: dict[str, Any]) -> Stack:
    """The running servers of another process: to look at, to stop and to kill, not to start."""
    bootstrap, url = state["kafka_bootstrap"], state["elasticsearch_url"]
    if state["provider"] == "maven":
        home = Path(state["elasticsearch"]["directory"])
        broker = LocalServer(
            "Kafka", Path(state["kafka"]["directory"]), [], partial(kafka_answers, bootstrap), detached=True
        )
        node = LocalServer(
            "Elasticsearch",
            home,
            [],
            partial(elasticsearch_answers, url),
            pid_file=home / "elasticsearch.pid",
            detached=True,
        )
        return Stack("maven", bootstrap, url, broker, node)
    if state["provider"] == "testcontainers":
        host, _, port = bootstrap.rpartition(":")
        kafka = containers.kafka_server(host, int(port), detached=True)
        elasticsearch = containers.elasticsearch_server(
            host, state["elasticsearch"]["ports"][0], detached=True
        )
        for server, known in ((kafka, state["kafka"]), (elasticsearch, state["elasticsearch"])):
            server.adopt(known["container"])
        return container_stack(bootstrap, url, kafka, elasticsearch)
    return Stack("external", bootstrap, url, external.kafka(bootstrap), external.elasticsearch(url))
