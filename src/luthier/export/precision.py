"""Smaller weights: float16 storage, and 8-bit blocks for matrix products. All else stays float32.

Every component has a floor below which its sound or its codes break; a lower request is raised to it.
"""

from __future__ import annotations

import logging
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
    "qwen3_token_embedding_0p6": "fp16",
}
_SMALLEST_FP16 = 256  # elements: biases and norms cost nothing and shift everything
_BLOCK = 32


def precision_of(component: str, wanted: Precision) -> Precision:
    """`wanted`, or the component's floor when that is higher."""
    floor = FLOORS[component]
    return wanted if PRECISIONS.index(wanted) <= PRECISIONS.index(floor) else floor


def lowered(proto: Any, precision: Precision) -> Any:
    """The graph with its weights in `precision`; with int8, what is no matrix product is float16."""
    if precision == "int8":
        proto = _in_blocks(proto)
    return proto if precision == "fp32" else _half_stored(proto)


def _in_blocks(proto: Any) -> Any:
    """Weights of matrix products as 8-bit integers with a scale for each block of 32 (MatMulNBits).

    `accuracy_level` 4 multiplies in int8 (VNNI where the processor has it).
    """
    nbits = _quantizer_module()
    config = nbits.DefaultWeightOnlyQuantConfig(
        block_size=_BLOCK, is_symmetric=True, accuracy_level=4, bits=8
    )
    quantizer = nbits.MatMulNBitsQuantizer(proto, algo_config=config)
    quantizer.process()
    return quantizer.model.model


def _quantizer_module() -> Any:
    """ONNX Runtime's quantizer, without the log handler that its import puts on the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from onnxruntime.quantization import matmul_nbits_quantizer

    root.handlers[:] = handlers
    root.setLevel(level)
    return matmul_nbits_quantizer


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
