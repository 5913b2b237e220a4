"""The ``mailstream`` command. Its groups are imported when they are asked for: help must not load a model."""

import importlib
import sys
from typing import Any

import click

from connectors.errors import MailstreamError

# command name -> module; the attribute is the command's name with "_" for "-"
COMMANDS = {
    "demo": "cli.demo",
    "devstack": "cli.devstack",
    "emulate": "cli.emulate",
    "mailbox": "cli.mailbox",
    "topics": "cli.topics",
    "source": "cli.processes",
    "worker": "cli.processes",
    "status": "cli.status",
    "search": "cli.search",
    "extract": "cli.extract",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a message's path."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), cmd_name.replace("-", "_"))
        return command


@click.group(cls=LazyGroup)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="mailstream")
@click.pass_context
def mailstream(ctx: click.Context, debug: bool) -> None:
    """Make everything in a company's Gmail findable, attachments included, without keeping one.

    Begin with: mailstream demo
    """
    ctx.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong usage."""
    debug = "--debug" in (arguments if arguments is not None else sys.argv[1:])
    try:
        return mailstream.main(arguments, standalone_mode=True)
    except MailstreamError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
