"""``mailstream reap``: nothing in the ephemeral directory grows old, whoever made it and however he ended."""

import asyncio

import click

from cli.settings import settings
from connectors.errors import MailstreamError
from streams.reaper import SECONDS, Round, reap_and_measure


@click.command()
@click.option("--every", type=click.FloatRange(min=1, max=SECONDS), help="Go on, a round every S seconds.")
def reap(every: float | None) -> None:
    """Remove what is older than 30 seconds from the ephemeral directory.

    Example: mailstream reap --every 10
    """
    config = settings()
    if every is None:
        done = reap_and_measure(config.ephemeral_directory)
        click.echo(_line(done))
        if done.oldest_seconds > SECONDS:
            raise MailstreamError(
                "something old could not be removed: run as the user who made it, or as root"
            )
        return
    from cli.running import run_until_signal, start_observing

    async def rounds() -> None:
        while True:
            done = reap_and_measure(config.ephemeral_directory)
            if done.removed:
                click.echo(_line(done))
            await asyncio.sleep(every)

    start_observing(config)
    run_until_signal(rounds())


def _line(done: Round) -> str:
    return (
        f"{done.removed} removed; {done.files} files left, {done.size_bytes} bytes,"
        f" the oldest {done.oldest_seconds:.0f} s old"
    )
