"""Find messages by words, by meaning, or by both; every answer says where it matched.

Two lists of documents (BM25 over stems, kNN over chunks) are asked for at once and made one ranking of
messages (``ranking``). A further request reads the documents of the page shown, and where they matched.
Every request carries the caller's ``Access`` as a filter, kNN included.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from connectors.elasticsearch import Index
from connectors.errors import ConfigurationError
from schemas.words import query_stems, words
from search.access import Access
from search.conditions import Clause, Conditions, Context
from search.corrections import correct
from search.cursors import MAX_CANDIDATES, read_cursor, written_cursor
from search.hits import SHOWN, Question, described, read_hits
from search.query import Query
from search.ranking import FIELDS, SCALED, SHORT_QUERY_WORDS, Candidate, rank
from search.results import Hit, Mode, Results

# Documents taken from each list before they are fused for a first page; MAX_CANDIDATES for the last.
CANDIDATES = SCALED
# How many the search among vectors looks at: at least, and for each that it returns. Where words help, what
# is overlooked among vectors costs little; alone, it costs rank.
KNN_CANDIDATES, KNN_OVERSAMPLING, LONE_KNN_OVERSAMPLING = 100, 1.5, 4
# Alone, twice as many as are returned are measured once more, by the vectors as they were computed: by those
# in eight bits the ranking is another one wherever an index is cut into other segments.
LONE_RESCORE_OVERSAMPLING = 2.0
# Among how many of the best by words one is looked for that has two of them.
AGREEING = 20
_AGREES = 2.0**40  # no score is larger than its root, nor one above zero smaller than one by its root
# What says more than the same word in a long text: the subject, then the names of people and files.
_SEARCHED = ["subject_stems^3", "names_stems^2", "text_stems"]
# What a list by words counts beside one by meaning, where no document has more than one of several words: its
# best is chance then.
LONE_WORD_WEIGHT = 0.1
# Clauses are limited by the server; a question has no more words that matter.
MAX_WORDS = 200
# Messages that a condition on files or words can hold for; the newest ones where there are more.
MAX_JOINED = 20_000


class QueryEncoder(Protocol):
    """What is asked of an encoder here (``connectors.encoder``). Blocking: it is called in a thread."""

    def encode(self, texts: Sequence[str]) -> Iterable[Iterable[float]]:
        """A unit vector for each text."""


class Retrieval:
    """The query side of one index. ``encoder`` None: keyword mode only."""

    def __init__(self, index: Index, encoder: QueryEncoder | None) -> None:
        self._index = index
        self._encoder = encoder

    async def search(
        self,
        query: Query,
        access: Access,
        *,
        mode: Mode = Mode.HYBRID,
        limit: int = 10,
        cursor: str | None = None,
        context: Context | None = None,
    ) -> Results:
        """A page of messages for ``query`` among what ``access`` allows: the best first, or the newest where
        the query has conditions only.

        Raises QueryError, CursorError, ConfigurationError when there is no index or no encoder, and
        UnavailableError.
        """
        context = context or Context.default()
        conditions = Conditions(query, context)
        is_ranked = bool(words(conditions.text))
        position = read_cursor(cursor, query, mode, is_ranked)
        filters = await self._filters(conditions, access)
        if not is_ranked:
            return await self._newest(filters, limit, position, query, mode)
        question = Question(
            query_stems(conditions.text)[:MAX_WORDS],
            await self._vector(conditions.text) if mode is not Mode.KEYWORD else None,
        )
        offset = int(position[0]) if position else 0
        end = offset + limit
        size = min(max(CANDIDATES, end + 1), MAX_CANDIDATES)
        by_meaning, (by_words, words_agree) = await asyncio.gather(
            # First, because it takes longer.
            self._by_meaning(question, filters, size, alone=mode is Mode.SEMANTIC),
            self._by_words(question, filters, size) if mode is not Mode.SEMANTIC else _nothing(),
        )
        results = Results([])
        if mode is not Mode.SEMANTIC and not by_words:
            corrected = await correct(self._index, query, filters)
            if corrected and not by_meaning:
                found = await self.search(corrected, access, mode=mode, limit=limit, context=context)
                found.cursor, found.showing_results_for = None, str(corrected)
                return found
            results.did_you_mean = str(corrected) if corrected else None
        moment = context.now if len(question.stems) <= SHORT_QUERY_WORDS else None
        weights = (1.0 if words_agree else LONE_WORD_WEIGHT, 1.0) if by_words else (1.0,)
        ranked = rank([found for found in (by_words, by_meaning) if found], moment, weights)
        results.hits = await read_hits(
            self._index, ranked[offset:end], question, access, (by_words, by_meaning)
        )
        more = size < MAX_CANDIDATES and any(len(found) == size for found in (by_words, by_meaning))
        if end < len(ranked) or (more and results.hits):
            results.cursor = written_cursor([end], query, mode)
        return results

    async def matching(self, query: Query, access: Access, context: Context) -> Clause:
        """What a document must fulfil to belong to ``query``: its conditions, and one of its words at least.

        Raises QueryError, UnavailableError.
        """
        conditions = Conditions(query, context)
        filters = await self._filters(conditions, access)
        stems = query_stems(conditions.text)[:MAX_WORDS]
        if not stems:
            return filters
        fields = [field.partition("^")[0] for field in _SEARCHED]
        words_of = {"combined_fields": {"query": " ".join(stems), "fields": fields}}
        return {"bool": {"filter": [filters, words_of]}}

    async def _vector(self, text: str) -> list[float]:
        if self._encoder is None:
            raise ConfigurationError("meaning needs an encoder: search with the mode keyword, or set ENCODER")
        [vector] = await asyncio.to_thread(self._encoder.encode, [text])
        return [float(number) for number in vector]

    async def _filters(self, conditions: Conditions, access: Access) -> Clause:
        """All that must hold for a document, in one clause."""
        hidden = [{"terms": {"label_ids": conditions.hidden}}] if conditions.hidden else []
        visible = {"filter": [*access.clauses(), *conditions.shared], "must_not": hidden}
        joined = await asyncio.gather(*(self._messages(part, visible) for part in conditions.on_parts))
        return {"bool": {"filter": [*access.clauses(), *conditions.clauses(joined)], "must_not": hidden}}

    async def _messages(self, part: Clause, visible: Mapping[str, Any]) -> Clause:
        """The messages one of whose documents fulfils ``part``, as a clause on all of their documents."""
        groups = {
            "terms": {"field": "message_key", "size": MAX_JOINED, "order": {"newest": "desc"}},
            "aggs": {"newest": {"max": {"field": "sent_at"}}},
        }
        response = await self._index.search(
            {
                "query": {"bool": {**visible, "filter": [*visible["filter"], part]}},
                "size": 0,
                "aggs": {"messages": groups},
            }
        )
        found = response["aggregations"]["messages"]
        keys = {"terms": {"message_key": [bucket["key"] for bucket in found["buckets"]]}}
        if not found["sum_other_doc_count"]:
            return keys
        # Beyond what can be joined, a document counts by itself.
        return {"bool": {"should": [keys, part], "minimum_should_match": 1}}

    async def _by_words(self, question: Question, filters: Clause, size: int) -> tuple[list[Candidate], bool]:
        """The best by words, and whether one of them has two of the words, where that is to be expected."""
        asked = {"query": " ".join(question.stems), "fields": _SEARCHED}
        matching = {"must": [{"combined_fields": asked}], "filter": [filters]}
        request: dict[str, Any] = {"query": {"bool": matching}}
        if question.vector is None or len(set(question.stems)) <= 2:
            return await self._candidates(request, size), True
        # The server tells by the scores: those of documents with two words are multiplied, without rounding.
        two = {"combined_fields": {**asked, "minimum_should_match": 2}}
        marked = {"constant_score": {"filter": two, "boost": _AGREES}}
        request["rescore"] = {
            "window_size": AGREEING,
            "query": {"rescore_query": marked, "score_mode": "multiply"},
        }
        found = await self._candidates(request, size)
        agree = any(candidate.score > _AGREES**0.5 for candidate in found)
        plain = [
            replace(candidate, score=candidate.score / _AGREES)
            if candidate.score > _AGREES**0.5
            else candidate
            for candidate in found
        ]
        return sorted(plain, key=lambda candidate: -candidate.score), agree

    async def _by_meaning(
        self, question: Question, filters: Clause, size: int, *, alone: bool
    ) -> list[Candidate]:
        if question.vector is None:
            return []
        oversampling = LONE_KNN_OVERSAMPLING if alone else KNN_OVERSAMPLING
        looked_at = max(KNN_CANDIDATES, int(size * oversampling))
        nearest: dict[str, Any] = {"k": size, "num_candidates": looked_at, "filter": filters}
        if alone:
            nearest["rescore_vector"] = {"oversample": LONE_RESCORE_OVERSAMPLING}
        return await self._candidates({"knn": {**question.knn, **nearest}}, size)

    async def _candidates(self, request: Mapping[str, Any], size: int) -> list[Candidate]:
        response = await self._index.search(
            {
                **request,
                "size": size,
                "source": False,  # whole texts and vectors would be read for nothing
                "docvalue_fields": list(FIELDS),
                "track_total_hits": False,
            }
        )
        return [Candidate.read(hit) for hit in response["hits"]["hits"]]

    async def _newest(
        self, filters: Clause, limit: int, position: Sequence[Any], query: Query, mode: Mode
    ) -> Results:
        body: dict[str, Any] = {
            "query": {"bool": {"filter": [filters, {"term": {"kind": "message"}}]}},
            "size": limit,
            "sort": [{"sent_at": {"order": "desc", "missing": "_last"}}, {"message_key": "asc"}],
            "source_includes": SHOWN,
            "track_total_hits": False,
        }
        if position:
            body["search_after"] = list(position)
        found = (await self._index.search(body))["hits"]["hits"]
        hits: dict[tuple[str | None, str], Hit] = {}
        for document in found:
            hit = described(document["_source"], 1.0)
            known = hits.setdefault((hit.rfc_message_id or hit.message_key, hit.subject), hit)
            if known is not hit:
                known.copies.append((hit.mailbox_id, hit.message_id))
        cursor = written_cursor(found[-1]["sort"], query, mode) if len(found) == limit else None
        return Results(list(hits.values()), cursor)


async def _nothing() -> tuple[list[Candidate], bool]:
    return [], True
