"""What the index worker makes of the vectors of a document's pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from connectors.encoder import HashEncoder
from streams.index import Indexer

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Standing:
    """The vectors of an index, as ``Vectors`` gives them."""

    def __init__(self, vectors: dict[tuple[str, str], NDArray[np.float32]]) -> None:
        self._vectors = vectors

    async def read(self, documents: set[str]) -> dict[tuple[str, str], NDArray[np.float32]]:
        return {pair: vector for pair, vector in self._vectors.items() if pair[0] in documents}


async def test_later_pieces_lean_towards_the_first_and_what_is_known_leans_no_further() -> None:
    first, later = HashEncoder().encode(["offer about the harbour crane", "in March"])
    texts = {
        ("mail", "first"): "offer about the harbour crane",  # the longer one: embedded before the other
        ("mail", "later"): "in March",
        ("other", "later"): "in March",
    }
    indexer = Indexer(None, HashEncoder(), None, 10)  # type: ignore[arg-type]
    vectors = await indexer._vectors(texts, urgent=False)
    assert np.array_equal(vectors["mail", "first"], first)
    assert np.array_equal(vectors["other", "later"], later)  # it is that document's first
    leaning = vectors["mail", "later"]
    assert np.linalg.norm(leaning) == pytest.approx(1)
    assert leaning @ later > leaning @ first > later @ first + 0.3

    indexer = Indexer(None, HashEncoder(), None, 10, known=Standing(vectors))  # type: ignore[arg-type]
    again = await indexer._vectors(texts, urgent=False)
    assert all(again[pair] is vectors[pair] for pair in texts)
    # A beginning that has changed: pieces behind it lean towards the new one.
    changed = {("mail", "new"): "minutes of the meeting", ("mail", "later"): "in March"}
    fresh = await Indexer(None, HashEncoder(), None, 10)._vectors(changed, urgent=False)  # type: ignore[arg-type]
    again = await indexer._vectors(changed, urgent=False)
    assert all(np.array_equal(again[pair], fresh[pair]) for pair in changed)
