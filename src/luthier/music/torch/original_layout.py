"""ACE-Step 1.5's own checkpoint layout: which tensor is which in diffusers' components.

The original keeps the denoiser, the condition encoder and both audio tokenizers in one
`model.safetensors` beside one `config.json`; diffusers has a folder each and other names for the
attention layers. Names follow the public modelling files of both. No code that comes with a
checkpoint is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.errors import ModelError

_PREFIXES = {
    "decoder.": "transformer",
    "encoder.": "condition_encoder",
    "tokenizer.": "audio_tokenizer",
    "detokenizer.": "audio_detokenizer",
}
_RENAMED = (
    (".q_proj.", ".to_q."),
    (".k_proj.", ".to_k."),
    (".v_proj.", ".to_v."),
    (".o_proj.", ".to_out.0."),
    (".q_norm.", ".norm_q."),
    (".k_norm.", ".norm_k."),
)
# proj_in and proj_out are sequences there, whose first and last member have no weights.
_CONVOLUTIONS = (("proj_in.1.", "proj_in_conv."), ("proj_out.1.", "proj_out_conv."))
_NULL = "null_condition_emb"
# Buffers that the modules compute themselves.
_COMPUTED = ("inv_freq", "implicit_codebook", "_levels", "_basis", "soft_clamp_input_value", "mask")

_ATTENTION = ("num_attention_heads", "num_key_value_heads", "intermediate_size", "hidden_size")
_SHARED = ("head_dim", "rope_theta", "rms_norm_eps")
# What a configuration may leave out, with what it then means.
_ASSUMED = {"attention_bias": False, "attention_dropout": 0.0}
_EXTRA = {
    "transformer": ("num_hidden_layers", "in_channels", "audio_acoustic_hidden_dim", "patch_size"),
    "condition_encoder": (
        *("text_hidden_dim", "timbre_hidden_dim"),
        *("num_lyric_encoder_hidden_layers", "num_timbre_encoder_hidden_layers"),
    ),
    "audio_tokenizer": (
        *("audio_acoustic_hidden_dim", "pool_window_size", "num_attention_pooler_hidden_layers"),
        *("fsq_dim", "fsq_input_levels", "fsq_input_num_quantizers"),
    ),
    "audio_detokenizer": (
        *("audio_acoustic_hidden_dim", "pool_window_size"),
        "num_attention_pooler_hidden_layers",
    ),
}


def diffusers_name(name: str) -> tuple[str, str] | None:
    """The component and the name there of an original tensor; None for what is computed anyway.

    Raises:
        ModelError: there is no such tensor in ACE-Step 1.5.
    """
    if name == _NULL:
        return "condition_encoder", _NULL
    for prefix, component in _PREFIXES.items():
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            if rest.rsplit(".", 1)[-1] in _COMPUTED:
                return None
            pairs = (*_RENAMED, *(_CONVOLUTIONS if component == "transformer" else ()))
            for old, new in pairs:
                rest = rest.replace(old, new)
            return component, rest
    raise ModelError(
        f"the checkpoint holds a tensor {name!r}, which is none of ACE-Step 1.5: its names begin "
        f"with {', '.join(_PREFIXES)}."
    )


def original_name(component: str, name: str) -> str:
    """The other way: what a component's tensor is called in the original checkpoint."""
    if name == _NULL:
        return name
    prefix = next(p for p, c in _PREFIXES.items() if c == component)
    pairs = (*_RENAMED, *(_CONVOLUTIONS if component == "transformer" else ()))
    for old, new in pairs:
        name = name.replace(new, old)
    return prefix + name


def component_config(component: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments of a diffusers component out of the original `config.json`.

    In the XL models everything but the denoiser has the sizes that begin with `encoder_`.

    Raises:
        ModelError: a size is missing.
    """
    names = (*_ATTENTION, *_SHARED, *_EXTRA[component])
    lacking = [name for name in names if name not in config]
    if lacking:
        raise ModelError(f"config.json is not one of ACE-Step 1.5: it lacks {', '.join(lacking)}.")
    values = {name: config.get(name, value) for name, value in _ASSUMED.items()}
    values |= {name: config[name] for name in names}
    values["sliding_window"] = config.get("sliding_window") or 128
    encoder = {name: config.get(f"encoder_{name}") or config[name] for name in _ATTENTION}
    if component == "transformer":
        values["encoder_hidden_size"] = encoder["hidden_size"]
        values["layer_types"] = config.get("layer_types")
        values["is_turbo"] = bool(config.get("is_turbo", False))
        values["model_version"] = config.get("model_version")
    else:
        values |= encoder
    return values
