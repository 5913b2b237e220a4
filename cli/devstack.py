"""``mailstream devstack``: Kafka and Elasticsearch on this machine, for as long as one wants them."""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from devstack.programs import DevstackError
from devstack.stack import elasticsearch_ready, kafka_ready, start_processes

STOP_SECONDS = 20.0
_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=lambda: Path(tempfile.gettempdir()) / f"mailstream-devstack-{os.getuid()}",
    show_default="one a user",
    help="Where the servers keep their data; another one is another stack.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def devstack() -> None:
    """Start and stop a real Kafka and a real Elasticsearch here.

    Example: mailstream devstack up
    """


@devstack.command()
@_directory
@_json
def up(directory: Path, as_json: bool) -> None:
    """Start the servers and leave them running. Does nothing when they run already.

    Example: eval "$(mailstream devstack up)"
    """
    state = _state(directory)
    if state is None or not _answers(state):
        if state is not None:
            _end(state)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o755)
        try:
            stack = start_processes(directory, detached=True)
        except DevstackError as error:
            raise click.ClickException(str(error)) from error
        state = {
            "kafka_bootstrap": stack.kafka_bootstrap,
            "elasticsearch_url": stack.elasticsearch_url,
            "pids": [server.pid for server in stack.servers.values()],
        }
        (directory / "state.json").write_text(json.dumps(state))
    if as_json:
        click.echo(json.dumps(state))
    else:
        click.echo(f"export KAFKA_BOOTSTRAP={state['kafka_bootstrap']}")
        click.echo(f"export ELASTICSEARCH_URL={state['elasticsearch_url']}")


@devstack.command()
@_directory
def down(directory: Path) -> None:
    """Stop the servers and remove their data. Does nothing when none run.

    Example: mailstream devstack down
    """
    state = _state(directory)
    if state is None:
        click.echo("nothing is running")
        return
    _end(state)
    shutil.rmtree(directory, ignore_errors=True)
    click.echo("stopped")


@devstack.command()
@_directory
@_json
def status(directory: Path, as_json: bool) -> None:
    """Say whether the servers run, and where. Exit code 1 when they do not.

    Example: mailstream devstack status --json
    """
    state = _state(directory)
    running = state is not None and _answers(state)
    if as_json:
        click.echo(json.dumps({"running": running, **(state or {})}))
    elif state is not None and running:
        click.echo(f"Kafka {state['kafka_bootstrap']}, Elasticsearch {state['elasticsearch_url']}")
    else:
        click.echo("not running")
    if not running:
        raise SystemExit(1)


def _state(directory: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((directory / "state.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return state


def _answers(state: dict[str, Any]) -> bool:
    return kafka_ready(state["kafka_bootstrap"]) and elasticsearch_ready(state["elasticsearch_url"])


def _end(state: dict[str, Any]) -> None:
    """SIGTERM to each server's process group, SIGKILL to what is left of it."""
    for sent, patience_seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 1.0)):
        deadline = time.monotonic() + patience_seconds
        for pid in state["pids"]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, sent)
        while any(_alive(pid) for pid in state["pids"]) and time.monotonic() < deadline:
            time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
