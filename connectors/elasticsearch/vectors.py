"""The vectors that an index holds, so that another need not compute them again."""

from __future__ import annotations

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
                    # Left out of the source unless asked for, since 9.2.
                    source={"exclude_vectors": False, "includes": ["chunks.text", "chunks.vector"]},
                )
            for hit in answer["hits"]["hits"]:
                for chunk in hit["_source"].get("chunks", ()):
                    vectors[hit["_id"], chunk["text"]] = np.array(chunk["vector"], np.float32)
        self.found += len(vectors)
        return vectors
