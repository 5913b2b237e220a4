"""What a plain server finds: BM25 with its standard analyzer, and kNN over one vector a document."""

from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import orjson

from connectors.encoder import Encoder
from schemas.mapping import VECTOR_DIMENSIONS

INDEX = "plain"
BATCH = 200


async def plain_server(
    url: str,
    encoder: Encoder,
    documents: Sequence[Mapping[str, str]],
    queries: Mapping[str, str],
    depth: int,
) -> dict[str, dict[str, list[str]]]:
    """Two runs, "plain bm25" and "plain dense": by query the document ids, the best first."""
    vector = {"type": "dense_vector", "dims": VECTOR_DIMENSIONS, "similarity": "dot_product"}
    fields = {"text": {"type": "text"}, "vector": {**vector, "index_options": {"type": "hnsw"}}}
    async with aiohttp.ClientSession(url) as session:
        await _ask(session, "PUT", f"/{INDEX}", {"mappings": {"properties": fields}})
        for start in range(0, len(documents), BATCH):
            batch = documents[start : start + BATCH]
            texts = [f"{document['title']} {document['text']}" for document in batch]
            lines = []
            for document, text, row in zip(batch, texts, encoder.encode(texts), strict=True):
                lines += [{"index": {"_id": document["id"]}}, {"text": text, "vector": row.tolist()}]
            body = b"\n".join(map(orjson.dumps, lines)) + b"\n"
            await _ask(session, "POST", f"/{INDEX}/_bulk", body)
        await _ask(session, "POST", f"/{INDEX}/_refresh", b"")
        runs: dict[str, dict[str, list[str]]] = {"plain bm25": {}, "plain dense": {}}
        for query, text in queries.items():
            [row] = encoder.encode([text])
            knn = {"field": "vector", "query_vector": row.tolist(), "k": depth, "num_candidates": 4 * depth}
            for name, request in (
                ("plain bm25", {"query": {"match": {"text": text}}}),
                ("plain dense", {"knn": knn}),
            ):
                answer = await _ask(
                    session, "POST", f"/{INDEX}/_search", {**request, "size": depth, "_source": False}
                )
                runs[name][query] = [hit["_id"] for hit in answer["hits"]["hits"]]
    return runs


async def _ask(session: aiohttp.ClientSession, method: str, path: str, body: Any) -> Any:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {"Content-Type": "application/x-ndjson" if isinstance(body, bytes) else "application/json"}
    async with session.request(method, path, data=data, headers=headers) as response:
        answer = await response.json()
        if response.status >= 400 or answer.get("errors"):
            raise RuntimeError(f"{method} {path}: {answer}")
        return answer
