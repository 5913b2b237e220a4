"""Once per text: what has been embedded lately is not embedded again, in whichever document it stands."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from connectors.encoder import Encoder
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
# Writes to the shared cache that nobody waits for.
SHARED_AT_ONCE = 4
# How far a later piece goes towards the first (ARCHITECTURE.md). With it VECTORS_VERSION changes.
LEANING = 0.5

Answer = TypeVar("Answer")


class OnceEncoder:
    """An encoder before which repeated texts are looked up: in the process, then where all workers look.

    ``once`` None: in the process only. Made on the event loop that ``once`` belongs to; ``encode`` blocks,
    and is called in threads.
    """

    def __init__(self, encoder: Encoder, once: Once | None, memory_bytes: int = MEMORY_BYTES) -> None:
        self.name = encoder.name
        self._encoder = encoder
        self._once = once
        self._loop = asyncio.get_running_loop()
        self._recent: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()  # of ``_recent``
        self._sharing: deque[Future[None]] = deque()
        self._room = memory_bytes // (4 * VECTOR_DIMENSIONS)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``: each text that is new is embedded once."""
        digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        with self._lock:
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
        with self._lock:
            for digest, vector in found.items():
                if digest not in self._recent:
                    self._recent[digest] = vector.copy()  # a row would keep all that were embedded with it
                self._recent.move_to_end(digest)
            while len(self._recent) > self._room:
                self._recent.popitem(last=False)
        return np.stack([found[digest] for digest in digests]) if texts else self._encoder.encode(texts)

    def _key(self, text: str) -> str:
        return self._once.key("vector", self.name, text) if self._once is not None else ""

    def _shared(self, keys: dict[bytes, str]) -> dict[bytes, NDArray[np.float32]]:
        if self._once is None:
            return {}
        asked = asyncio.run_coroutine_threadsafe(self._once.get(list(keys.values())), self._loop)
        entries = _answer(asked) or {}
        shared = {}
        for digest, key in keys.items():
            vector = _vector(entries.get(key))
            if vector is not None:
                shared[digest] = vector
        return shared

    def _share(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        """Without waiting until it stands, unless many do not: a vector that is lost is computed again."""
        if self._once is not None:
            entries = {
                key: {"vector": base64.b64encode(vector.tobytes()).decode()}
                for key, vector in vectors.items()
            }
            self._sharing.append(asyncio.run_coroutine_threadsafe(self._once.put(entries), self._loop))
            if len(self._sharing) > SHARED_AT_ONCE:
                _answer(self._sharing.popleft())


def leaning(piece: NDArray[np.float32], first: NDArray[np.float32]) -> NDArray[np.float32]:
    """The unit vector of a piece, nearer to that of its document's first piece: a later one does not say by
    itself what the whole is about."""
    if piece is first:
        return piece
    both: NDArray[np.float32] = piece + np.float32(LEANING) * first
    return both / np.linalg.norm(both)


def _answer(asked: Future[Answer]) -> Answer | None:
    try:
        return asked.result(PATIENCE_SECONDS)
    except TimeoutError:  # the loop is at its end, or too busy for what is to save time
        asked.cancel()
        return None


def _vector(entry: object) -> NDArray[np.float32] | None:
    encoded = entry.get("vector") if isinstance(entry, dict) else None
    if not isinstance(encoded, str):
        return None
    vector = np.frombuffer(base64.b64decode(encoded), dtype=np.float32)
    return vector if vector.shape == (VECTOR_DIMENSIONS,) else None
