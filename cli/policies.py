"""The options that say how a mailbox is read, shared by the commands that register or change one."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
DAY = click.DateTime(["%Y-%m-%d"])
_OPTIONS = (
    click.option(
        "--include-label", "include_labels", multiple=True, help="Index only what bears this label id."
    ),
    click.option(
        "--exclude-label",
        "exclude_labels",
        multiple=True,
        help="Index nothing that bears this label id; instead of SPAM and TRASH, so name these too.",
    ),
    click.option("--include-spam-trash", is_flag=True, help="Index spam and trash too."),
    click.option("--query", help="Of the mail that is there, read what Gmail's query finds."),
    click.option("--after", type=DAY, help="Of the mail that is there, read what is of this day or later."),
    click.option("--before", type=DAY, help="Of the mail that is there, read what is older than this day."),
    click.option(
        "--deletions",
        type=click.Choice(["mirror", "keep"]),
        help="What a deletion in Gmail does here: the same (the default), or nothing.",
    ),
    click.option("--keep-days", type=click.IntRange(1), help="With --deletions keep: for that many days."),
    click.option("--source", type=click.Choice(["gmail_api", "imap", "dual"]), help="How it is read."),
)


def policy_options(command: Command) -> Command:
    """Give a command the options; ``policies`` turns their values into fields of the mailbox's record."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def gmail_query(query: str | None, after: datetime | None, before: datetime | None) -> str:
    """Gmail's query for what fulfils all of these; empty where nothing is asked for."""
    days = {"after": after, "before": before}
    bounds = (f"{name}:{day:%Y/%m/%d}" for name, day in days.items() if day is not None)
    return " ".join(filter(None, (query, *bounds)))


def policies(
    include_labels: tuple[str, ...],
    exclude_labels: tuple[str, ...],
    include_spam_trash: bool,
    query: str | None,
    after: datetime | None,
    before: datetime | None,
    deletions: str | None,
    keep_days: int | None,
    source: str | None,
) -> dict[str, Any]:
    """The fields of a MailboxRecord that the options name. Raises click.UsageError."""
    if keep_days is not None and deletions != "keep":
        raise click.UsageError("--keep-days goes with --deletions keep")
    if exclude_labels and include_spam_trash:
        raise click.UsageError("--exclude-label and --include-spam-trash exclude each other")
    scope = gmail_query(query, after, before)
    fields: dict[str, Any] = {}
    if include_labels:
        fields["include_labels"] = include_labels
    if exclude_labels or include_spam_trash:
        fields["exclude_labels"] = exclude_labels
    if scope:
        fields["query"] = scope
    if deletions is not None:
        fields |= {"deletions": deletions, "keep_days": keep_days}
    if source is not None:
        fields["source"] = source
    return fields
