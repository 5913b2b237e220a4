"""What a query's messages have in common: senders, labels, types and months, each as the query it adds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from email.utils import parseaddr
from typing import Any

from connectors.elasticsearch import Index
from schemas.events import HIDDEN_LABELS
from search.access import Access
from search.answers import FacetAnswer, FacetsAnswer
from search.conditions import TYPES, Context
from search.query import Query, Term
from search.retrieval import Retrieval

SIZE = 20


async def facets(
    index: Index, retrieval: Retrieval, query: Query, access: Access, context: Context
) -> FacetsAnswer:
    """Facets of what fulfils ``query``, by kind, the commonest first; they count messages, those of types
    attachments. Raises QueryError, UnavailableError."""
    matching = await retrieval.matching(query, access, context)
    messages = {"cardinality": {"field": "message_key"}}

    def counted(field: str, size: int = SIZE) -> dict[str, Any]:
        return {"terms": {"field": field, "size": size}, "aggs": {"messages": messages}}

    months = {"field": "sent_at", "calendar_interval": "month", "format": "yyyy-MM", "min_doc_count": 1}
    response = await index.search(
        {
            "query": matching,
            "size": 0,
            "track_total_hits": False,
            "aggs": {
                "sender": counted("sender.raw"),
                # A label's id means something in its mailbox only.
                "label": {
                    "terms": {"field": "mailbox_id", "size": 100},
                    "aggs": {"labels": counted("label_ids", 50)},
                },
                "type": counted("content_type", 50),
                "month": {"date_histogram": months, "aggs": {"messages": messages}},
            },
        }
    )
    found = response["aggregations"]
    return FacetsAnswer(
        sender=_senders(found["sender"]["buckets"]),
        label=_labels(found["label"]["buckets"], context),
        type=_types(found["type"]["buckets"]),
        month=[_month(bucket) for bucket in reversed(found["month"]["buckets"])],
    )


def _facet(operator: str, name: str, count: int, value: str) -> FacetAnswer:
    return FacetAnswer(name=name, count=count, query=str(Term(operator, value)))


def _senders(buckets: Iterable[Mapping[str, Any]]) -> list[FacetAnswer]:
    people: Counter[tuple[str, str]] = Counter()
    names: dict[str, str] = {}
    for bucket in buckets:
        name, address = parseaddr(bucket["key"])
        address = (address or bucket["key"]).lower()
        names.setdefault(address, name or address)
        people[(names[address], address)] += bucket["messages"]["value"]
    return [_facet("from", name, count, address) for (name, address), count in people.most_common(SIZE)]


def _labels(boxes: Iterable[Mapping[str, Any]], context: Context) -> list[FacetAnswer]:
    names: Counter[str] = Counter()
    for box in boxes:
        for bucket in box["labels"]["buckets"]:
            if bucket["key"] not in HIDDEN_LABELS:
                names[context.labels.name(box["key"], bucket["key"])] += bucket["messages"]["value"]
    return [_facet("label", name, count, name) for name, count in names.most_common(SIZE)]


def _types(buckets: Iterable[Mapping[str, Any]]) -> list[FacetAnswer]:
    """Types as people call them; what has no such name by its media type."""
    types: Counter[str] = Counter()
    for bucket in buckets:
        types[_called(bucket["key"])] += bucket["doc_count"]
    return [_facet("type", name, count, name) for name, count in types.most_common(SIZE)]


def _called(content_type: str) -> str:
    for name, patterns in TYPES.items():
        for pattern in patterns:
            begins = pattern.removesuffix("*")
            if content_type == pattern or (begins != pattern and content_type.startswith(begins)):
                return name
    return content_type


def _month(bucket: Mapping[str, Any]) -> FacetAnswer:
    name = bucket["key_as_string"]
    year, month = map(int, name.split("-"))
    following = (year + month // 12, month % 12 + 1)
    query = f"after:{year:04}-{month:02}-01 before:{following[0]:04}-{following[1]:02}-01"
    return FacetAnswer(name=name, count=bucket["messages"]["value"], query=query)
