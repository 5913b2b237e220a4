"""``mailstream search``: ask the index from a terminal."""

import asyncio
import gc
import json
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from datetime import datetime
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import click

from cli.settings import Settings, settings
from connectors.errors import UnavailableError
from schemas import topics
from schemas.events import day_of
from search.access import Access
from search.conditions import Conditions, Context
from search.labels import LabelDirectories
from search.query import QueryError, Term, parse
from search.results import MARK_END, MARK_START, Hit, Mode, Results

if TYPE_CHECKING:
    from connectors.encoder import Encoder


@click.command()
@click.argument("query")
@click.option(
    "--mailbox", "mailboxes", multiple=True, help="Search this mailbox (id or address) only; may be repeated."
)
@click.option("--label", "labels", multiple=True, help="The same as label: in the query; may be repeated.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default="hybrid",
    show_default=True,
    help="By words, by meaning, or by both.",
)
@click.option(
    "--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="Hits at most; one a message."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a hit.")
def search(
    query: str, mailboxes: tuple[str, ...], labels: tuple[str, ...], mode: str, limit: int, as_json: bool
) -> None:
    """Find messages by words and by meaning, in bodies and in attachments.

    The query may use Gmail's operators: from: to: cc: subject: label: in: is: has:attachment filename: type:
    larger: smaller: before: after: older_than: newer_than: rfc822msgid: "exact phrase" -word OR AND ( ).

    Example: mailstream search "penalty for late delivery from:anna after:2026/01/31" --limit 5
    """
    if not query.strip():
        raise click.UsageError("the query is empty")
    asked = " ".join([query, *(str(Term("label", label)) for label in labels)])
    gc.disable()  # it is over before garbage is worth looking for
    config = settings()
    ids = [_mailbox_id(config, name) for name in mailboxes]
    try:
        results, names = asyncio.run(find(config, asked, Mode(mode), limit, ids or None, as_json))
    except QueryError as error:
        raise click.UsageError(f"the query is not understood\n\n{error.pointed_at(asked)}") from error
    if as_json:
        for hit in results.hits:
            click.echo(json.dumps(_entry(hit, names), ensure_ascii=False))
        return
    if results.showing_results_for:
        click.echo(f"Nothing has these words. Showing results for {results.showing_results_for}\n")
    if results.did_you_mean:
        click.echo(f"Did you mean {results.did_you_mean}\n")
    if not results.hits:
        click.echo("Nothing found.")
    for hit in results.hits:
        show(hit)
    if results.cursor:
        click.echo(f"The first {limit}: --limit takes up to 100.")


def _mailbox_id(config: Settings, name: str) -> str:
    """An id is taken as it is: the index may hold what the registry knows no more. Raises ConfigurationError
    for an address that no mailbox has."""
    if "@" not in name:
        return name
    from cli.mailbox import find_mailbox

    return find_mailbox(config, name).mailbox_id


def _entry(hit: Hit, names: LabelDirectories) -> dict[str, Any]:
    entry = asdict(hit)
    entry["labels"] = [names.name(hit.mailbox_id, label_id) for label_id in hit.label_ids]
    for match, shown in zip(hit.matches, entry["matches"], strict=True):
        shown["where"] = match.where
        shown["snippet"] = match.snippet.replace(MARK_START, "").replace(MARK_END, "")
    return entry


async def find(
    config: Settings, asked: str, mode: Mode, limit: int, mailboxes: Iterable[str] | None, names_needed: bool
) -> tuple[Results, LabelDirectories]:
    """Search with an encoder of this process, and with the labels' names where they are needed."""
    query = parse(asked)
    names = LabelDirectories({})
    if names_needed or query.names_labels:
        from connectors.kafka import read_table

        names = LabelDirectories(await read_table(config.kafka, topics.MAILBOXES.name))
    context = Context(datetime.now().astimezone(), names)
    conditions = Conditions(query, context)  # what is wrong should be said before the model is loaded
    needs_encoder = mode is not Mode.KEYWORD and conditions.text
    encoder = _ForkedEncoder(config.encoder_name) if needs_encoder else None
    # As long to import as the model to load.
    from connectors.elasticsearch import Index
    from search.retrieval import Retrieval

    access = Access.everything() if mailboxes is None else Access.only(mailboxes)
    async with Index.open(config.elasticsearch) as index:
        results = await Retrieval(index, encoder).search(
            query, access, mode=mode, limit=limit, context=context
        )
    return results, names


class _ForkedEncoder:
    """An encoder in a process of its own, which loads the model while this one imports Elasticsearch's
    client: one interpreter would do one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = ProcessPoolExecutor(1, get_context("fork"), _end_with_parent)
        self._process.submit(_encoded, name, [])

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``Encoder``. Raises what its loading raises; UnavailableError where the process died."""
        try:
            return self._process.submit(_encoded, self._name, texts).result()
        except BrokenProcessPool as error:
            raise UnavailableError("the process with the model was ended: is there memory for it?") from error


def _end_with_parent() -> None:
    from cli.forks import end_with_parent

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both, and one of them says so


@cache
def _opened(name: str) -> "Encoder":
    from connectors.encoder import open_encoder

    return open_encoder(name)


def _encoded(name: str, texts: Sequence[str]) -> list[list[float]]:
    # Without numpy's types: to read them, it would have to be imported where the answer goes.
    vectors: list[list[float]] = _opened(name).encode(texts).tolist()
    return vectors


def show(hit: Hit, *, err: bool = False) -> None:
    """Print a hit: subject, sender and date, then where it matched, with a snippet."""
    day = day_of(hit.sent_at) if hit.sent_at else "no date"
    copies = f" · in {len(hit.copies) + 1} mailboxes" if hit.copies else ""
    click.secho(hit.subject or "(no subject)", err=err, bold=True)
    click.secho(f"  {hit.sender} · {day}{copies}", err=err, dim=True)
    for match in hit.matches:
        where = click.style(match.where, fg="cyan")
        click.echo(f"  {where}: {_marked(match.snippet)}" if match.snippet else f"  {where}", err=err)
    click.echo(err=err)


def _marked(snippet: str) -> str:
    pieces = []
    for number, piece in enumerate(snippet.split(MARK_START)):
        word, _, rest = piece.partition(MARK_END) if number else ("", "", piece)
        pieces.append(click.style(word, fg="yellow", bold=True) + rest if word else rest)
    return "".join(pieces)
