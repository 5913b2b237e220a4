"""``mailstream mapping``: the index on the server."""

import asyncio

import click

from cli.settings import settings
from connectors.elasticsearch import Index
from connectors.encoder import model_name
from schemas.languages import analyzer_for


@click.group()
def mapping() -> None:
    """Create the index.

    Example: mailstream mapping apply
    """


@mapping.command()
def apply() -> None:
    """Create the index and its aliases where they are missing, and add the fields that an older one lacks.

    The index worker does so too when it starts; this is for what starts before it.

    Example: ELASTICSEARCH_URL=http://elasticsearch:9200 mailstream mapping apply
    """
    config = settings()

    async def body() -> bool:
        async with Index.open(config.elasticsearch) as index:
            existed = await index.exists()
            await index.ensure(analyzer_for(config.language_codes), model_name(config.encoder_name))
            return existed

    click.echo("the index is there" if asyncio.run(body()) else "created the index")
