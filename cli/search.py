"""``mailstream search``: ask the index from a terminal."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.text import Text

from cli.settings import Settings, settings
from connectors.elasticsearch import Index
from connectors.encoder import open_encoder
from connectors.errors import ConfigurationError
from connectors.kafka import read_table
from schemas import topics
from search.labels import LabelDirectories
from search.retrieval import MARK_END, MARK_START, Hit, Mode
from search.retrieval import search as retrieve


@click.command()
@click.argument("query")
@click.option("--mailbox", "mailboxes", multiple=True, help="Search this mailbox id only; may be repeated.")
@click.option("--label", "labels", multiple=True, help="Only what bears this label; may be repeated.")
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), default="hybrid", show_default=True)
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a hit.")
def search(
    query: str, mailboxes: tuple[str, ...], labels: tuple[str, ...], mode: str, limit: int, as_json: bool
) -> None:
    """Find messages by words and by meaning, in bodies and in attachments.

    Example: mailstream search "penalty for late delivery" --limit 5
    """
    if not query.strip():
        raise click.UsageError("the query is empty")
    config = settings()
    names = _label_names(config) if labels or as_json else LabelDirectories({})
    wanted = [names.ids(label) for label in labels]
    for label, known in zip(labels, wanted, strict=True):
        if not known:
            raise ConfigurationError(f"no mailbox has a label {label}")
    hits = asyncio.run(find(config, query, Mode(mode), limit, mailboxes or None, wanted))
    if as_json:
        for hit in hits:
            entry = asdict(hit)
            entry["labels"] = [names.name(hit.mailbox_id, label_id) for label_id in hit.label_ids]
            for match, shown in zip(hit.matches, entry["matches"], strict=True):
                shown["where"] = match.where
                shown["snippet"] = match.snippet.replace(MARK_START, "").replace(MARK_END, "")
            click.echo(json.dumps(entry, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not hits:
        console.print("Nothing found.")
    for hit in hits:
        show(console, hit)


def _label_names(config: Settings) -> LabelDirectories:
    return LabelDirectories(asyncio.run(read_table(config.kafka_bootstrap, topics.MAILBOXES.name)))


async def find(
    config: Settings,
    query: str,
    mode: Mode,
    limit: int,
    mailboxes: tuple[str, ...] | None = None,
    labels: Sequence[Mapping[str, str]] = (),
) -> list[Hit]:
    """Search with an encoder of this process."""
    encoder = None if mode is Mode.KEYWORD else await asyncio.to_thread(open_encoder, config.encoder_name)
    async with Index.open(config.elasticsearch_url) as index:
        return await retrieve(
            index, encoder, query, mode=mode, mailbox_ids=mailboxes, labels=labels, limit=limit
        )


def show(console: Console, hit: Hit) -> None:
    """Print a hit: subject, sender and date, then where it matched, with a snippet."""
    day = datetime.fromtimestamp(hit.sent_at / 1000, UTC).strftime("%Y-%m-%d") if hit.sent_at else "no date"
    console.print(Text(hit.subject or "(no subject)", style="bold"))
    console.print(Text(f"  {hit.sender} · {day}", style="dim"))
    for match in hit.matches[:3]:
        line = Text("  ")
        line.append(match.where, style="cyan")
        if match.snippet:
            line.append(": ")
            line.append_text(_marked(match.snippet))
        console.print(line)
    console.print()


def _marked(snippet: str) -> Text:
    text = Text()
    for number, piece in enumerate(snippet.split(MARK_START)):
        word, _, rest = piece.partition(MARK_END) if number else ("", "", piece)
        text.append(word, style="bold yellow")
        text.append(rest)
    return text
