"""Find messages by words, by meaning, or by both; every answer says where it matched.

Two lists of documents (BM25 over stems, kNN over chunks) are asked for at once and made one ranking of
messages (``ranking``). A second pair of requests looks for the places within the documents of the page shown.
Every request carries the caller's ``Access`` as a filter, kNN included.
"""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.elasticsearch import Index
from connectors.encoder import Encoder
from connectors.errors import ConfigurationError, MailstreamError
from schemas.words import query_stems, words
from search.access import Access
from search.conditions import Clause, Conditions, Context
from search.corrections import correct
from search.query import Query
from search.ranking import FIELDS, SHORT_QUERY_WORDS, Candidate, Ranked, rank
from search.results import Hit, Match, Mode, Results
from search.snippets import snippet

# Documents taken from each list before they are fused; also how deep a ranking can be paged.
CANDIDATES = 200
KNN_CANDIDATES = 400
# What says more than the same word in a long text: the subject, then the names of people and files.
_SEARCHED = ["subject_stems^3", "names_stems^2", "text_stems"]
# What a list by words counts beside one by meaning, where no document has more than one of several words: its
# best is chance then.
LONE_WORD_WEIGHT = 0.1
# Clauses are limited by the server; a question has no more words that matter.
MAX_WORDS = 200
# Messages that a condition on files or words can hold for; the newest ones where there are more.
MAX_JOINED = 20_000
MATCHES_PER_HIT = 3

_SHOWN = (
    *("kind", "mailbox_id", "message_id", "message_key", "thread_id", "part_path", "rfc_message_id"),
    *("subject", "sender", "to", "sent_at", "label_ids", "has_attachment", "filename", "content_type"),
)
_PLACE = ["chunks.text", "chunks.page", "chunks.label"]


class CursorError(MailstreamError):
    """A cursor that this program did not make, or made for another query."""


