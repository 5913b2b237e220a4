"""Find messages by words, by meaning, or by both; every answer says where it matched.

Two lists of documents (BM25 over fields, kNN over chunks) are scaled to [0, 1] each, weighed, added up, and
grouped by message. The scaling is min-max: on three of four public test sets it beat reciprocal ranks, which
the server would only do under a paid licence.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from connectors.elasticsearch import Index
from connectors.encoder import Encoder
from schemas.events import HIDDEN_LABELS

# Documents taken from each list before they are fused; a page of results needs far fewer.
CANDIDATES = 100
KNN_CANDIDATES = 300
SNIPPET_CHARACTERS = 240
# Around a highlighted word: two characters that stand in no text we index.
MARK_START, MARK_END = "\x02", "\x03"

_FIELDS = (
    *("kind", "mailbox_id", "message_id", "message_key", "thread_id", "part_path", "rfc_message_id"),
    *("subject", "sender", "sent_at", "label_ids", "filename", "content_type"),
)
# A word in the subject or a file name says more than the same word in a long text.
_SEARCHED = ["subject^2", "text", "filename^2", "title", "sender", "to"]


class Mode(StrEnum):
    """By words, by meaning, or both."""

    HYBRID = "hybrid"
    KEYWORD = "keyword"
    SEMANTIC = "semantic"


@dataclass(frozen=True, slots=True)
class Match:
    """Where a message matched: its body, or an attachment and the place in it."""

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
    """A message with the places where it matched, the best first. ``score`` is in [0, 1]."""

    mailbox_id: str
    message_id: str
    thread_id: str | None
    rfc_message_id: str | None
    subject: str
    sender: str
    sent_at: int | None
    label_ids: tuple[str, ...]
    score: float = 0.0
    matches: list[Match] = field(default_factory=list)


async def search(
    index: Index,
    encoder: Encoder | None,
    text: str,
    *,
    mode: Mode = Mode.HYBRID,
    mailbox_ids: Sequence[str] | None = None,
    labels: Sequence[Mapping[str, str]] = (),
    limit: int = 10,
) -> list[Hit]:
    """The best ``limit`` messages for ``text``, in the given mailboxes or in all, that bear all ``labels``
    (each the label's id by mailbox id).

    ``encoder`` may be None in keyword mode only. Raises ConfigurationError when there is no index yet.
    """
    filters = _filters(mailbox_ids, labels)
    requests = []
    if mode is not Mode.SEMANTIC:
        requests.append(_keyword(text, filters))
    if mode is not Mode.KEYWORD:
        assert encoder is not None, "meaning needs an encoder"
        [vector] = await asyncio.to_thread(encoder.encode, [text])
        requests.append(_semantic([float(number) for number in vector], filters))
    answers = await asyncio.gather(*(index.search(request) for request in requests))
    return _grouped(_fused([answer["hits"]["hits"] for answer in answers]), limit)


def _filters(mailbox_ids: Sequence[str] | None, labels: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    wanted: list[dict[str, Any]] = [{"term": {"live": True}}]
    if mailbox_ids is not None:
        wanted.append({"terms": {"mailbox_id": list(mailbox_ids)}})
    for label in labels:
        borne = [
            {"bool": {"filter": [{"term": {"mailbox_id": mailbox_id}}, {"term": {"label_ids": label_id}}]}}
            for mailbox_id, label_id in label.items()
        ]
        wanted.append({"bool": {"should": borne, "minimum_should_match": 1}})
    # Spam and trash are found by whoever asks for them.
    asked_for = {label_id for label in labels for label_id in label.values()}
    hidden = sorted(HIDDEN_LABELS - asked_for)
    return {"bool": {"filter": wanted, "must_not": [{"terms": {"label_ids": hidden}}]}}


def _keyword(text: str, filters: Mapping[str, Any]) -> dict[str, Any]:
    place = {
        "nested": {
            "path": "chunks",
            "score_mode": "max",
            "query": {"match": {"chunks.text": text}},
            "inner_hits": {
                "size": 1,
                "_source": ["chunks.text", "chunks.page", "chunks.label"],
                "highlight": {
                    "pre_tags": [MARK_START],
                    "post_tags": [MARK_END],
                    "fields": {
                        "chunks.text": {"fragment_size": SNIPPET_CHARACTERS, "number_of_fragments": 1}
                    },
                },
            },
        }
    }
    words = {"multi_match": {"query": text, "fields": _SEARCHED, "type": "most_fields"}}
    return {
        "query": {"bool": {"must": [words], "should": [place], "filter": [filters]}},
        "size": CANDIDATES,
        "source_includes": list(_FIELDS),
    }


def _semantic(vector: list[float], filters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "knn": {
            "field": "chunks.vector",
            "query_vector": vector,
            "k": CANDIDATES,
            "num_candidates": KNN_CANDIDATES,
            "filter": filters,
            "inner_hits": {"size": 1, "_source": ["chunks.text", "chunks.page", "chunks.label"]},
        },
        "size": CANDIDATES,
        "source_includes": list(_FIELDS),
    }


def _fused(lists: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[float, Mapping[str, Any], Match]]:
    """Documents with their fused score; the place comes from the list that ranked the document higher."""
    scores: dict[str, float] = {}
    best: dict[str, tuple[float, Mapping[str, Any]]] = {}
    for hits in lists:
        if not hits:
            continue
        low, high = hits[-1]["_score"], hits[0]["_score"]
        for hit in hits:
            scaled = (hit["_score"] - low) / (high - low) if high > low else 1.0
            document = hit["_id"]
            scores[document] = scores.get(document, 0.0) + scaled / len(lists)
            if document not in best or scaled > best[document][0]:
                best[document] = (scaled, hit)
    return [
        (score, best[document][1], _match(best[document][1], score)) for document, score in scores.items()
    ]


def _match(hit: Mapping[str, Any], score: float) -> Match:
    source = hit["_source"]
    inner = hit.get("inner_hits", {}).get("chunks", {}).get("hits", {}).get("hits", [])
    chunk = inner[0] if inner else {}
    stored = chunk.get("_source", {})
    marked = chunk.get("highlight", {}).get("chunks.text", [])
    snippet = marked[0] if marked else str(stored.get("text", ""))[:SNIPPET_CHARACTERS]
    return Match(
        part_path=source.get("part_path", ""),
        filename=source.get("filename"),
        page=stored.get("page"),
        label=stored.get("label"),
        snippet=" ".join(snippet.split()),
        score=score,
    )


def _grouped(found: Sequence[tuple[float, Mapping[str, Any], Match]], limit: int) -> list[Hit]:
    hits: dict[str, Hit] = {}
    for score, document, match in sorted(found, key=lambda entry: (-entry[0], entry[1]["_id"])):
        source = document["_source"]
        hit = hits.setdefault(
            source["message_key"],
            Hit(
                mailbox_id=source["mailbox_id"],
                message_id=source["message_id"],
                thread_id=source.get("thread_id"),
                rfc_message_id=source.get("rfc_message_id"),
                subject=source.get("subject", ""),
                sender=source.get("sender", ""),
                sent_at=source.get("sent_at"),
                label_ids=tuple(source.get("label_ids", ())),
                score=score,
            ),
        )
        hit.matches.append(match)
    return list(hits.values())[:limit]
