"""Documents a second into Elasticsearch with given vectors, over the number of bulks in flight.

python -m benchmarks.bulk [--documents 8000]

Compared with one stream of 500-document bulks by the client's own helper.
"""

import argparse
import asyncio
import time

from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_bulk

from benchmarks.labels import GivenVectors
from connectors.elasticsearch import Index, Write, bulk
from devstack.stack import start_stack
from schemas import mapping

IN_FLIGHT = (1, 2, 4, 8)


def _fields(number: int) -> dict[str, object]:
    text = " ".join(f"word{number * 31 % 9973 + step}" for step in range(120))
    return {
        "kind": "message",
        "message_id": f"m{number}",
        "live": True,
        "subject": f"s {number}",
        "text": text,
    }


def _name(kind: str) -> None:
    mapping.INDEX_PREFIX, mapping.WRITE_ALIAS = f"bulk-{kind}-v", f"bulk-{kind}-write"
    mapping.READ_ALIAS = f"bulk-{kind}-read"


async def _plain(url: str, documents: int) -> float:
    """One stream, 500 documents a bulk, vectors as lists: what the helper does by itself."""
    _name("plain")
    async with Index.open(url) as index:
        await index.ensure()
    vectors = GivenVectors().encode([""] * documents).tolist()
    operations = []
    for number in range(documents):
        fields = _fields(number)
        fields["chunks"] = [{"ordinal": 0, "text": fields["text"], "vector": vectors[number]}]
        operations.append({"_index": mapping.WRITE_ALIAS, "_id": str(number), "_source": fields})
    async with AsyncElasticsearch(url, request_timeout=60) as client:
        started = time.perf_counter()
        await async_bulk(client, operations, chunk_size=500)
        await client.indices.refresh(index=mapping.WRITE_ALIAS)
        return documents / (time.perf_counter() - started)


async def _sink(url: str, documents: int, in_flight: int, *, packed: bool) -> float:
    _name(f"{in_flight}-{packed}".lower())
    bulk.BULKS_IN_FLIGHT = in_flight
    async with Index.open(url) as index:
        await index.ensure()
        index._sink.packed_vectors = packed
        vectors = GivenVectors().encode([""] * documents)
        writes = []
        for number in range(documents):
            fields = _fields(number)
            fields["chunks"] = [{"ordinal": 0, "text": fields["text"], "vector": vectors[number]}]
            writes.append(Write(str(number), fields))
        started = time.perf_counter()
        assert not any(await index.write(writes))
        await index.refresh()
        return documents / (time.perf_counter() - started)


async def _measure(url: str, documents: int) -> None:
    await _plain(url, 1_000)  # the server's first bulks are compiled, not measured
    async with Index.open(url) as index:
        await index._client.indices.delete(index=mapping.index_name())
    plain = await _plain(url, documents)
    print("| bulks in flight | vectors | documents/s | against the helper |\n|---|---|---|---|")
    print(f"| the helper, 1 | numbers | {plain:.0f} | 1.0 |", flush=True)
    for packed in (False, True):
        for in_flight in IN_FLIGHT:
            rate = await _sink(url, documents, in_flight, packed=packed)
            kind = "base64" if packed else "numbers"
            print(f"| {in_flight} | {kind} | {rate:.0f} | {rate / plain:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=8_000)
    arguments = parser.parse_args()
    with start_stack() as stack:
        asyncio.run(_measure(stack.elasticsearch_url, arguments.documents))


if __name__ == "__main__":
    main()