class Retrieval:
    """The query side of one index. ``encoder`` None: keyword mode only."""

    def __init__(self, index: Index, encoder: Encoder | None) -> None:
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
        position = _read_cursor(cursor, query, mode)
        filters = await self._filters(conditions, access)
        if not words(conditions.text):
            return await self._newest(filters, limit, position, query, mode)
        question = _Question(
            query_stems(conditions.text)[:MAX_WORDS],
            await self._vector(conditions.text) if mode is not Mode.KEYWORD else None,
        )
        by_words, by_meaning, words_agree = await asyncio.gather(
            self._by_words(question, filters) if mode is not Mode.SEMANTIC else _nothing(),
            self._by_meaning(question, filters),
            self._words_agree(question, filters),
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
        offset = int(position[0]) if position else 0
        results.hits = await self._shown(ranked[offset : offset + limit], question, access)
        if offset + limit < len(ranked):
            results.cursor = _cursor([offset + limit], query, mode)
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

    async def _by_words(self, question: "_Question", filters: Clause) -> list[Candidate]:
        asked = {"combined_fields": {"query": " ".join(question.stems), "fields": _SEARCHED}}
        return await self._candidates({"query": {"bool": {"must": [asked], "filter": [filters]}}})

    async def _words_agree(self, question: "_Question", filters: Clause) -> bool:
        """Whether any document has two of the question's words, where there are enough to expect that."""
        if question.vector is None or len(set(question.stems)) <= 2:
            return True
        asked = {"query": " ".join(question.stems), "fields": _SEARCHED, "minimum_should_match": 2}
        response = await self._index.search(
            {
                "query": {"bool": {"filter": [{"combined_fields": asked}, filters]}},
                "size": 0,
                "terminate_after": 1,
                "track_total_hits": 1,
            }
        )
        return bool(response["hits"]["total"]["value"])

    async def _by_meaning(self, question: "_Question", filters: Clause) -> list[Candidate]:
        if question.vector is None:
            return []
        nearest = {"k": CANDIDATES, "num_candidates": KNN_CANDIDATES, "filter": filters}
        return await self._candidates({"knn": {**question.knn, **nearest}})

    async def _candidates(self, request: Mapping[str, Any]) -> list[Candidate]:
        response = await self._index.search(
            {
                **request,
                "size": CANDIDATES,
                "source": False,  # whole texts and vectors would be read for nothing
                "docvalue_fields": list(FIELDS),
                "track_total_hits": False,
            }
        )
        return [Candidate.read(hit) for hit in response["hits"]["hits"]]

    async def _shown(self, page: Sequence[Ranked], question: "_Question", access: Access) -> list[Hit]:
        """The messages of a page, read, with the places where they matched."""
        ids = [document for ranked in page for document in list(ranked.documents)[:MATCHES_PER_HIT]]
        if not ids:
            return []
        allowed = {"bool": {"filter": [{"ids": {"values": ids}}, *access.clauses()]}}
        by_words, by_meaning = await asyncio.gather(
            self._index.search(
                {
                    "query": {"bool": {"filter": [allowed], "should": [_place(question.stems)]}},
                    "size": len(ids),
                    "source_includes": list(_SHOWN),
                }
            ),
            self._index.search(
                {
                    "knn": {
                        **question.knn,
                        "k": len(ids),
                        "num_candidates": max(len(ids), 50),
                        "filter": allowed,
                        "inner_hits": {"size": 1, "_source": _PLACE},
                    },
                    "size": len(ids),
                    "source": False,
                }
            )
            if question.vector is not None
            else _no_hits(),
        )
        documents = {hit["_id"]: hit for hit in by_words["hits"]["hits"]}
        nearest = {hit["_id"]: _chunk(hit) for hit in by_meaning["hits"]["hits"]}
        return [
            _hit(ranked, documents, nearest, question.stems)
            for ranked in page
            # A document that was deleted a moment ago is no longer there to be read.
            if any(document in documents for document in list(ranked.documents)[:MATCHES_PER_HIT])
        ]

    async def _newest(
        self, filters: Clause, limit: int, position: Sequence[Any], query: Query, mode: Mode
    ) -> Results:
        body: dict[str, Any] = {
            "query": {"bool": {"filter": [filters, {"term": {"kind": "message"}}]}},
            "size": limit,
            "sort": [{"sent_at": {"order": "desc", "missing": "_last"}}, {"message_key": "asc"}],
            "source_includes": list(_SHOWN),
            "track_total_hits": False,
        }
        if position:
            body["search_after"] = list(position)
        found = (await self._index.search(body))["hits"]["hits"]
        hits: dict[tuple[str | None, str], Hit] = {}
        for document in found:
            hit = _described(document["_source"], 1.0)
            known = hits.setdefault((hit.rfc_message_id or hit.message_key, hit.subject), hit)
            if known is not hit:
                known.copies.append((hit.mailbox_id, hit.message_id))
        cursor = _cursor(found[-1]["sort"], query, mode) if len(found) == limit else None
        return Results(list(hits.values()), cursor)


@dataclass(frozen=True, slots=True)
class _Question:
    stems: list[str]
    vector: list[float] | None

    @property
    def knn(self) -> dict[str, Any]:
        return {"field": "chunks.vector", "query_vector": self.vector}


async def _nothing() -> list[Candidate]:
    return []


async def _no_hits() -> dict[str, Any]:
    return {"hits": {"hits": []}}


def _place(stems: Sequence[str]) -> Clause:
    """The chunk with most of the words. Chunks are not stemmed: their words begin like the stems."""
    beginnings = [
        {"constant_score": {"filter": {"prefix": {"chunks.text": _beginning(stem)}}}} for stem in stems[:32]
    ]
    first = {"constant_score": {"filter": {"term": {"chunks.ordinal": 0}}, "boost": 0.01}}
    return {
        "nested": {
            "path": "chunks",
            "score_mode": "max",
            "query": {"bool": {"should": [*beginnings, first]}},
            "inner_hits": {"size": 1, "_source": _PLACE},
        }
    }


def _beginning(stem: str) -> str:
    """What a stem has in common with the words it stands for: "deliveri" stands for delivery."""
    return stem[:-1] if len(stem) > 3 and stem[-1] == "i" else stem


def _chunk(hit: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = hit.get("inner_hits", {}).get("chunks", {}).get("hits", {}).get("hits", [])
    return dict(inner[0]["_source"]) if inner else {}


def _hit(
    ranked: Ranked,
    documents: Mapping[str, Mapping[str, Any]],
    nearest: Mapping[str, Mapping[str, Any]],
    stems: Sequence[str],
) -> Hit:
    shown = [document for document in list(ranked.documents)[:MATCHES_PER_HIT] if document in documents]
    hit = _described(documents[shown[0]]["_source"], ranked.score)
    parts: set[str] = set()
    for document in shown:
        source = documents[document]["_source"]
        if source["part_path"] in parts:
            continue  # the same part of a copy
        parts.add(source["part_path"])
        chunk = _chunk(documents[document])
        if document in nearest and not set(stems) & set(query_stems(chunk.get("text", ""))):
            chunk = nearest[document]
        hit.matches.append(
            Match(
                part_path=source["part_path"],
                filename=source.get("filename"),
                page=chunk.get("page"),
                label=chunk.get("label"),
                snippet=snippet(chunk.get("text", ""), stems),
                score=ranked.documents[document],
            )
        )
    hit.copies = [
        (candidate.mailbox_id, candidate.message_id)
        for key, candidate in ranked.messages.items()
        if key != hit.message_key
    ]
    return hit


def _described(source: Mapping[str, Any], score: float) -> Hit:
    return Hit(
        mailbox_id=source["mailbox_id"],
        message_id=source["message_id"],
        message_key=source["message_key"],
        thread_id=source.get("thread_id"),
        rfc_message_id=source.get("rfc_message_id"),
        subject=source.get("subject", ""),
        sender=source.get("sender", ""),
        to=tuple(source.get("to", ())),
        sent_at=source.get("sent_at"),
        label_ids=tuple(source.get("label_ids", ())),
        has_attachment=source.get("has_attachment", source["kind"] == "attachment"),
        score=score,
    )


def _digest(query: Query, mode: Mode) -> str:
    return hashlib.sha256(f"{mode} {query}".encode()).hexdigest()[:12]


def _cursor(position: Sequence[Any], query: Query, mode: Mode) -> str:
    return base64.urlsafe_b64encode(json.dumps([_digest(query, mode), *position]).encode()).decode()


def _read_cursor(cursor: str | None, query: Query, mode: Mode) -> list[Any]:
    if cursor is None:
        return []
    try:
        digest, *position = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        is_ours = digest == _digest(query, mode) and _is_position(position)
    except (binascii.Error, UnicodeError, ValueError, TypeError):
        is_ours = False
    if not is_ours:
        raise CursorError("this cursor belongs to another query: begin again without one")
    return list(position)


def _is_position(position: Sequence[Any]) -> bool:
    """A place in a ranking, or the (date, key) after which a list goes on."""
    if len(position) == 1:
        return type(position[0]) is int and 0 <= position[0] <= 2 * CANDIDATES
    return len(position) == 2 and type(position[0]) is int and type(position[1]) is str
