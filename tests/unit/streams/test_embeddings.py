"""The encoder before which texts are looked up, and the one that is loaded only when it is needed."""

import numpy as np
import pytest

from connectors.encoder import HashEncoder
from streams import embeddings
from streams.embeddings import LazyEncoder


def test_a_lazy_encoder_is_loaded_once_with_the_first_text(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def opened(name: str) -> HashEncoder:
        loaded.append(name)
        return HashEncoder()

    monkeypatch.setattr(embeddings, "open_encoder", opened)
    encoder = LazyEncoder("hash")
    assert encoder.name == HashEncoder.name
    assert loaded == []
    for text in ("one", "two"):
        assert np.array_equal(encoder.encode([text]), HashEncoder().encode([text]))
    assert loaded == ["hash"]
