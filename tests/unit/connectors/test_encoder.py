"""The model that set-up makes: verified, the same for a text in every batch, and near to float32."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from connectors import minilm
from connectors.encoder import MiniLmEncoder, open_encoder
from connectors.errors import ConfigurationError
from schemas.mapping import VECTOR_DIMENSIONS

TEXTS = [
    "The penalty for late delivery is two percent a week.",
    "Whoever delivers late pays two hundredths of the price for each week.",
    "Our cat sleeps on the windowsill.",
    "",
    "word " * 600,  # far beyond what the model reads
]


@pytest.fixture(scope="module")
def encoder() -> MiniLmEncoder:
    return MiniLmEncoder()


def test_meaning_is_near_and_rows_are_unit_vectors(encoder: MiniLmEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), VECTOR_DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2] + 0.3
    assert encoder.encode([]).shape == (0, VECTOR_DIMENSIONS)


def test_nobody_is_told_of_it_and_no_file_is_left(encoder: MiniLmEncoder, tmp_path: Path) -> None:
    """ONNX Runtime has a session with its makers' servers otherwise, and the session a file."""
    program = "from connectors.encoder import MiniLmEncoder; MiniLmEncoder().encode(['a word'])"
    # It keeps still where it thinks that it is tested.
    tested = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in tested}
    where = {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment | where, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_a_text_has_the_same_vector_in_every_batch(encoder: MiniLmEncoder) -> None:
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    many = encoder.encode([*TEXTS, *(f"filler number {number}" for number in range(100))])
    assert np.abs(alone - many[: len(TEXTS)]).max() < 1e-4


def test_the_model_is_made_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "share" / "model.onnx"
    monkeypatch.setattr(minilm, "model_file", lambda: path)
    with pytest.raises(ConfigurationError, match="make setup"):
        minilm.read_model()
    assert minilm.make() == path
    made = minilm.read_model()
    path.write_bytes(made[:-1] + b"\0")
    with pytest.raises(ConfigurationError, match="damaged"):
        minilm.read_model()
    minilm.make()
    assert minilm.read_model() == made
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_model_than_the_measured_one_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    monkeypatch.setattr(minilm, "model_file", lambda: path)
    monkeypatch.setattr(minilm, "convert", lambda: b"another one")
    with pytest.raises(ConfigurationError, match="expected sha256"):
        minilm.make()
    assert not path.exists()


@pytest.mark.full
def test_vectors_are_those_of_sentence_transformers(encoder: MiniLmEncoder) -> None:
    texts = TEXTS[:-1] + [f"Invoice {number} of March, due within {number} days." for number in range(50)]
    exact = open_encoder("minilm-torch").encode(texts)
    cosines = (encoder.encode(texts) * exact).sum(axis=1)
    assert cosines.min() > 0.98 and cosines.mean() > 0.99


def test_no_product_of_the_model_can_overflow_on_a_processor_without_vnni() -> None:
    """Such a one adds two products of neighbours, each of an unsigned and a signed byte, in sixteen bits."""
    graph = onnx.load_from_string(minilm.read_model()).graph
    matrices = [numpy_helper.to_array(each) for each in graph.initializer if each.name.endswith(".rows")]
    whole = [matrix.astype(int) for matrix in matrices if matrix.dtype == np.int8]
    assert len(whole) == 6 * 6
    for matrix in whole:
        pairs = matrix.reshape(-1, 2, matrix.shape[1])
        assert 255 * pairs.clip(min=0).sum(axis=1).max() <= 32767
        assert 255 * pairs.clip(max=0).sum(axis=1).min() >= -32768
        assert np.abs(matrix).max() > 63  # and the bits are used
