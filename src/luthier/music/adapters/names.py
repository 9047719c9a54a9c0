"""What the tensors of an adapter are called: any trainer's spelling → diffusers' layers, and back.

Each name has three parts: what the trainer puts in front (PEFT's wrapper, the pipeline's part, the
tool's own word), the layer (with diffusers' names or those of ACE-Step's own classes; kohya's tools
and LyCORIS write its dots as underscores), and the role of the tensor in that layer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from luthier.errors import ModelError
from luthier.music.torch.original_layout import diffusers_name, original_name

DOWN, UP, MAGNITUDE, ALPHA = "down", "up", "magnitude", "alpha"
KRONECKER = tuple(f"w{i}{part}" for i in (1, 2) for part in ("", "_a", "_b"))

# What stands before a dotted layer; several may follow each other.
_WRAPPERS = (
    *("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer."),
    "decoder.",
)
# What stands before a layer whose dots are underscores.
_FLAT = ("lora_unet_", "lora_prior_unet_", "lora_transformer_", "lycoris_")
_FLAT_PARTS = ("decoder_", "transformer_", "diffusion_model_")

_LONGEST = 512  # no layer has so long a name
_NAMED = r"(?:\.(?!weight\b|bias\b)[^.]+)?(?:\.weight)?"  # an adapter's name, and .weight
_ROLES = (
    (DOWN, rf"\.lora_A{_NAMED}|\.lora_down\.weight|[._]lora\.down\.weight"),
    (UP, rf"\.lora_B{_NAMED}|\.lora_up\.weight|[._]lora\.up\.weight"),
    (MAGNITUDE, rf"\.lora_magnitude_vector{_NAMED}|\.dora_scale"),
    (ALPHA, r"\.alpha"),
    *((role, rf"\.lokr_{role}{_NAMED}") for role in (*KRONECKER, "t2")),
)
_ROLE = re.compile(
    r"(?P<layer>.+?)(?:" + "|".join(f"(?P<{role}>{text})" for role, text in _ROLES) + ")", re.DOTALL
)

_PROJECTIONS = "q_proj|k_proj|v_proj|o_proj|to_q|to_k|to_v|to_out_0|to_qkv|qkv_proj"
_FLAT_LAYERS = (
    (rf"layers_(\d+)_(self_attn|cross_attn)_({_PROJECTIONS})", r"layers.\1.\2.\3"),
    (r"layers_(\d+)_mlp_(gate_proj|up_proj|down_proj)", r"layers.\1.mlp.\2"),
    (r"(time_embed_r|time_embed)_(linear_1|linear_2|time_proj)", r"\1.\2"),
    (r"(proj_in|proj_out)_1", r"\1.1"),
)


class Spelled(NamedTuple):
    """A tensor's name, taken apart."""

    layer: str  # as the file spells it, with what stands before it
    role: str


def role_of(name: str) -> Spelled | None:
    """What a tensor of an adapter is; None where it is none of an adapter's."""
    match = _ROLE.fullmatch(name) if len(name) <= _LONGEST else None
    if match is None:
        return None
    role = next(role for role, text in match.groupdict().items() if role != "layer" and text)
    return Spelled(match["layer"], role)


def unwrapped(layer: str) -> str:
    """A layer without what stands before it, dotted, but with the trainer's own words."""
    if layer.startswith(_FLAT):
        return _dotted(layer)
    while any(layer.startswith(wrapper) for wrapper in _WRAPPERS):
        for wrapper in _WRAPPERS:
            layer = layer.removeprefix(wrapper)
    return layer


def native_layer(layer: str) -> str:
    """A layer's name in diffusers' denoiser; as it is where no part of ACE-Step is called so."""
    plain = unwrapped(layer)
    try:
        found = diffusers_name(f"decoder.{plain}.weight")
    except ModelError:
        return plain
    return found[1].removesuffix(".weight") if found else plain


def original_layer(native: str) -> str:
    """What ACE-Step's own decoder calls a layer of diffusers' denoiser."""
    name = original_name("transformer", f"{native}.weight")
    return name.removeprefix("decoder.").removesuffix(".weight")


def is_original(layer: str) -> bool:
    """Whether a layer is spelled with the names of ACE-Step's own classes and not diffusers'."""
    plain = unwrapped(layer)
    return plain != native_layer(layer)


def flat(prefix: str, layer: str) -> str:
    """A dotted layer with underscores, as kohya's tools and LyCORIS write it."""
    return prefix + layer.replace(".", "_")


def _dotted(layer: str) -> str:
    for prefix in (*_FLAT, *_FLAT_PARTS):
        layer = layer.removeprefix(prefix)
    for pattern, dotted in _FLAT_LAYERS:
        match = re.fullmatch(pattern, layer)
        if match:
            return match.expand(dotted).replace("to_out_0", "to_out.0")
    return layer
