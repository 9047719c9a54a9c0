"""Smaller weights: float16 storage, and 8-bit matrix products. All else stays float32.

Every component has a floor below which its sound or its codes break; a lower request is raised to
it.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from luthier.music.fourier import EXACT

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)  # falling

# The autoencoder's phase and the tokenizer's roundings do not survive 8 bits.
FLOORS: dict[str, Precision] = {
    "condition_encoder": "int8",
    "dit_decoder": "int8",
    "audio_tokenizer": "fp16",
    "audio_detokenizer": "fp16",
    "vae_decoder": "fp16",
    "vae_encoder": "fp16",
    "qwen3_embedding_0p6": "int8",
    "qwen3_token_embedding_0p6": "int8",
}
_SMALLEST_FP16 = 256  # elements: biases and norms cost nothing and shift everything


def precision_of(component: str, wanted: Precision) -> Precision:
    """`wanted`, or the component's floor when that is higher."""
    floor = FLOORS[component]
    return wanted if PRECISIONS.index(wanted) <= PRECISIONS.index(floor) else floor


def lowered(proto: Any, precision: Precision) -> Any:
    """The graph with its weights in `precision`; with int8, what is no matrix is float16."""
    if precision == "int8":
        proto = _quantised(proto)
    return proto if precision == "fp32" else _half_stored(proto)


def _quantised(proto: Any) -> Any:
    """Weights of matrix products as int8 a column; activations are scaled to uint8 as they come.

    Measured on a VNNI processor for mini's denoiser, 10 s of music: 39 ms a step, against 57 ms
    with 8-bit blocks (MatMulNBits) and 71 ms in float32. Seven of the eight bits are used: the
    8-bit products of processors without VNNI overflow with more.
    """
    quantize = _quantizer()
    with _without_advice(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        quantize(
            proto,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
        return _small_tables(onnx.load(path))


def _small_tables(proto: Any) -> Any:
    """Embedding tables as int8 with a scale a row: both are gathered, then multiplied."""
    uses = Counter(name for node in proto.graph.node for name in node.input)
    tables = {
        t.name: t
        for t in proto.graph.initializer
        if len(t.dims) == 2 and t.data_type == TensorProto.FLOAT and uses[t.name] == 1
    }
    nodes = []
    for node in proto.graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or any(a.name == "axis" and a.i != 0 for a in node.attribute):
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
        small = np.round(values / scale).astype(np.int8)
        name, ids, result = table.name, node.input[1], node.output[0]
        table.CopyFrom(numpy_helper.from_array(small, name))
        proto.graph.initializer.append(
            numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale")
        )
        nodes += [
            helper.make_node("Gather", [name, ids], [f"{result}_int8"]),
            helper.make_node("Cast", [f"{result}_int8"], [f"{result}_cast"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{result}_scale"]),
            helper.make_node("Mul", [f"{result}_cast", f"{result}_scale"], [result]),
        ]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    return proto


def _quantizer() -> Any:
    """ONNX Runtime's quantiser, without the log handler that its import puts on the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from onnxruntime.quantization import quantize_dynamic

    root.handlers[:] = handlers
    root.setLevel(level)
    return quantize_dynamic


@contextmanager
def _without_advice() -> Iterator[None]:
    """The quantiser advises, on the root logger, to prepare graphs that are prepared already."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _half_stored(proto: Any) -> Any:
    """Large float32 initialisers as float16, each with a cast (folded when a session opens)."""
    casts = []
    for tensor in proto.graph.initializer:
        small = np.prod(tensor.dims) < _SMALLEST_FP16 or EXACT in tensor.name
        if tensor.data_type != TensorProto.FLOAT or small:
            continue
        values = numpy_helper.to_array(tensor)
        limit = float(np.finfo(np.float16).max)
        half = np.clip(values, -limit, limit).astype(np.float16)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + "_fp16"))
        casts.append(helper.make_node("Cast", [name + "_fp16"], [name], to=TensorProto.FLOAT))
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(casts + nodes)
    onnx.checker.check_model(proto)
    return proto
