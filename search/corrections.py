"""What was probably meant, where no word of a query matches: near words of documents that the caller may see.

The server's suggest API would answer from everybody's words; here the words come out of found documents.
"""

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

from connectors.elasticsearch import Index
from schemas.words import STOP_WORDS, stems, words
from search.conditions import Clause
from search.query import Query, Word

_FIELDS = ("subject_stems", "names_stems", "text_stems")
# The documents that are read for near words, and how much of each.
_DOCUMENTS = 5
_WORDS_EACH = 5_000
_MIN_CHARACTERS = 4
_MIN_RATIO = 0.7


async def correct(index: Index, query: Query, filters: Clause) -> Query | None:
    """The query with its mistyped words replaced by words that are there; None where nothing is near."""
    typed = [
        node.text
        for node in query.nodes
        if isinstance(node, Word)
        and len(node.text) >= _MIN_CHARACTERS
        and node.text.lower() not in STOP_WORDS
    ]
    near: dict[str, str] = {}
    for word in typed[:8]:
        found = await _near(index, word, filters)
        if found:
            near[word] = found
    if not near:
        return None
    return Query(
        tuple(
            Word(near.get(node.text, node.text)) if isinstance(node, Word) else node for node in query.nodes
        )
    )


async def _near(index: Index, word: str, filters: Clause) -> str | None:
    asked = [
        {"fuzzy": {field: {"value": stem, "fuzziness": "AUTO", "max_expansions": 30}}}
        for field in _FIELDS
        for stem in stems(word)
    ]
    response = await index.search(
        {
            "query": {"bool": {"should": asked, "minimum_should_match": 1, "filter": [filters]}},
            "size": _DOCUMENTS,
            "source_includes": ["subject", "sender", "to", "filename", "title", "text"],
        }
    )
    candidates = {near for hit in response["hits"]["hits"] for near in _words_of(hit["_source"])}
    wanted = "".join(words(word))
    scored = ((SequenceMatcher(None, wanted, near).ratio(), near) for near in candidates)
    ratio, best = max(scored, default=(0.0, ""))
    return best if ratio >= _MIN_RATIO else None


def _words_of(source: Mapping[str, Any]) -> Iterable[str]:
    for value in source.values():
        for text in [value] if isinstance(value, str) else value:
            for word in words(text[: _WORDS_EACH * 10])[:_WORDS_EACH]:
                if len(word) >= _MIN_CHARACTERS:
                    yield word
