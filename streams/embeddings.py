"""Once per text: what has been embedded lately is not embedded again, in whichever document it stands."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from connectors.encoder import Encoder, model_name, open_encoder
from connectors.metrics import (
    content_cache_counter,
    embedding_seconds_histogram,
    embedding_texts_histogram,
)
from schemas.mapping import VECTOR_DIMENSIONS
from streams.once import Once

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Vectors kept in the process, about 2,700: a mail to many arrives within minutes. All others are in the cache
# that the workers share.
MEMORY_BYTES = 4 * 1024 * 1024
PATIENCE_SECONDS = 15.0

Answer = TypeVar("Answer")


class LazyEncoder:
    """The encoder called ``name``, loaded with the first text: where all vectors are known it never is."""

    def __init__(self, name: str) -> None:
        self.name = model_name(name)
        self._called = name
        self._encoder: Encoder | None = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``."""
        self._encoder = self._encoder or open_encoder(self._called)
        return self._encoder.encode(texts)


class OnceEncoder:
    """An encoder before which repeated texts are looked up: in the process, then where all workers look.

    ``once`` None: in the process only. Made on the event loop that ``once`` belongs to; ``encode`` blocks,
    and is called in a thread.
    """

    def __init__(self, encoder: Encoder, once: Once | None, memory_bytes: int = MEMORY_BYTES) -> None:
        self.name = encoder.name
        self._encoder = encoder
        self._once = once
        self._loop = asyncio.get_running_loop()
        self._recent: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._room = memory_bytes // (4 * VECTOR_DIMENSIONS)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``: each text that is new is embedded once."""
        digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        found = {digest: self._recent[digest] for digest in digests if digest in self._recent}
        missing = {d: text for d, text in zip(digests, texts, strict=True) if d not in found}
        if missing:
            keys = {digest: self._key(text) for digest, text in missing.items()}
            found |= self._shared(keys)
            new = {digest: text for digest, text in missing.items() if digest not in found}
            content_cache_counter.labels(kind="vectors", found="miss").inc(len(new))
            content_cache_counter.labels(kind="vectors", found="hit").inc(len(missing) - len(new))
            if new:
                embedding_texts_histogram.observe(len(new))
                with embedding_seconds_histogram.time():
                    vectors = dict(zip(new, self._encoder.encode(list(new.values())), strict=True))
                found |= vectors
                self._share({keys[digest]: vector for digest, vector in vectors.items()})
        for digest, vector in found.items():
            self._recent[digest] = vector
            self._recent.move_to_end(digest)
        while len(self._recent) > self._room:
            self._recent.popitem(last=False)
        return np.stack([found[digest] for digest in digests]) if texts else self._encoder.encode(texts)

    def _key(self, text: str) -> str:
        return self._once.key("vector", self.name, text) if self._once is not None else ""

    def _shared(self, keys: dict[bytes, str]) -> dict[bytes, NDArray[np.float32]]:
        if self._once is None:
            return {}
        entries = self._ask(self._once.get(list(keys.values()))) or {}
        shared = {}
        for digest, key in keys.items():
            vector = _vector(entries.get(key))
            if vector is not None:
                shared[digest] = vector
        return shared

    def _share(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        if self._once is not None:
            encoded = {key: base64.b64encode(vector.tobytes()).decode() for key, vector in vectors.items()}
            self._ask(self._once.put({key: {"vector": value} for key, value in encoded.items()}))

    def _ask(self, question: Coroutine[Any, Any, Answer]) -> Answer | None:
        future = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return future.result(PATIENCE_SECONDS)
        except TimeoutError:  # the loop is at its end, or too busy for what is to save time
            future.cancel()
            return None


def _vector(entry: object) -> NDArray[np.float32] | None:
    encoded = entry.get("vector") if isinstance(entry, dict) else None
    if not isinstance(encoded, str):
        return None
    vector = np.frombuffer(base64.b64decode(encoded), dtype=np.float32)
    return vector if vector.shape == (VECTOR_DIMENSIONS,) else None
