"""``mailstream reindex``: the index built anew from the log, without asking Gmail for anything."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.settings import Settings, settings
from connectors.elasticsearch.vectors import Vectors
from connectors.elasticsearch.versions import Version, Versions
from connectors.encoder import Encoder
from connectors.errors import ConfigurationError
from connectors.kafka import Producer, Table
from schemas import mapping, topics
from schemas.languages import analyzer_for
from streams.dead_letters import DeadLetters
from streams.encoder_process import EncoderProcess
from streams.forward import DocumentsLog
from streams.gone import Gone
from streams.index import Indexer
from streams.reindex import Replay

# Without a terminal a line says this often how far it is.
_SAY_SECONDS = 30.0


@click.command()
@click.option("--from-beginning", is_flag=True, help="Throw away a rebuild that was not finished.")
@click.option("--cancel", is_flag=True, help="Only remove a rebuild that was not finished.")
@click.option("--drop-old", is_flag=True, help="Only remove the versions that the live index has replaced.")
@click.option("--force", is_flag=True, help="Put the new index in place although it differs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reindex(from_beginning: bool, cancel: bool, drop_old: bool, force: bool, as_json: bool) -> None:
    """Build the index anew from mail.documents, with today's mapping and ENCODER, and put it in place.

    The live index is searched and written until then. Stopped (Ctrl-C too), the command goes on where it was
    when it is given again. The old index stays until --drop-old.

    Example: mailstream reindex
    """
    if sum((from_beginning or force, cancel, drop_old)) > 1:
        raise click.UsageError("--cancel and --drop-old stand alone")
    config, console = settings(), Console(stderr=True, highlight=False)
    try:
        if cancel or drop_old:
            result = asyncio.run(_remove(config, unfinished=cancel))
        else:
            result = asyncio.run(rebuild(config, console, from_beginning=from_beginning, force=force))
    except KeyboardInterrupt:
        console.print("stopped: `mailstream reindex` goes on from here, --cancel removes what there is")
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps(result))
        return
    for line in _told(result):
        click.echo(line)


async def _remove(config: Settings, *, unfinished: bool) -> dict[str, Any]:
    async with Versions.open(config.elasticsearch) as versions:
        live, older, newer = _sorted_out(await versions.all())
        if live is not None:
            await versions.release(live)  # a rebuild that was killed in its last second holds it
        removed = newer if unfinished else older
        for version in removed:
            await versions.drop(version)
    return {"removed": [version.name for version in removed]}


def _sorted_out(found: list[Version]) -> tuple[Version | None, list[Version], list[Version]]:
    """The live version, those that it has replaced, and those that are being built."""
    live = next((version for version in found if version.live), None)
    number = live.number if live is not None else 0
    older = [version for version in found if version.number < number]
    return live, older, [version for version in found if version.number > number]


async def rebuild(
    config: Settings, console: Console, *, from_beginning: bool = False, force: bool = False
) -> dict[str, Any]:
    """Build a new version and put it in place, or go on with one; returns what the command prints."""
    started = time.monotonic()
    async with (
        EncoderProcess(config.encoder_name) as encoder,
        Versions.open(config.elasticsearch) as versions,
        Producer(config.kafka) as producer,
        Table.open(config.kafka, topics.MAILBOXES.name) as registry,
    ):
        live, older, newer = _sorted_out(await versions.all())
        if live is not None:
            await versions.release(live)
        if from_beginning:
            for version in newer:
                await versions.drop(version)
            newer = []
        resumed, analyzer = bool(newer), analyzer_for(config.language_codes)
        new = newer[-1] if newer else await versions.create(encoder.name, analyzer)
        begun = (new.encoder, new.mapping_version, new.vectors_version)
        if begun != (encoder.name, mapping.MAPPING_VERSION, mapping.VECTORS_VERSION):
            raise ConfigurationError(
                f"{new.name} was begun with {new.encoder}, mapping {new.mapping_version} and vectors"
                f" {new.vectors_version}: set ENCODER back, or begin again with --from-beginning"
            )
        gone = Gone(registry, None)  # it is the index worker that takes late records out of the topic
        known = _known_vectors(versions, live, older, encoder, console)
        indexer = Indexer(
            versions.index(new),
            encoder,
            DeadLetters(producer, "reindex"),
            config.max_chunks_per_document,
            DocumentsLog(config.kafka),  # it is the index worker that writes registers forward
            gone,
            known,
            int(config.deleted_contents_days * topics.DAY_MILLISECONDS),
        )
        with _shown(console) as progress:
            async with Replay.open(config.kafka, versions, new, indexer, gone, progress) as replay:
                check = await replay.run(live, force=force)
    return {
        "index": new.name,
        "replaced": live.name if live is not None else None,
        "resumed": resumed,
        "vectors_reused": known.found if known is not None else 0,
        "check": asdict(check) if check is not None else None,
        "seconds": round(time.monotonic() - started, 1),
    }


def _known_vectors(
    versions: Versions, live: Version | None, older: list[Version], encoder: Encoder, console: Console
) -> Vectors | None:
    """The vectors of the live index, or of the last before it, where the same model made them in the same
    way."""
    there = [version for version in (live, *reversed(older)) if version is not None]
    wanted = (encoder.name, mapping.VECTORS_VERSION)
    usable = [version for version in there if (version.encoder, version.vectors_version) == wanted]
    if usable:
        return versions.vectors(usable[0])
    reason = "no index has vectors that this model made in this way" if there else "there is no old index"
    console.print(f"{reason}: all texts are embedded again by {encoder.name}, which takes its time")
    return None


@contextmanager
def _shown(console: Console) -> Iterator[Any]:
    """Something to call with (what, done, total): a bar on a terminal, a line now and then elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("{task.description:<16}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
            task = bars.add_task("")
            yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
        return
    said_at = time.monotonic()

    def say(what: str, done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > _SAY_SECONDS:
            said_at = time.monotonic()
            sys.stderr.write(f"{what}: {done:,} of {total:,}\n")

    yield say


def _told(result: dict[str, Any]) -> Iterator[str]:
    if "removed" in result:
        yield (f"removed: {', '.join(result['removed'])}" if result["removed"] else "nothing to remove")
        return
    check = result["check"]
    if check is None:
        yield f"{result['index']} is in place; there was no index to compare it with"
        return
    yield f"{result['index']} is in place of {result['replaced']} after {result['seconds']:.0f} s"
    yield (
        f"{check['messages']:,} messages ({check['live_messages']:,} before), {check['documents']:,}"
        f" documents ({check['live_documents']:,}), {len(check['differing'])} of {check['sampled']} compared"
        f" ones differ; {result['vectors_reused']:,} vectors reused"
    )
    yield f"{result['replaced']} stays until `mailstream reindex --drop-old`"
