"""The ``mailstream`` command. Its groups are imported when they are asked for: help must not load a model."""

import gc
import importlib
import logging
import os
import sys
from typing import Any

import click

from connectors.errors import MailstreamError

# command name -> its module, and the first line of its help; the order is that of a message's path
COMMANDS = {
    "demo": ("cli.demo", "Run everything here: Gmail, Kafka, the workers, Elasticsearch; then search."),
    "devstack": ("cli.devstack", "Start and stop a real Kafka and a real Elasticsearch here."),
    "emulate": ("cli.emulate", "Emulate a server on this machine."),
    "topics": (
        "cli.topics",
        "Create the topics, compare them with what they should be, mend them, let them grow.",
    ),
    "schemas": ("cli.schemas", "Export, check and register the schemas of the events in the topics."),
    "mapping": ("cli.mapping", "Create the index."),
    "keys": ("cli.keys", "Make keys, and seal credentials with a new one."),
    "auth": ("cli.auth", "Grant access to mailboxes."),
    "mailbox": ("cli.mailbox", "Add, change, list, remove and purge mailboxes."),
    "imap": ("cli.imap", "Compare IMAP with the API, switch over and back, clean up what IMAP left."),
    "source": ("cli.processes", "List and follow the mailboxes that this process is assigned."),
    "push": (
        "cli.push",
        "Take in Gmail's notifications: an endpoint for Pub/Sub, or, with PUBSUB_SUBSCRIPTION, by pulling.",
    ),
    "worker": ("cli.processes", "Consume events: extract, slow (OCR and what had to wait), index, or all."),
    "reap": ("cli.reap", "Remove what is older than 30 seconds from the ephemeral directory."),
    "sync": ("cli.sync", "Look for news in a mailbox now, list it again, or make the index equal to it."),
    "audit": ("cli.sync", "Compare what Gmail holds with what the index shows: ids, and labels."),
    "status": ("cli.status", "Show how far every mailbox and every stage has come."),
    "trace": (
        "cli.trace",
        "Say why a message is not found: where it is on its way, each step with its time.",
    ),
    "reindex": (
        "cli.reindex",
        "Build the index anew from mail.documents, with today's mapping and ENCODER, and put it in place.",
    ),
    "dead-letters": ("cli.dead_letters", "Look at what failed for good; replay or discard it."),
    "reprocess": (
        "cli.reprocess",
        "Read attachments and messages again that a better engine, or newer signatures, should see.",
    ),
    "search": ("cli.search", "Find messages by words and by meaning, in bodies and in attachments."),
    "serve": ("cli.serve", "Serve the search page and its API."),
    "token": ("cli.token", "Create, list and revoke access to the search API."),
    "extract": ("cli.extract", "Extract text and metadata from files and folders."),
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a message's path."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. What is imported stays: the garbage collector need never look at it."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        # Or pydantic looks through all installed packages for plugins, of which there are none.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
        gc.disable()
        command: click.Command = getattr(importlib.import_module(module), cmd_name.replace("-", "_"))
        gc.freeze()
        gc.enable()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in COMMANDS.items()])


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
    # These clients warn of every retry, with a traceback; what they cannot mend, they raise.
    for client in ("aiokafka", "elastic_transport"):
        logging.getLogger(client).setLevel(logging.ERROR)
    debug = "--debug" in (arguments if arguments is not None else sys.argv[1:])
    try:
        return mailstream.main(arguments, standalone_mode=True)
    except MailstreamError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    finally:
        gc.freeze()  # or all modules are looked through before the process may end: a sixth of a search


if __name__ == "__main__":
    main()
