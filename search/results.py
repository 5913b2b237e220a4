"""What a search answers: messages, each with the places where it matched."""

from dataclasses import dataclass, field
from enum import StrEnum

# Around a marked word: two characters that stand in no text we index.
MARK_START, MARK_END = "\x02", "\x03"


class Mode(StrEnum):
    """By words, by meaning, or both."""

    HYBRID = "hybrid"
    KEYWORD = "keyword"
    SEMANTIC = "semantic"


@dataclass(frozen=True, slots=True)
class Match:
    """Where a message matched: its body, or an attachment and the place in it. ``score`` is in [0, 1]."""

    part_path: str
    filename: str | None
    page: int | None
    label: str | None
    snippet: str  # marked words stand between MARK_START and MARK_END
    score: float

    @property
    def where(self) -> str:
        """The place in a person's words."""
        if not self.part_path:
            return "body"
        place = self.label or (f"page {self.page}" if self.page is not None else "")
        return ", ".join(filter(None, (self.filename or f"attachment {self.part_path}", place)))


@dataclass(slots=True)
class Hit:
    """A message with the places where it matched, the best first. ``score`` is about 1 for the best."""

    mailbox_id: str
    message_id: str
    message_key: str
    thread_id: str | None
    rfc_message_id: str | None
    subject: str
    sender: str
    to: tuple[str, ...]
    sent_at: int | None  # milliseconds since 1970
    label_ids: tuple[str, ...]
    has_attachment: bool
    score: float = 0.0
    matches: list[Match] = field(default_factory=list)
    # The same mail in other mailboxes that the caller may read, as (mailbox_id, message_id).
    copies: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """A page of hits. ``cursor`` asks for the next one; None at the end."""

    hits: list[Hit]
    cursor: str | None = None
    # What was searched instead, because nothing matched what was typed.
    showing_results_for: str | None = None
    # What was probably meant, where something else was found nevertheless.
    did_you_mean: str | None = None
