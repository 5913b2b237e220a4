"""``mailstream topics``: the topics on the broker."""

import asyncio
import json
import sys
from dataclasses import asdict, replace

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


@topics.command()
@click.option("--partitions", type=click.IntRange(2), required=True, help="How many they shall have.")
@click.option("--ignore", multiple=True, metavar="GROUP", help="A consumer group that nobody waits for.")
def grow(partitions: int, ignore: tuple[str, ...]) -> None:
    """Give mail.changes, mail.backfill and mail.sync-requests more partitions, when all in them is read.

    Sources and extract workers must be stopped, and every consumer group must have come to the end; then
    each mailbox keeps its order: docs/GROWTH.md. Given again after an interruption, it goes on.

    Example: mailstream topics grow --partitions 12
    """
    from connectors.topic_growth import grow_topics

    grown = asyncio.run(grow_topics(settings().kafka, partitions, ignore))
    for name in grown.topics:
        click.echo(f"{name}: has now {partitions} partitions")
    if not grown.topics:
        click.echo("nothing had to grow")
    for group in grown.running:
        click.echo(f"{group} runs: it must begin new partitions at their start (auto.offset.reset=earliest)")
    click.echo(f"set TOPIC_PARTITIONS={partitions} before the sources start")


@topics.command()
@click.option("--partitions", type=click.IntRange(1), required=True, help="How many the copy shall have.")
@click.option(
    "--replication", type=click.IntRange(1), default=1, show_default=True, help="Copies of a partition."
)
def copy(partitions: int, replication: int) -> None:
    """Copy mail.documents to a new topic with another number of partitions, to its end as it stands.

    May run while everything works, and again: it goes on where it stopped. What is written after the last run
    is not in the copy; docs/GROWTH.md says how to switch over.

    Example: mailstream topics copy --partitions 12
    """
    from connectors.topic_growth import copy_documents
    from schemas import topics as known

    config = settings()
    target = replace(known.DOCUMENTS, name=f"{known.DOCUMENTS_NAME}.p{partitions}", partitions=partitions)
    with click.progressbar(length=1, label="copying", file=sys.stderr) as bar:

        def progress(done: int, everything: int) -> None:
            bar.length = max(everything, 1)
            bar.update(done - bar.pos)

        copied = asyncio.run(copy_documents(config.kafka, target, replication, progress))
    click.echo(f"{copied} records copied: {target.name} is complete as of now")
    click.echo(
        "when nobody writes any more: copy once more, then start with"
        f" DOCUMENTS_TOPIC={target.name} and DOCUMENTS_PARTITIONS={partitions}"
    )


@topics.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(name: str, yes: bool) -> None:
    """Delete a topic of documents that DOCUMENTS_TOPIC does not name: outgrown, or a copy that is not wanted.

    Example: mailstream topics drop mail.documents.v1
    """
    from connectors.topic_growth import drop_documents

    config = settings()
    if not yes:
        click.confirm(f"delete {name} and all that stands in it?", abort=True)
    asyncio.run(drop_documents(config.kafka, name))
    click.echo(f"{name} is deleted")


def _wanted(config: Settings) -> tuple[Topic, ...]:
    return with_partitions(config.topic_partitions, config.documents_partitions)
