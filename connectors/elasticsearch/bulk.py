"""The bulk sink: compare-and-set writes, several requests in flight, each write accounted for by itself."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from elasticsearch import ApiError, AsyncElasticsearch

from connectors.elasticsearch.documents import Write
from connectors.elasticsearch.mapped import BUSY, MISSING, NO_INDEX, mapped
from connectors.errors import (
    ConfigurationError,
    ConflictError,
    DocumentTooLargeError,
    IndexReplacedError,
    MailstreamError,
    RejectedDocumentError,
    UnavailableError,
)
from connectors.metrics import index_bulk_errors_counter
from schemas import mapping

# One request stays well below the server's limit (100 MB), and small enough to be parsed quickly.
MAX_BULK_BYTES = 8 * 1024 * 1024
MAX_BULK_OPERATIONS = 500
# Over all that write through one connection; with MAX_BULK_BYTES it bounds the bytes under way.
BULKS_IN_FLIGHT = 4
# How often refused writes (429, 503) are tried again before the caller hears that the server is overloaded.
BUSY_RETRIES = 6
BUSY_WAIT_SECONDS = 0.2  # doubled each time: 25 s in all
BULK_ERRORS = ("retry", "too_large", "rejected", "unavailable")  # as the metrics know them

_CONFLICT = 409
_HELD = 403
_TOO_LARGE = 413
_MALFORMED = 400


@dataclass(slots=True)
class _Item:
    """A write as it travels, and how it ended."""

    write: Write
    line: bytes
    result: MailstreamError | None = None


class BulkSink:
    """Writes through one client. ``packed_vectors``: whether the server takes vectors in base64."""

    def __init__(self, client: AsyncElasticsearch) -> None:
        self._client = client
        self._slots = asyncio.Semaphore(BULKS_IN_FLIGHT)
        self._errors = {kind: index_bulk_errors_counter.labels(kind=kind) for kind in BULK_ERRORS}
        self.packed_vectors = False

    async def write(self, index: str, writes: Sequence[Write]) -> list[MailstreamError | None]:
        """Write to different documents; one result a write, None where it stands.

        A result is ConflictError (somebody was first: read, merge, write again), IndexReplacedError (the
        same, in another index) or RejectedDocumentError.
        Raises UnavailableError when the server does not take the writes; some may stand then.
        """
        items: list[_Item] = []
        # Made when there is a slot for it: one is written as JSON while others are at the server.
        bulks = _bulks(self._encoded(writes, items))

        async def go_on() -> None:
            for bulk in bulks:
                await self._bulk(index, bulk)

        ended = await asyncio.gather(*(go_on() for _ in range(BULKS_IN_FLIGHT)), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        for item in items:
            if isinstance(item.result, DocumentTooLargeError):
                self._errors["too_large"].inc()
            elif isinstance(item.result, RejectedDocumentError):
                self._errors["rejected"].inc()
        return [item.result for item in items]

    def _encoded(self, writes: Iterable[Write], items: list[_Item]) -> Iterator[_Item]:
        """The writes as they travel, all of which are added to ``items``, without those that cannot."""
        for write in writes:
            item = self._item(write)
            items.append(item)
            if item.result is None:
                yield item

    def _item(self, write: Write) -> _Item:
        target: dict[str, Any] = {"_id": write.document_id}
        if write.expected is not None:
            target["if_seq_no"] = write.expected.seq_no
            target["if_primary_term"] = write.expected.primary_term
        if write.partial:
            action, body = "update", {"doc": write.fields}
        else:
            action, body = "create" if write.expected is None else "index", dict(write.fields)
        try:
            line = orjson.dumps({action: target}) + b"\n" + orjson.dumps(body, default=self._vector)
        except TypeError as error:  # a number beyond 64 bits, half a letter
            cause = RejectedDocumentError("not to be written as JSON")
            cause.__cause__ = error
            return _Item(write, b"", cause)
        return _Item(write, line)

    def _vector(self, value: object) -> str | list[float]:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{type(value).__name__} is no JSON")
        if self.packed_vectors:
            return base64.b64encode(value.astype(">f4").tobytes()).decode()
        # Six decimals are beyond what cosine ranking can tell, and half the bytes.
        return [round(float(number), 6) for number in value]

    async def _bulk(self, index: str, items: Sequence[_Item]) -> None:
        """Write one bulk until every item has its end. Refused items are sent again by themselves."""
        waiting = list(items)
        for attempt in range(BUSY_RETRIES + 1):
            async with self._slots:
                answers = await self._send(index, waiting)
            busy = []
            for item, answer in zip(waiting, answers, strict=True):
                if answer["status"] in BUSY:
                    busy.append(item)
                else:
                    item.result = _result(index, item.write, answer)
            if not busy:
                return
            self._errors["retry"].inc(len(busy))
            waiting = busy
            await asyncio.sleep(BUSY_WAIT_SECONDS * 2**attempt)
        raise UnavailableError("Elasticsearch is overloaded: it keeps refusing writes (429)")

    async def _send(self, index: str, items: Sequence[_Item]) -> list[Mapping[str, Any]]:
        """One request; one answer an item. What is too large, or not understood, is sent in halves."""
        lines: list[Any] = [item.line for item in items]
        with mapped():
            try:
                # Without its alias the server would invent an index of the alias's name, with a mapping of
                # its own.
                response = await self._client.bulk(
                    index=index, operations=lines, require_alias=index == mapping.WRITE_ALIAS
                )
            except ApiError as error:
                status = error.meta.status
                if status in BUSY:
                    return [{"status": status} for _ in items]
                if status not in (_TOO_LARGE, _MALFORMED):
                    raise
                if len(items) == 1:
                    return [{"status": status, "error": {"type": str(error.error)}}]
            else:
                answers = [next(iter(answer.values())) for answer in response["items"]]
                if not any(map(_never_fits, answers, items)):
                    return answers
                if len(items) == 1:
                    return [{"status": _TOO_LARGE, "error": {"type": "beyond the server's memory"}}]
        middle = len(items) // 2
        return [*await self._send(index, items[:middle]), *await self._send(index, items[middle:])]


def _held(answer: Mapping[str, Any]) -> bool:
    return bool(answer["status"] == _HELD and answer["error"]["type"] == "cluster_block_exception")


def _never_fits(answer: Mapping[str, Any], item: _Item) -> bool:
    """Whether an idle server would refuse (429) it, too: its memory for writes is a part of its heap."""
    reason = str(answer.get("error", {}).get("reason", "")) if answer["status"] in BUSY else ""
    sizes = {name: int(size) for name, size in re.findall(r"(\w+_bytes)=(\d+)", reason)}
    limit = next((size for name, size in sizes.items() if name.startswith("max_")), None)
    wanted = next((size for name, size in sizes.items() if name.endswith("_operation_bytes")), 0)
    return limit is not None and wanted + len(item.line) > limit


def _bulks(items: Iterator[_Item]) -> Iterator[list[_Item]]:
    bulk: list[_Item] = []
    size_bytes = 0
    for item in items:
        full = size_bytes + len(item.line) > MAX_BULK_BYTES or len(bulk) >= MAX_BULK_OPERATIONS
        if bulk and full:
            yield bulk
            bulk, size_bytes = [], 0
        bulk.append(item)
        size_bytes += len(item.line)
    if bulk:
        yield bulk


def _result(index: str, write: Write, answer: Mapping[str, Any]) -> MailstreamError | None:
    status, error = answer["status"], answer.get("error")
    if status == _CONFLICT:
        return ConflictError(f"document {write.document_id} changed")
    if status == MISSING and error is not None and error["type"] == "document_missing_exception":
        # A partial write to what somebody has removed: to be read again, like any conflict.
        return ConflictError(f"document {write.document_id} is gone")
    if _held(answer) or (status == MISSING and index != mapping.WRITE_ALIAS):
        return IndexReplacedError(
            f"the index {index} is being replaced (where nobody does that: `mailstream reindex --cancel`)"
        )
    if status == MISSING:
        raise ConfigurationError(NO_INDEX)
    if status == _TOO_LARGE:
        return DocumentTooLargeError("larger than Elasticsearch takes")
    if error is not None:
        cause = error.get("caused_by") or {}
        # The types alone: reasons quote field values, and values are private.
        types = (str(error.get("type", "")), str(cause.get("type", "")))
        return RejectedDocumentError(" ".join(filter(None, types)))
    return None
