"""What the source connector asks of a mailbox, whoever keeps it."""

from dataclasses import dataclass
from typing import Protocol

from schemas.events import ChangeKind


@dataclass(frozen=True, slots=True)
class Position:
    """Where a mailbox stands: its newest historyId and how many messages it holds.

    ``state`` is what the source wants back when it goes on from here; None where it needs nothing.
    """

    history_id: int
    messages: int
    state: str | None = None


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of (message id, thread id); no token: the last one."""

    messages: tuple[tuple[str, str | None], ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened to one message. ``labels`` are all it bears, None where nobody says."""

    kind: ChangeKind
    message_id: str
    thread_id: str | None
    history_id: int
    changed: tuple[str, ...] = ()  # of the label kinds: the labels added or removed
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """One page of what happened; ``history_id`` is the mailbox's newest when the page was made.

    ``state`` as in ``Position``; None where what was given back before still holds.
    """

    entries: list[HistoryEntry]
    history_id: int
    next_page_token: str | None
    state: str | None = None


class MailSource(Protocol):
    """A mailbox that can be listed and followed."""

    @property
    def quota_units(self) -> int | None:
        """Units that may be spent on it at once; None where nobody counts."""

    @property
    def spent(self) -> tuple[int, int]:
        """Bytes received and requests sent since the start."""

    @property
    def raw_query(self) -> str | None:
        """Finds the messages that a raw fetch is cheaper for; None where it makes no difference."""

    def resume(self, state: str | None) -> None:
        """Go on where the cursor stands: ``state`` is the last that a position or a page of history named."""

    async def news(self) -> None:
        """Return when there may be news, should the mailbox tell; never where it does not."""

    def close(self) -> None:
        """Nobody will ask any more: hang up. Does not wait."""

    async def position(self) -> Position:
        """The newest historyId and the number of messages."""

    async def list_page(
        self,
        page_token: str | None,
        *,
        query: str | None = None,
        label_id: str | None = None,
        include_spam_trash: bool = True,
    ) -> ListingPage:
        """One page of message ids, newest first. Raises PageTokenExpiredError when the token is stale."""

    async def history_page(self, start_history_id: int, page_token: str | None) -> HistoryPage:
        """One page of changes. Raises HistoryExpiredError when the start is older than what is kept.

        A page may have no entries and still a token: only the token says whether it was the last.
        """

    async def labels(self) -> dict[str, str]:
        """The labels' names by id."""

    async def watch(self, topic: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> int:
        """Have changes announced to a Pub/Sub topic; returns when that ends, in milliseconds since 1970.

        ``include`` or, where it is empty, ``exclude`` narrows it to some labels.
        """
