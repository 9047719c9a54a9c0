"""How other programs read an adapter of ACE-Step 1.5, told once more in our own words.

ComfyUI: `comfy/lora.py` (`model_lora_keys_unet`: which names it knows for a model's weights) and
`comfy/weight_adapter/{base,lora,lokr}.py` (what it makes of them); ACE-Step's own loader:
`acestep/core/generation/handler/lora/lifecycle.py` (`PeftModel.from_pretrained` on its decoder).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from luthier.music.torch.denoiser import denoise

_WORDS = {".to_q": ".q_proj", ".to_k": ".k_proj", ".to_v": ".v_proj", ".to_out.0": ".o_proj"}
_ENDS = ("lora_up.weight", "lora_B.weight", "lora_down.weight", "lora_A.weight", "alpha")
_LOKR = ("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b")
Weights = dict[str, Tensor]


def velocity(transformer: Any) -> Tensor:
    """What a denoiser in double precision makes of one random batch."""
    config = transformer.config
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).double()

    time = torch.tensor([0.3, 0.8]).double()
    frames, channels = 24 * config.patch_size, config.audio_acoustic_hidden_dim
    width = transformer.condition_embedder.in_features
    context = random(2, frames, config.in_channels - channels)
    noisy, states = random(2, frames, channels), random(2, 12, width)
    mask, tokens = torch.ones(2, frames), torch.ones(2, 12)
    with torch.no_grad():
        made: Tensor = denoise(transformer, noisy, time, time, mask, states, tokens, context)
    return made


def with_weights(transformer: Any, weights: Weights) -> Any:
    """A copy of the denoiser, in double precision, with other weights in its linear layers."""
    made = copy.deepcopy(transformer).double().eval()
    with torch.no_grad():
        for name, value in weights.items():
            made.get_parameter(name).copy_(value)
    return made


def linear_weights(transformer: Any) -> Weights:
    """The weights that an adapter can change, by name, in double precision."""
    return {
        f"{name}.weight": module.weight.detach().double()
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
    }


def folded(tuned: Any) -> Weights:
    """The weights of a denoiser with peft's layers in it, the adapter added by peft."""
    made = copy.deepcopy(tuned).double().eval()
    found: Weights = {}
    for name, module in made.named_modules():
        if hasattr(module, "base_layer"):
            module.merge()
            found[f"{name}.weight"] = module.base_layer.weight.detach()
    return found


def original(name: str) -> str:
    """What ACE-Step's classes call a weight of diffusers' denoiser (below `decoder.`)."""
    for ours, theirs in _WORDS.items():
        name = name.replace(f"{ours}.", f"{theirs}.")
    return name


# ----- ACE-Step -----


def original_decoder(transformer: Any) -> nn.Module:
    """The linear layers in a tree with the names of ACE-Step's decoder."""
    tree = nn.Module()
    for name, weight in linear_weights(transformer).items():
        *path, last = original(name).removesuffix(".weight").split(".")
        place: nn.Module = tree
        for step in path:
            if step not in dict(place.named_children()):
                place.add_module(step, nn.Module())
            place = place.get_submodule(step)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
        linear.weight.data.copy_(weight)
        place.add_module(last, linear)
    return tree


def loaded_by_acestep(transformer: Any, folder: Path) -> Weights:
    """The weights after ACE-Step's `load_lora`; it must use every tensor of the file."""
    wrapped: Any = PeftModel.from_pretrained(original_decoder(transformer), str(folder))
    names = {original(name): name for name in linear_weights(transformer)}
    stored = load_file(folder / "adapter_model.safetensors").keys()
    held = {name.replace(".default", "") for name in wrapped.state_dict()}
    assert {name.removesuffix(".weight") for name in stored} <= {
        name.removesuffix(".weight") for name in held
    }
    return {names[name]: value for name, value in folded(wrapped.base_model.model).items()}


# ----- ComfyUI -----


def comfyui_names(transformer: Any) -> dict[str, str]:
    """What a file may call each weight of the decoder → the weight's name in diffusers."""
    found = {}
    for name in linear_weights(transformer):
        inner = original(name).removesuffix(".weight")
        flat = inner.replace(".", "_")
        for known in (
            f"diffusion_model.decoder.{inner}",
            f"lora_unet_decoder_{flat}",
            f"base_model.model.{inner}",
            f"lycoris_{flat}",
        ):
            found[known] = name
    return found


def loaded_by_comfyui(transformer: Any, file: Path) -> tuple[Weights, set[str]]:
    """The weights that a file changes, and the names in it that ComfyUI does not load."""
    tensors = {name: value.double() for name, value in load_file(file).items()}
    before, changed, used = linear_weights(transformer), {}, set()
    for known, name in comfyui_names(transformer).items():
        mine = {n: v for n, v in tensors.items() if n.startswith(f"{known}.")}
        if not mine:
            continue
        parts = {n.removeprefix(f"{known}."): v for n, v in mine.items()}
        used |= {n for n in mine if n.removeprefix(f"{known}.") in {*_ENDS, *_LOKR, "dora_scale"}}
        changed[name] = _patched(before[name], parts)
    return changed, tensors.keys() - used


def _patched(weight: Tensor, parts: Weights) -> Tensor:
    alpha = parts["alpha"].item() if "alpha" in parts else None
    up = parts.get("lora_up.weight", parts.get("lora_B.weight"))
    down = parts.get("lora_down.weight", parts.get("lora_A.weight"))
    if up is not None and down is not None:
        delta, rank = up @ down, down.shape[0]
    else:
        delta, rank = torch.kron(_factor(parts, 1), _factor(parts, 2)), None
        for half in ("lokr_w1_b", "lokr_w2_b"):
            rank = parts[half].shape[0] if half in parts else rank
    delta = delta * (alpha / rank if alpha is not None and rank else 1.0)
    lengths = parts.get("dora_scale")
    if lengths is None:
        return weight + delta
    whole = weight + delta
    if lengths.shape[0] == weight.shape[0]:
        # The one place where it is not what LyCORIS and peft mean: the base's own lengths.
        return whole * lengths / weight.norm(dim=1, keepdim=True)
    return whole * lengths / whole.norm(dim=0, keepdim=True)


def _factor(parts: Weights, number: int) -> Tensor:
    whole = parts.get(f"lokr_w{number}")
    if whole is not None:
        return whole
    return parts[f"lokr_w{number}_a"] @ parts[f"lokr_w{number}_b"]


# ----- LyCORIS -----


def loaded_by_lycoris(transformer: Any, file: Path) -> Weights:
    """As `lycoris/modules/{locon,lokr}.py` merge: lengths are of the changed rows or columns."""
    tensors = {name: value.double() for name, value in load_file(file).items()}
    before, changed = linear_weights(transformer), {}
    for name, weight in before.items():
        stem = "lycoris_" + original(name).removesuffix(".weight").replace(".", "_") + "."
        parts = {n.removeprefix(stem): v for n, v in tensors.items() if n.startswith(stem)}
        if not parts:
            continue
        lengths = parts.pop("dora_scale", None)
        whole = _patched(weight, parts)
        if lengths is not None:
            axis = 1 if lengths.shape[0] == weight.shape[0] else 0
            whole = whole * lengths / whole.norm(dim=axis, keepdim=True)
        changed[name] = whole
    return changed
