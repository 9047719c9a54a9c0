"""Which precision a tier gives each component, and each weight of it.

Every component has a floor below which its sound or its codes break; a lower request is raised to
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from luthier.music.torch.fourier import EXACT

Precision = Literal["fp32", "fp16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # falling

# How 8-bit matrices are multiplied. dynamic: activations become 8-bit integers too, scaled as they
# come, a scale a tensor. static: by scales from calibration. weight-only: by blocks of a row.
Int8 = Literal["dynamic", "weight-only", "static"]
INT8_KINDS: tuple[Int8, ...] = get_args(Int8)

# How a single weight is stored.
Storage = Literal["fp32", "fp16", "int8", "int4"]

# The autoencoder's phase and the tokenizer's roundings do not survive 8 bits, conditions and the
# planner's codes not 4.
FLOORS: dict[str, Precision] = {
    "condition_encoder": "int8",
    "dit_decoder": "int4",
    "audio_tokenizer": "fp16",
    "audio_code_embedding": "fp16",
    "audio_detokenizer": "fp16",
    "vae_decoder": "fp16",
    "vae_encoder": "fp16",
    "qwen3_embedding_0p6": "int8",
    "qwen3_token_embedding_0p6": "int8",
    "planner": "int8",
}
_SMALLEST_HALF = 256  # elements: biases and norms cost nothing and shift everything
BLOCK_MULTIPLE = 16  # columns, of ONNX Runtime's MatMulNBits
# With 4 bits attention keeps 8 and the timesteps' modulation, which scales every layer, too.
_EIGHT_BITS = (".self_attn.", ".cross_attn.", "time_embed", "condition_embedder", "proj_")


def precision_of(component: str, wanted: Precision) -> Precision:
    """`wanted`, or the component's floor when that is higher."""
    floor = FLOORS[component]
    return wanted if PRECISIONS.index(wanted) <= PRECISIONS.index(floor) else floor


def storage_of(name: str, shape: Sequence[int], precision: Precision, *, matrix: bool) -> Storage:
    """How a weight is stored in a component of `precision`.

    Args:
        name: of the weight.
        shape: of a matrix (outputs, inputs).
        matrix: whether it is the constant factor of a matrix product, or a table of vectors.
    """
    size = 1
    for length in shape:
        size *= length
    if precision == "fp32" or EXACT in name or size < _SMALLEST_HALF:
        return "fp32"
    if not matrix or precision == "fp16":
        return "fp16"
    coarse = precision == "int4" and shape[-1] % BLOCK_MULTIPLE == 0
    return "int4" if coarse and not any(part in name for part in _EIGHT_BITS) else "int8"
