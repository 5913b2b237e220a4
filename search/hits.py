"""A page of the ranking as it is answered: its documents are read, and where they matched.

Three kinds of documents are read side by side: those of one piece as they are; of the others the piece with
most of the words, and the one nearest in meaning.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.elasticsearch import Index
from search.access import Access
from search.conditions import Clause
from search.ranking import Candidate, Ranked
from search.results import MARK_START, Hit, Match
from search.snippets import snippet

MATCHES_PER_HIT = 3
SHOWN = [
    *("kind", "mailbox_id", "message_id", "message_key", "thread_id", "part_path", "rfc_message_id"),
    *("subject", "sender", "to", "sent_at", "label_ids", "has_attachment", "filename", "content_type"),
]
_PLACE = ["chunks.text", "chunks.page", "chunks.label"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: by words, and by meaning; ``vector`` None: not by meaning."""

    stems: list[str]
    vector: list[float] | None

    @property
    def knn(self) -> dict[str, Any]:
        """The search among vectors, without its bounds."""
        return {"field": "chunks.vector", "query_vector": self.vector}


@dataclass(frozen=True, slots=True)
class _Document:
    """A document of the page: what is shown of it, and its pieces, the one with most of the words first and
    then the one nearest in meaning."""

    source: Mapping[str, Any]
    chunks: Sequence[Mapping[str, Any]]


async def read_hits(
    index: Index,
    page: Sequence[Ranked],
    question: Question,
    access: Access,
    lists: Sequence[Sequence[Candidate]],
) -> list[Hit]:
    """The messages of a page, read, with the places where they matched."""
    ids = [document for ranked in page for document in list(ranked.documents)[:MATCHES_PER_HIT]]
    by_words, by_meaning = ({each.document_id: each for each in found} for found in lists)
    known = {**by_words, **by_meaning}
    # Where there is one piece at most, that is the place, and none has to be looked for.
    in_one = [each for each in ids if known[each].chunk_count in (0, 1)]
    in_many = [each for each in ids if known[each].chunk_count not in (0, 1)]
    # Of a mail that is in several mailboxes it is told where.
    copies = {each.document_id for ranked in page for each in ranked.copies}
    near = [each for each in in_many if each in by_meaning]
    read = await asyncio.gather(
        _read(index, [*in_one, *copies.difference(ids)], access, _as_they_are),
        _read(
            index,
            [each for each in in_many if each in by_words],
            access,
            lambda allowed: _by_places(question.stems, allowed),
        ),
        _read(index, near, access, lambda allowed: _by_nearest(question.knn, allowed, len(near))),
    )
    found = [{hit["_id"]: hit for hit in hits} for hits in read]
    documents = {
        document: _Document(hit["_source"], [_chunk(each[document]) for each in found if document in each])
        for hits in found
        for document, hit in hits.items()
    }
    return [
        _hit(ranked, documents, question.stems)
        for ranked in page
        # A document that was deleted a moment ago is no longer there to be read.
        if any(document in documents for document in list(ranked.documents)[:MATCHES_PER_HIT])
    ]


async def _read(
    index: Index, ids: Sequence[str], access: Access, request: Callable[[Clause], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    if not ids:
        return []
    allowed = {"bool": {"filter": [{"ids": {"values": list(ids)}}, *access.clauses()]}}
    body = {
        "source_includes": SHOWN,
        **request(allowed),
        "size": len(ids),
        "track_total_hits": False,
    }
    hits: list[dict[str, Any]] = (await index.search(body))["hits"]["hits"]
    return hits


def _as_they_are(allowed: Clause) -> dict[str, Any]:
    """Documents with all of their chunks."""
    return {"query": allowed, "source_includes": [*SHOWN, *_PLACE]}


def _by_places(stems: Sequence[str], allowed: Clause) -> dict[str, Any]:
    """Documents with the chunk that has most of the words. Chunks are not stemmed: their words begin like
    the stems."""
    beginnings = [
        {"constant_score": {"filter": {"prefix": {"chunks.text": _beginning(stem)}}}} for stem in stems[:32]
    ]
    first = {"constant_score": {"filter": {"term": {"chunks.ordinal": 0}}, "boost": 0.01}}
    place = {
        "nested": {
            "path": "chunks",
            "score_mode": "max",
            "query": {"bool": {"should": [*beginnings, first]}},
            "inner_hits": {"size": 1, "_source": _PLACE},
        }
    }
    return {"query": {"bool": {"filter": [allowed], "should": [place]}}}


def _by_nearest(knn: Mapping[str, Any], allowed: Clause, size: int) -> dict[str, Any]:
    """Documents with the chunk that is nearest in meaning."""
    inner = {"size": 1, "_source": _PLACE}
    return {
        "knn": {**knn, "k": size, "num_candidates": max(size, 50), "filter": allowed, "inner_hits": inner}
    }


def _beginning(stem: str) -> str:
    """What a stem has in common with the words it stands for: "deliveri" stands for delivery."""
    return stem[:-1] if len(stem) > 3 and stem[-1] == "i" else stem


def _chunk(hit: Mapping[str, Any]) -> Mapping[str, Any]:
    """The chunk that was looked for, or the only one."""
    if "inner_hits" in hit:
        inner = hit["inner_hits"]["chunks"]["hits"]["hits"]
        return dict(inner[0]["_source"]) if inner else {}
    return dict(next(iter(hit["_source"].get("chunks", ())), {}))


def _hit(
    ranked: Ranked,
    documents: Mapping[str, _Document],
    stems: Sequence[str],
) -> Hit:
    shown = [document for document in list(ranked.documents)[:MATCHES_PER_HIT] if document in documents]
    hit = described(documents[shown[0]].source, ranked.score)
    parts: set[str] = set()
    for document in shown:
        source = documents[document].source
        if source["part_path"] in parts:
            continue  # the same part of a copy
        parts.add(source["part_path"])
        for chunk in documents[document].chunks:
            text = snippet(chunk.get("text", ""), stems)
            if MARK_START in text:
                break
        hit.matches.append(
            Match(
                part_path=source["part_path"],
                filename=source.get("filename"),
                page=chunk.get("page"),
                label=chunk.get("label"),
                snippet=text,
                score=ranked.documents[document],
            )
        )
    sources = (documents[each.document_id].source for each in ranked.copies if each.document_id in documents)
    hit.copies = [
        (source["mailbox_id"], source["message_id"])
        for source in sources
        if source["message_key"] != hit.message_key
    ]
    return hit


def described(source: Mapping[str, Any], score: float) -> Hit:
    """A document's message, as the document says it, without its matches."""
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
