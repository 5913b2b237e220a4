"""``mailstream devstack``: Kafka and Elasticsearch on this machine, for as long as one wants them."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from devstack import running
from devstack.programs import DevstackError


def _which_stack(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which stack is meant."""
    command = click.option("--name", default="default", show_default=True, help="One of several stacks.")(
        command
    )
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=running.state_directory,
        show_default="one a user",
        help="Where stacks keep their state, data and logs.",
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except DevstackError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:  # a directory that cannot be written, say
        raise click.ClickException(f"{error.strerror}: {error.filename}") from error


@click.group()
def devstack() -> None:
    """Start and stop a real Kafka and a real Elasticsearch here.

    The variable STACK chooses how: maven (processes), testcontainers (containers), external (KAFKA_BOOTSTRAP
    and ELASTICSEARCH_URL). Unset: external where both are set, else containers where an engine answers, else
    maven.

    Example: mailstream devstack up
    """


@devstack.command()
@_which_stack
@_json_option
def up(directory: Path, name: str, as_json: bool) -> None:
    """Start both servers and leave them running; does nothing when they run already.

    Prints what a shell needs to use them. The first time, some 170 MB are downloaded.

    Example: eval "$(mailstream devstack up)"
    """
    # standard output is for the shell or the program that reads it
    console = Console(stderr=True)
    waiting = console.status("Starting Kafka and Elasticsearch") if sys.stderr.isatty() else nullcontext()
    with _one_line_errors(), waiting:
        stack = running.up(name, directory)
    if as_json:
        click.echo(json.dumps(stack.as_json()))
        return
    click.echo(f"export KAFKA_BOOTSTRAP={stack.kafka_bootstrap}")
    click.echo(f"export ELASTICSEARCH_URL={stack.elasticsearch_url}")


@devstack.command()
@_which_stack
@click.option("--remove", is_flag=True, help="Remove its data and logs, too.")
@_json_option
def down(directory: Path, name: str, remove: bool, as_json: bool) -> None:
    """Stop both servers; their data stay for the next ``up``. Does nothing when none run.

    Example: mailstream devstack down --remove
    """
    with _one_line_errors():
        was_there = running.down(name, directory, remove=remove)
    if as_json:
        click.echo(json.dumps({"name": name, "stopped": was_there}))
    else:
        click.echo("stopped" if was_there else "nothing was running")


@devstack.command()
@_which_stack
@_json_option
def status(directory: Path, name: str, as_json: bool) -> None:
    """Say whether both servers answer, and where. Exit code 1 when they do not.

    Example: mailstream devstack status --json
    """
    with _one_line_errors():
        stack = running.status(name, directory)
    if as_json:
        click.echo(json.dumps(stack.as_json()))
    elif stack.running:
        click.echo(
            f"Kafka {stack.kafka_bootstrap}, Elasticsearch {stack.elasticsearch_url} ({stack.provider})"
        )
        click.echo(f"logs and data: {stack.directory}")
    else:
        known = "" if stack.provider is None else f"; its data: {stack.directory}"
        click.echo(f"no devstack of this name is running (a demo has servers of its own){known}")
    if not stack.running:
        raise SystemExit(1)
