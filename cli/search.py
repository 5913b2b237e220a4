"""``mailstream search``: ask the index from a terminal."""

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.text import Text

from cli.settings import Settings, settings
from connectors.elasticsearch import Index
from connectors.encoder import open_encoder
from search.retrieval import MARK_END, MARK_START, Hit, Mode
from search.retrieval import search as retrieve


@click.command()
@click.argument("query")
@click.option("--mailbox", "mailboxes", multiple=True, help="Search this mailbox id only; may be repeated.")
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), default="hybrid", show_default=True)
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a hit.")
def search(query: str, mailboxes: tuple[str, ...], mode: str, limit: int, as_json: bool) -> None:
    """Find messages by words and by meaning, in bodies and in attachments.

    Example: mailstream search "penalty for late delivery" --limit 5
    """
    if not query.strip():
        raise click.UsageError("the query is empty")
    hits = asyncio.run(find(settings(), query, Mode(mode), limit, mailboxes or None))
    if as_json:
        for hit in hits:
            entry = asdict(hit)
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


async def find(
    config: Settings, query: str, mode: Mode, limit: int, mailboxes: tuple[str, ...] | None = None
) -> list[Hit]:
    """Search with an encoder of this process."""
    encoder = None if mode is Mode.KEYWORD else await asyncio.to_thread(open_encoder, config.encoder)
    async with Index.open(config.elasticsearch_url) as index:
        return await retrieve(index, encoder, query, mode=mode, mailbox_ids=mailboxes, limit=limit)


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
