"""The bulk sink over a scripted server: what is sent again, what is split, what is given up."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import ApiError
from prometheus_client import REGISTRY

from connectors.elasticsearch import Stored, Write, bulk
from connectors.elasticsearch.bulk import BulkSink
from connectors.errors import (
    ConflictError,
    DocumentTooLargeError,
    MailstreamError,
    RejectedDocumentError,
    UnavailableError,
)

Answer = Callable[[list[str]], list[dict[str, Any]]]


def _api_error(status: int) -> ApiError:
    node = NodeConfig("http", "127.0.0.1", 9200)
    meta = ApiResponseMeta(status=status, http_version="1.1", headers=HttpHeaders(), duration=0.0, node=node)
    return ApiError("refused", meta, {"error": {"type": "refused"}})


class Server:
    """Answers each bulk with the next scripted answer, and with success when they are used up."""

    def __init__(self, *answers: Answer | int) -> None:
        self.answers = list(answers)
        self.sent: list[list[str]] = []
        self.bodies: list[bytes] = []
        self.under_way = self.most_under_way = 0

    async def bulk(self, *, operations: Sequence[bytes], **_: Any) -> dict[str, Any]:
        ids = [next(iter(orjson.loads(line.split(b"\n")[0]).values()))["_id"] for line in operations]
        self.sent.append(ids)
        self.bodies += operations
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        answer = self.answers.pop(0) if self.answers else (lambda ids: [{"status": 201} for _ in ids])
        if isinstance(answer, int):
            raise _api_error(answer)
        return {"items": [{"index": item} for item in answer(ids)]}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BUSY_WAIT_SECONDS", 0.0)


async def _write(server: Server, *writes: Write) -> list[MailstreamError | None]:
    return await BulkSink(server).write("mail", writes)  # type: ignore[arg-type]


def _writes(*names: str, size_bytes: int = 10) -> list[Write]:
    return [Write(name, {"text": "x" * size_bytes}) for name in names]


def _errors(kind: str) -> float:
    return REGISTRY.get_sample_value("index_bulk_errors_total", {"kind": kind}) or 0.0


async def test_only_what_was_refused_is_sent_again() -> None:
    server = Server(
        lambda ids: [
            {"status": 429, "error": {"type": "busy"}} if name != "b" else {"status": 201} for name in ids
        ],
        503,
    )
    before = _errors("retry")
    assert await _write(server, *_writes("a", "b", "c")) == [None, None, None]
    assert server.sent == [["a", "b", "c"], ["a", "c"], ["a", "c"]]
    assert _errors("retry") - before == 2 + 2


async def test_a_server_that_stays_busy_is_unavailable_and_nothing_is_rejected() -> None:
    server = Server(*[429] * 20)
    with pytest.raises(UnavailableError, match="overloaded"):
        await _write(server, *_writes("a"))
    assert len(server.sent) == bulk.BUSY_RETRIES + 1


@pytest.mark.parametrize("status", [413, 400])
async def test_one_that_spoils_a_request_is_found_by_halving(status: int) -> None:
    server = Server()
    refuse = server.bulk

    async def picky(*, operations: Sequence[bytes], **options: Any) -> dict[str, Any]:
        answer = await refuse(operations=operations, **options)
        if any(b'"c"' in line for line in operations):
            raise _api_error(status)
        return answer

    server.bulk = picky  # type: ignore[method-assign]
    results = await _write(server, *_writes("a", "b", "c", "d"))
    assert [type(result) for result in results if result is not None] == [
        DocumentTooLargeError if status == 413 else RejectedDocumentError
    ]
    assert results[2] is not None


async def test_a_refusal_that_an_idle_server_would_repeat_is_no_reason_to_wait() -> None:
    reason = (
        "rejected [coordinating_and_primary_bytes=30, primary_operation_bytes=9000, max_primary_bytes=9010]"
    )
    refused = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": reason}}
    [result] = await _write(Server(lambda ids: [refused]), *_writes("a", size_bytes=100))
    assert isinstance(result, DocumentTooLargeError)


async def test_each_item_has_its_own_end() -> None:
    answers: dict[str, dict[str, Any]] = {
        "conflict": {"status": 409, "error": {"type": "version_conflict_engine_exception"}},
        "gone": {"status": 404, "error": {"type": "document_missing_exception"}},
        "bad": {"status": 400, "error": {"type": "document_parsing_exception", "reason": "'secret'"}},
        "good": {"status": 200},
    }
    server = Server(lambda ids: [answers[name] for name in ids])
    conflict, gone, bad, good = await _write(server, *_writes(*answers))
    assert isinstance(conflict, ConflictError)
    assert isinstance(gone, ConflictError)
    assert isinstance(bad, RejectedDocumentError)
    assert "secret" not in str(bad)
    assert good is None


async def test_what_is_no_json_is_rejected_alone() -> None:
    server = Server()
    half_a_letter, good = Write("bad", {"text": "\ud800"}), Write("good", {"text": "x"})
    first, second = await _write(server, half_a_letter, good)
    assert isinstance(first, RejectedDocumentError)
    assert second is None
    assert server.sent == [["good"]]


async def test_bytes_and_bulks_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_BULK_BYTES", 10_000)
    server = Server()
    names = [f"d{number}" for number in range(60)]
    assert await _write(server, *_writes(*names, size_bytes=3_000)) == [None] * 60
    assert sorted(name for sent in server.sent for name in sent) == sorted(names)
    assert max(len(sent) for sent in server.sent) == 3
    assert 1 < server.most_under_way <= bulk.BULKS_IN_FLIGHT


async def test_vectors_are_packed_where_the_server_takes_them() -> None:
    server = Server()
    sink = BulkSink(server)  # type: ignore[arg-type]
    write = Write("a", {"vector": np.array([1.0, 0.5], dtype=np.float32)}, Stored({}, 7, 1))
    await sink.write("mail", [write])
    sink.packed_vectors = True
    await sink.write("mail", [write])
    numbers, packed = (orjson.loads(body.split(b"\n")[1])["vector"] for body in server.bodies)
    assert numbers == [1.0, 0.5]
    assert packed == "P4AAAD8AAAA="
    assert b'"if_seq_no":7' in server.bodies[0]
