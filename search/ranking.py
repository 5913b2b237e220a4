"""From lists of documents to a ranking of messages: scaled, fused, grouped. No I/O.

Each list's scores are scaled to [0, 1] (see ``_scaled``), the lists are weighed alike and added up. On three
of four public test sets that beat reciprocal ranks; ARCHITECTURE.md has this project's own figures.

What stands behind SCALED in every list has no score, and follows by its rank: so a ranking of longer lists
begins as that of shorter ones, and may be read page by page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.topics import DAY_MILLISECONDS

# An attachment must match somewhat better than a message to stand before it: a long one has many chances.
ATTACHMENT_WEIGHT = 0.9
# What a message of now gains on one of long ago, where a question has few words; half of it after HALF_LIFE.
RECENCY_WEIGHT = 0.05
RECENCY_HALF_LIFE_DAYS = 180
SHORT_QUERY_WORDS = 3

# The score of the document at this place counts 0, and so do all behind it.
SCALED = 50


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document in one of the lists."""

    document_id: str
    message_key: str
    rfc_message_id: str | None
    subject: str | None
    sent_at: int | None  # milliseconds since 1970
    is_attachment: bool
    chunk_count: int | None
    score: float

    @classmethod
    def read(cls, hit: Mapping[str, Any]) -> Candidate:
        """A hit with the fields of ``FIELDS`` from its doc values."""
        fields = hit["fields"]
        return cls(
            document_id=hit["_id"],
            message_key=fields["message_key"][0],
            rfc_message_id=fields.get("rfc_message_id", [None])[0],
            subject=fields.get("subject.raw", [None])[0],
            sent_at=int(fields["sent_at"][0]) if "sent_at" in fields else None,
            is_attachment=fields["kind"][0] == "attachment",
            chunk_count=fields.get("chunk_count", [None])[0],
            score=hit["_score"],
        )

    @property
    def group(self) -> tuple[str, str]:
        """What its message is told apart by: a mail's copies in several mailboxes are one."""
        if self.rfc_message_id is None:
            return self.message_key, ""
        return self.rfc_message_id, self.subject or ""


FIELDS = (
    *("message_key", "rfc_message_id", "subject.raw", "kind", "chunk_count"),
    *({"field": "sent_at", "format": "epoch_millis"},),
)


@dataclass(slots=True)
class Ranked:
    """A message in the ranking, with its documents, the best first."""

    score: float = 0.0
    best_rank: int = sys.maxsize  # in any of the lists, from 0
    documents: dict[str, float] = field(default_factory=dict)  # document id: its own fused score
    messages: dict[str, Candidate] = field(default_factory=dict)  # by message key

    @property
    def copies(self) -> list[Candidate]:
        """A document of each message, where the mail is in several mailboxes."""
        return list(self.messages.values()) if len(self.messages) > 1 else []


def rank(
    lists: Sequence[Sequence[Candidate]], now: datetime | None, weights: Sequence[float] = (1.0, 1.0)
) -> list[Ranked]:
    """The messages of the lists, the best first. ``now`` None: their dates play no part."""
    ranked: dict[tuple[str, str], Ranked] = {}
    whole = sum(weights[: len(lists)])
    for candidates, weight in zip(lists, weights, strict=False):
        scores = _scaled(candidates)
        best: dict[tuple[str, str], float] = {}
        for position, (candidate, scaled) in enumerate(zip(candidates, scores, strict=True)):
            weighed = scaled * weight / whole * (ATTACHMENT_WEIGHT if candidate.is_attachment else 1.0)
            entry = ranked.setdefault(candidate.group, Ranked())
            entry.messages.setdefault(candidate.message_key, candidate)
            entry.best_rank = min(entry.best_rank, position)
            entry.documents[candidate.document_id] = entry.documents.get(candidate.document_id, 0.0) + weighed
            best[candidate.group] = max(best.get(candidate.group, 0.0), weighed)
        for group, score in best.items():
            ranked[group].score += score
    for entry in ranked.values():
        if entry.score:
            entry.score += _recency(entry.messages.values(), now)
        entry.documents = dict(sorted(entry.documents.items(), key=lambda item: (-item[1], item[0])))
    return sorted(
        ranked.values(), key=lambda entry: (-entry.score, entry.best_rank, next(iter(entry.messages)))
    )


def _scaled(candidates: Sequence[Candidate]) -> list[float]:
    if not candidates:
        return []
    first = candidates[:SCALED]
    high, low = first[0].score, first[-1].score
    scaled = [(candidate.score - low) / (high - low) if high > low else 1.0 for candidate in first]
    return scaled + [0.0] * (len(candidates) - len(first))


def _recency(candidates: Iterable[Candidate], now: datetime | None) -> float:
    newest = max((candidate.sent_at or 0 for candidate in candidates), default=0)
    if now is None or not newest:
        return 0.0
    age_days = max(0.0, (now.timestamp() * 1000 - newest) / DAY_MILLISECONDS)
    return float(RECENCY_WEIGHT * 0.5 ** (age_days / RECENCY_HALF_LIFE_DAYS))
