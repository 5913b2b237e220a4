"""``mailstream topics``: the topics on the broker."""

import asyncio
import json
import sys
from dataclasses import asdict

import click

from cli.settings import Settings, settings
from connectors.errors import ConfigurationError
from connectors.topic_admin import apply_topics, diff_topics
from schemas.topics import Topic, with_partitions

# How a mended difference is told, by what was done.
_DONE = {
    "set": "{0.topic}: {0.what} is now {0.wanted}, was {0.found}",
    "grow": "{0.topic}: has now {0.wanted} partitions, had {0.found}",
    "leave": "left: {0}",
}


@click.group()
def topics() -> None:
    """Create the topics, compare them with what they should be, mend them, let them grow.

    Example: mailstream topics apply
    """


@topics.command()
@click.option(
    "--replication", type=click.IntRange(1), default=1, show_default=True, help="Copies of a partition."
)
def apply(replication: int) -> None:
    """Create the topics that are missing, and mend those that are not as they should be.

    Nothing is made smaller. More partitions are given where that does no harm; elsewhere it is refused, with
    what to do instead. May be given again at any time.

    Example: mailstream topics apply --replication 3
    """
    config = settings()
    differences = asyncio.run(apply_topics(config.kafka, _wanted(config), replication))
    created = [each.topic for each in differences if each.action == "create"]
    if created:
        click.echo(f"created: {', '.join(created)}")
    for each in differences:
        if each.action in _DONE:
            click.echo(_DONE[each.action].format(each))
    if not differences:
        click.echo("all topics are as they should be")
    refused = [str(each) for each in differences if each.action == "refuse"]
    if refused:
        raise ConfigurationError("; ".join(refused))


@topics.command()
@click.option(
    "--replication", type=click.IntRange(1), help="Copies that each partition should have; without it any do."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a difference.")
def diff(replication: int | None, as_json: bool) -> None:
    """Show where the topics are not as they should be; exit code 1 when somewhere. Changes nothing.

    Example: mailstream topics diff --json
    """
    config = settings()
    differences = asyncio.run(diff_topics(config.kafka, _wanted(config), replication))
    for each in differences:
        click.echo(json.dumps(asdict(each)) if as_json else str(each))
    if not differences and not as_json:
        click.echo("all topics are as they should be")
    sys.exit(1 if differences else 0)


def _wanted(config: Settings) -> tuple[Topic, ...]:
    return with_partitions(config.topic_partitions, config.documents_partitions)
