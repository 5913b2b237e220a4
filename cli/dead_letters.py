"""``mailstream dead-letters``: look at what failed for good, replay it, or say that it is not to be."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table as Grid

from cli.mailbox import find_mailbox
from cli.settings import settings
from connectors.errors import ConfigurationError
from connectors.kafka import Producer
from schemas.events import now_milliseconds, second_of
from streams.letter_box import Letter, LetterBox

Command = TypeVar("Command", bound=Callable[..., Any])
_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FILTERS = (
    click.option("--mailbox", help="Only of this mailbox, by id or address."),
    click.option("--stage", help="Only of this stage: fast (extract), slow, index, reindex."),
    click.option("--error", "error_class", help="Only with this class of error."),
    click.option("--since", help="Only what failed since then: 90m, 24h, 7d, or a day like 2026-03-31."),
)


def _filtered(command: Command) -> Command:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Look at what failed for good; replay or discard it.

    Example: mailstream dead-letters list --since 24h
    """


@dead_letters.command(name="list")
@_filtered
@click.option("--all", "with_resolved", is_flag=True, help="Also those that were replayed or discarded.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_letters(with_resolved: bool, as_json: bool, **filters: str | None) -> None:
    """List what failed for good and is still open, the oldest first.

    Example: mailstream dead-letters list --stage index
    """
    chosen = _chosen((), filters, with_resolved=with_resolved)
    if as_json:
        for letter in chosen:
            click.echo(json.dumps(_described(letter)))
        return
    grid = Grid("id", "failed", "stage", "error", "mailbox", "message", "part", "state", box=None)
    for letter in chosen:
        dead = letter.letter
        grid.add_row(
            *(letter.id, second_of(dead.failed_at), dead.stage, dead.error_class, dead.mailbox_id or ""),
            *(dead.message_id or "", dead.part_path or "", _state(letter)),
        )
    if chosen:
        Console(highlight=False).print(grid)
    click.echo(f"{len(chosen)} dead letters")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(letter_id: str, as_json: bool) -> None:
    """Show one dead letter in full.

    Example: mailstream dead-letters show 0:17
    """
    [letter] = _chosen((letter_id,), {}, with_resolved=True)
    if as_json:
        click.echo(json.dumps(_described(letter)))
        return
    for name, value in _described(letter).items():
        shown = second_of(value) if name.endswith("_at") else value
        click.echo(f"{name:12} {shown}")


@dead_letters.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filtered
@click.option("--all", "everything", is_flag=True, help="Every open letter.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(ids: tuple[str, ...], everything: bool, as_json: bool, **filters: str | None) -> None:
    """Send what failed through the ordinary path again: an event to its topic, a document's latest record.

    Example: mailstream dead-letters replay --error RejectedDocumentError --since 7d
    """
    _deal_with(ids, filters, LetterBox.replay, everything=everything, as_json=as_json)


@dead_letters.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filtered
@click.option("--all", "everything", is_flag=True, help="Every open letter.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def discard(ids: tuple[str, ...], everything: bool, as_json: bool, **filters: str | None) -> None:
    """Say that dead letters need nothing more.

    Example: mailstream dead-letters discard 0:17
    """
    _deal_with(ids, filters, LetterBox.discard, everything=everything, as_json=as_json)


def _deal_with(
    ids: Sequence[str],
    filters: dict[str, str | None],
    deal: Callable[..., Any],
    *,
    everything: bool,
    as_json: bool,
) -> None:
    if bool(ids) + any(filters.values()) + everything != 1:
        raise click.UsageError("name letters, or filter them, or give --all")

    async def work() -> dict[str, str]:
        kafka = settings().kafka
        async with LetterBox.open(kafka) as box, Producer(kafka) as producer:
            endings: dict[str, str] = await deal(box, producer, _select(box, ids, wanted))
        return endings

    wanted = _read_filters(filters)
    endings = asyncio.run(work())
    if as_json:
        click.echo(json.dumps(endings))
        return
    counted = Counter(endings.values())
    click.echo(", ".join(f"{count} {ending}" for ending, count in counted.items()) or "there are none")


def _chosen(ids: Sequence[str], filters: dict[str, str | None], *, with_resolved: bool) -> list[Letter]:
    wanted = _read_filters(filters)

    async def read() -> list[Letter]:
        async with LetterBox.open(settings().kafka) as box:
            return _select(box, ids, wanted, with_resolved=with_resolved)

    return asyncio.run(read())


def _read_filters(filters: dict[str, str | None]) -> Callable[[Letter], bool]:
    """A test of one letter. Raises click.UsageError, and ConfigurationError for an unknown mailbox."""
    mailbox, since = filters.get("mailbox"), filters.get("since")
    equal = {"stage": filters.get("stage"), "error_class": filters.get("error_class")}
    equal["mailbox_id"] = find_mailbox(settings(), mailbox).mailbox_id if mailbox else None
    failed_after = _since(since) if since else 0

    def wanted(letter: Letter) -> bool:
        dead = letter.letter
        return dead.failed_at >= failed_after and all(
            value is None or getattr(dead, name) == value for name, value in equal.items()
        )

    return wanted


def _select(
    box: LetterBox, ids: Sequence[str], wanted: Callable[[Letter], bool], *, with_resolved: bool = False
) -> list[Letter]:
    unknown = [letter_id for letter_id in ids if letter_id not in box.letters]
    if unknown:
        raise ConfigurationError(
            f"no dead letter has the id {unknown[0]}: see `mailstream dead-letters list`"
        )
    chosen = [box.letters[letter_id] for letter_id in ids] if ids else list(box.letters.values())
    resolved = [letter.id for letter in chosen if ids and not letter.open and not with_resolved]
    if resolved:
        raise ConfigurationError(f"dead letter {resolved[0]} has been dealt with already")
    return [letter for letter in chosen if (letter.open or with_resolved) and wanted(letter)]


def _since(text: str) -> int:
    """A point in time, in milliseconds since 1970."""
    ago = re.fullmatch(r"(\d+)([mhd])", text)
    if ago is not None:
        return now_milliseconds() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except ValueError as error:
        raise click.UsageError(f"--since {text}: not a time like 90m, 24h, 7d or 2026-03-31") from error


def _described(letter: Letter) -> dict[str, Any]:
    return {"id": letter.id, "state": _state(letter), **letter.letter.model_dump(exclude_none=True)}


def _state(letter: Letter) -> str:
    return letter.resolution.action if letter.resolution is not None else "open"
