"""What a query may go on with: senders and files that the caller may see, as they stand in the index.

Counted by aggregations under the caller's filter. The server's suggest API reads everybody's words.
"""

from collections.abc import Mapping
from email.utils import parseaddr
from typing import Any

from connectors.elasticsearch import Index
from schemas.events import HIDDEN_LABELS
from search.access import Access
from search.answers import FacetAnswer
from search.conditions import escaped
from search.query import Term

MAX_CHARACTERS = 64
SIZE = 5
_FIELDS: Mapping[str, str] = {"from": "sender.raw", "filename": "filename.raw"}


async def suggest(index: Index, beginning: str, access: Access) -> list[FacetAnswer]:
    """Senders and files with a word that begins like ``beginning``: of each the SIZE most frequent, with the
    number of documents that bear them."""
    beginning = beginning.strip()[:MAX_CHARACTERS]
    if not beginning:
        return []
    hidden = {"terms": {"label_ids": sorted(HIDDEN_LABELS)}}
    response = await index.search(
        {
            "query": {"bool": {"filter": access.clauses(), "must_not": [hidden]}},
            "size": 0,
            "aggs": {
                operator: {"terms": {"field": field, "size": SIZE, "include": _pattern(beginning)}}
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
        else escaped(character)
        for character in beginning
    )
    return f"(.*[^a-zA-Z0-9])?{''.join(letters)}.*"


def _suggestion(operator: str, bucket: Mapping[str, Any]) -> FacetAnswer | None:
    shown = str(bucket["key"])
    value = parseaddr(shown)[1] if operator == "from" else shown
    if not value or '"' in value:
        return None  # the query language has no way to write it
    return FacetAnswer(name=shown, count=bucket["doc_count"], query=str(Term(operator, value)))
