"""One message, one document, one thread: read as a caller may, with everything they say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.elasticsearch import Index
from search.access import Access

# A page shows this much of a text; the document's own address gives all of it.
SHOWN_CHARACTERS = 100_000
# Parts of one message that are shown with it, and messages of one thread.
MAX_PARTS = 1_000
MAX_THREAD = 500

_HIDDEN = ("chunks", "registers", "parts", "*_stems")


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the index as its fields say, without vectors and bookkeeping."""

    document_id: str
    fields: Mapping[str, Any]


class Reading:
    """Reads by id under a caller's ``Access``: what he may not read is not there."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def message(self, access: Access, mailbox_id: str, message_id: str) -> list[Document]:
        """The message and then its attachments; empty where there is no such message for this caller."""
        wanted = [{"term": {"mailbox_id": mailbox_id}}, {"term": {"message_id": message_id}}]
        found = await self._search(access, wanted, MAX_PARTS, [{"part_path": "asc"}])
        return found if found and found[0].fields["kind"] == "message" else []

    async def document(self, access: Access, document_id: str) -> Document | None:
        """One document with its whole text."""
        found = await self._search(access, [{"ids": {"values": [document_id]}}], 1, ["_doc"])
        return found[0] if found else None

    async def thread(self, access: Access, mailbox_id: str, thread_id: str) -> list[Document]:
        """The messages of a thread in one mailbox, the oldest first, without their texts."""
        wanted = [
            {"term": {"kind": "message"}},
            {"term": {"mailbox_id": mailbox_id}},
            {"term": {"thread_id": thread_id}},
        ]
        order = [{"sent_at": {"order": "asc", "missing": "_last"}}, {"message_key": "asc"}]
        return await self._search(access, wanted, MAX_THREAD, order, hidden=(*_HIDDEN, "text"))

    async def _search(
        self,
        access: Access,
        wanted: list[dict[str, Any]],
        size: int,
        order: list[Any],
        hidden: tuple[str, ...] = _HIDDEN,
    ) -> list[Document]:
        response = await self._index.search(
            {
                "query": {"bool": {"filter": [*access.clauses(), *wanted]}},
                "size": size,
                "sort": order,
                "source_excludes": list(hidden),
                "track_total_hits": False,
            }
        )
        return [Document(hit["_id"], hit["_source"]) for hit in response["hits"]["hits"]]
