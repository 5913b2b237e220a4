"""``mailstream topics``: the topics on the broker."""

import asyncio

import click

from cli.settings import settings
from connectors.kafka import apply_topics
from schemas.topics import with_partitions


@click.group()
def topics() -> None:
    """Create the topics.

    Example: mailstream topics apply
    """


@topics.command()
@click.option(
    "--replication", type=click.IntRange(1), default=1, show_default=True, help="Copies of a partition."
)
def apply(replication: int) -> None:
    """Create the topics that are missing; existing ones are left as they are.

    Example: mailstream topics apply --replication 3
    """
    config = settings()
    created = asyncio.run(apply_topics(config.kafka, with_partitions(config.topic_partitions), replication))
    click.echo(f"created: {', '.join(created)}" if created else "all topics are there")
