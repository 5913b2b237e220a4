"""The vectors that an index holds, so that another need not compute them again."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from elasticsearch import AsyncElasticsearch

from connectors.elasticsearch.mapped import mapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A document may have thousands of chunks, each with some kilobytes of numbers.
_DOCUMENTS_A_REQUEST = 50


class Vectors:
    """The vectors of one index by name."""

    def __init__(self, client: AsyncElasticsearch, name: str) -> None:
        self._client = client
        self._name = name
        self.found = 0  # vectors given so far

    async def read(self, document_ids: Collection[str]) -> dict[tuple[str, str], NDArray[np.float32]]:
        """The vectors of these documents' chunks, by document and the chunk's text."""
        wanted, vectors = sorted(document_ids), {}
        for start in range(0, len(wanted), _DOCUMENTS_A_REQUEST):
            some = wanted[start : start + _DOCUMENTS_A_REQUEST]
            with mapped():
                answer = await self._client.search(
                    index=self._name,
                    query={"ids": {"values": some}},
                    size=len(some),
                    # An index of before 1.0 leaves them out unless they are asked for.
                    source={"exclude_vectors": False, "includes": ["chunks.text", "chunks.vector"]},
                )
            for hit in answer["hits"]["hits"]:
                for chunk in hit["_source"].get("chunks", ()):
                    vectors[hit["_id"], chunk["text"]] = _read(chunk["vector"])
        self.found += len(vectors)
        return vectors


def _read(vector: str | list[float]) -> NDArray[np.float32]:
    """A vector as it was sent (see ``bulk``), or as numbers."""
    if isinstance(vector, str):
        return np.frombuffer(base64.b64decode(vector), ">f4").astype(np.float32)
    return np.array(vector, np.float32)
