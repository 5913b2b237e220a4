"""``mailstream imap``: leaving the old fetcher behind."""

import click

from cli.cleanup import cleanup


@click.group()
def imap() -> None:
    """Leave the fetcher behind that reads Gmail by IMAP."""


imap.add_command(cleanup)
