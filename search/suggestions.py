"""What a query may go on with: senders and files that the caller may see, as they stand in the index.

Counted by aggregations under the caller's filter. The server's suggest API reads everybody's words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any

from connectors.elasticsearch import Index
from schemas.events import HIDDEN_LABELS
from search.access import Access
from search.query import Term

MAX_CHARACTERS = 64
_FIELDS: Mapping[str, str] = {"from": "sender.raw", "filename": "filename.raw"}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A term for the query, what to show for it, and how many documents bear it."""

    query: str
    shown: str
    documents: int


async def suggest(index: Index, beginning: str, access: Access, limit: int = 5) -> list[Suggestion]:
    """Senders and files with a word that begins like ``beginning``: of each the ``limit`` most frequent."""
    beginning = beginning.strip()[:MAX_CHARACTERS]
    if not beginning:
        return []
    hidden = {"terms": {"label_ids": sorted(HIDDEN_LABELS)}}
    response = await index.search(
        {
            "query": {"bool": {"filter": access.clauses(), "must_not": [hidden]}},
            "size": 0,
            "aggs": {
                operator: {"terms": {"field": field, "size": limit, "include": _pattern(beginning)}}
                for operator, field in _FIELDS.items()
            },
        }
    )
    return [
        suggestion
        for operator in _FIELDS
        for bucket in response["aggregations"][operator]["buckets"]
        if (suggestion := _suggestion(operator, bucket)) is not None
    ]


def _pattern(beginning: str) -> str:
    """A regular expression of Lucene's: in any case, at the border of a word."""
    letters = (
        f"[{character.lower()}{character.upper()}]"
        if character.isalpha() and len(character.lower() + character.upper()) == 2
        else re.sub(r"([.?+*|{}\[\]()\"\\#@&<>~^$-])", r"\\\1", character)
        for character in beginning
    )
    return f"(.*[^a-zA-Z0-9])?{''.join(letters)}.*"


def _suggestion(operator: str, bucket: Mapping[str, Any]) -> Suggestion | None:
    shown = str(bucket["key"])
    value = parseaddr(shown)[1] if operator == "from" else shown
    if not value or '"' in value:
        return None  # the query language has no way to write it
    return Suggestion(str(Term(operator, value)), shown, bucket["doc_count"])
