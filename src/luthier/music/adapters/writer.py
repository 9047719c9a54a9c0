"""An adapter's layers → the files that other programs read. No torch; equal tensors, equal bytes.

| spelling | read by | layers | strength |
| --- | --- | --- | --- |
| peft | peft, luthier | diffusers' names | adapter_config.json |
| acestep | ACE-Step's own `load_lora` (peft) | original names | adapter_config.json |
| diffusers | `AceStepPipeline.load_lora_weights` | diffusers' names | in the file's metadata |
| comfyui | ComfyUI, acestep.cpp | original names | `.alpha` = scale × rank |
| kohya, lycoris | tools of these names, ComfyUI | original, underscores | `.alpha` = scale × rank |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from luthier.errors import AdapterError
from luthier.files import make_folder, write_bytes, write_json
from luthier.music.adapters.kron import peft_kronecker
from luthier.music.adapters.layer import LayerWeights
from luthier.music.adapters.names import DOWN, MAGNITUDE, UP, flat, original_layer
from luthier.music.adapters.place import (
    ACESTEP_FOLDER,
    COMFYUI_NAME,
    CONFIG_NAME,
    PIPELINE_WEIGHTS_NAME,
    WEIGHTS_NAME,
)
from luthier.music.adapters.settings import SETTINGS_KEY
from luthier.runtime.tensors import serialise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

Layers = Mapping[str, LayerWeights]
FOLDERS = ("peft", "acestep")  # spellings that are a folder; the others are one file
SPELLINGS = (*FOLDERS, "diffusers", "comfyui", "kohya", "lycoris")
PEFT_PREFIX, _PIPELINE_PREFIX = "base_model.model.", "transformer."
_PEFT_ROLES = {DOWN: "lora_A.weight", UP: "lora_B.weight", MAGNITUDE: "lora_magnitude_vector"}
_LORA_WORDS = {DOWN: "lora_down.weight", UP: "lora_up.weight", MAGNITUDE: "dora_scale"}
# What of the settings diffusers hands on to peft.
HANDED_ON = (
    *("r", "lora_alpha", "use_rslora", "use_dora", "target_modules"),
    *("rank_pattern", "alpha_pattern"),
)
_ATTENTIONS, _PERCEPTRON = ("self_attn", "cross_attn"), ("gate_proj", "up_proj", "down_proj")


class Refused(NamedTuple):
    """What a spelling cannot hold, and what to do instead."""

    what: str
    instead: str


def refusal(layers: Layers, spelling: str) -> Refused | None:
    """Why an adapter cannot be written in a spelling; None where it can."""
    kronecker = any(layer.is_kronecker for layer in layers.values())
    dora = any(layer.has_magnitude for layer in layers.values())
    by_column = any(layer.by_column for layer in layers.values())
    merge = "luthier merge makes a model of it"
    if kronecker and spelling in ("diffusers", "kohya"):
        return Refused(f"LoKr, which {spelling} does not know", "write it as comfyui or lycoris")
    if dora and spelling == "kohya":
        return Refused("DoRA, which kohya's tools do not know", "write it as lycoris")
    if dora and spelling == "comfyui" and not by_column:
        return Refused(
            "DoRA with a length a row, which ComfyUI divides by the lengths of the base's rows "
            "instead of the changed ones",
            f"{merge}, or write it as lycoris for tools that divide as LyCORIS does",
        )
    if dora and spelling in (*FOLDERS, "diffusers") and (kronecker or by_column):
        what = "LoKr with DoRA" if kronecker else "DoRA with a length a column"
        return Refused(f"{what}, which peft does not know", f"{merge}, or write it as lycoris")
    return None


def check_writable(layers: Layers, spelling: str, name: str) -> None:
    """Raise `AdapterError` where a spelling cannot hold the adapter called `name`."""
    refused = refusal(layers, spelling)
    if refused:
        raise AdapterError(f"{name} is {refused.what}: {refused.instead}.")
    if spelling in FOLDERS:
        peft_kronecker(layers, name)


def write_spelling(
    layers: Layers, spelling: str, target: Path, base_model: str = ""
) -> tuple[Path, ...]:
    """Write an adapter.

    Args:
        layers: by diffusers' names.
        target: a folder for peft and acestep, else the file.
        base_model: what it was trained on; may be empty.

    Returns:
        The files, the weights first.

    Raises:
        AdapterError: the spelling cannot hold it.
        StorageError, PathError: the disk refused.
    """
    check_writable(layers, spelling, target.name)
    if spelling in FOLDERS:
        return _write_peft(layers, spelling, make_folder(target), base_model)
    words = {"base_model": base_model} if base_model else {}
    if spelling == "diffusers":
        config = peft_config(layers, base_model)
        settings = {_PIPELINE_PREFIX + name: config[name] for name in HANDED_ON}
        tensors, words = _peft_tensors(layers, _PIPELINE_PREFIX), words | _settings(settings)
    else:
        tensors = _alpha_tensors(layers, spelling)
    write_bytes(target, serialise(tensors, {"format": "pt"} | words))
    return (target,)


def write_beside(layers: Layers, folder: Path, base_model: str) -> tuple[Path, ...]:
    """Write an adapter that lies in `folder` once more for the programs that do not read PEFT's
    file there: diffusers, ACE-Step and ComfyUI, each where it can hold it.
    """
    places = {
        "diffusers": folder / PIPELINE_WEIGHTS_NAME,
        "acestep": folder / ACESTEP_FOLDER,
        "comfyui": folder / COMFYUI_NAME,
    }
    written: list[Path] = []
    for spelling, place in places.items():
        if refusal(layers, spelling) is None:
            written += write_spelling(layers, spelling, place, base_model)
    return tuple(written)


def peft_tensors(layers: Layers) -> dict[str, Array]:
    """The tensors as peft's layers call them in diffusers' denoiser."""
    return _peft_tensors(layers, "")


def peft_file(tensors: Mapping[str, Array], config: Mapping[str, Any]) -> bytes:
    """`adapter_model.safetensors`, with the strength for those who take it without its
    configuration.
    """
    settings = {PEFT_PREFIX + name: config[name] for name in HANDED_ON if name in config}
    words = _settings(settings) if config["peft_type"] == "LORA" else {}
    return serialise(tensors, {"format": "pt"} | words)


def peft_config(
    layers: Layers, base_model: str, rename: Callable[[str], str] = lambda name: name
) -> dict[str, Any]:
    """PEFT's configuration of an adapter.

    Args:
        layers: by diffusers' names.
        base_model: what it was trained on; may be empty.
        rename: what the classes that it is for call a layer.

    Raises:
        AdapterError: peft cannot build LoKr of this shape.
    """
    named = {rename(name): layer for name, layer in layers.items()}
    kronecker = peft_kronecker(layers, "the adapter")
    some = next(iter(layers.values()))
    strengths = {name: layer.strength for name, layer in named.items()}
    if kronecker is not None:
        strengths = {rename(name): value for name, value in kronecker.strengths.items()}
    rank = _most([value.rank for value in strengths.values()])
    alpha = _most([value.alpha for value in strengths.values()])
    config: dict[str, Any] = {
        "base_model_name_or_path": base_model or None,
        "bias": "none",
        "inference_mode": True,
        "peft_type": "LORA",
        "r": int(rank),
        "rank_pattern": {n: int(v.rank) for n, v in sorted(strengths.items()) if v.rank != rank},
        "alpha_pattern": {n: v.alpha for n, v in sorted(strengths.items()) if v.alpha != alpha},
        "target_modules": targets(named),
        "task_type": None,
    }
    if kronecker is not None:
        config |= {"peft_type": "LOKR", "alpha": alpha, **kronecker.settings}
        del config["bias"]
        return dict(sorted(config.items()))
    config |= {
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "use_dora": some.has_magnitude,
        "use_rslora": some.strength.by_root,
    }
    return dict(sorted(config.items()))


def targets(layers: Iterable[str]) -> list[str]:
    """What names these layers for peft: suffixes where all blocks have all of that name, else the
    layers themselves, so that no other gets an empty adapter.
    """
    names = set(layers)
    short: set[str] = set()
    blocks = {name.split(".")[1] for name in names if name.startswith("layers.")}
    suffixes = {name.split(".", 3)[3] for name in names if name.count(".") >= 3}
    for suffix in suffixes:
        parents = (
            ("mlp",) if suffix.endswith(("gate_proj", "up_proj", "down_proj")) else _ATTENTIONS
        )
        wanted = {f"layers.{block}.{parent}.{suffix}" for block in blocks for parent in parents}
        if wanted <= names and len(blocks) == 1 + max(map(int, blocks)):
            short.add(suffix)
            names -= wanted
    return sorted(short | names)


def _most(values: Sequence[float]) -> float:
    """The commonest; of equally common ones the largest."""
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))


def _write_peft(layers: Layers, spelling: str, folder: Path, base_model: str) -> tuple[Path, ...]:
    rename = original_layer if spelling == "acestep" else _same
    config = peft_config(layers, base_model, rename)
    tensors = _peft_tensors({rename(name): it for name, it in layers.items()}, PEFT_PREFIX)
    write_bytes(folder / WEIGHTS_NAME, peft_file(tensors, config))
    write_json(folder / CONFIG_NAME, config)
    return folder / WEIGHTS_NAME, folder / CONFIG_NAME


def _same(name: str) -> str:
    return name


def _settings(values: Mapping[str, Any]) -> dict[str, str]:
    return {SETTINGS_KEY: json.dumps(values, sort_keys=True)}


def _peft_tensors(layers: Layers, prefix: str) -> dict[str, Array]:
    kronecker = peft_kronecker(layers, "the adapter")
    found: dict[str, Array] = {}
    for name, layer in layers.items():
        if kronecker is not None:
            for role, value in kronecker.tensors[name].items():
                found[f"{prefix}{name}.lokr_{role}"] = value
            continue
        for role, tensor in layer.tensors.items():
            value = tensor.read()
            # One length a row, without LyCORIS's second axis.
            found[f"{prefix}{name}.{_PEFT_ROLES[role]}"] = (
                value.reshape(-1) if role == MAGNITUDE else value
            )
    return found


def _alpha_tensors(layers: Layers, spelling: str) -> dict[str, Array]:
    import numpy as np

    found: dict[str, Array] = {}
    for name, layer in layers.items():
        stem, words = _stem(name, spelling, layer)
        for role, value in _as_lycoris(layer).items():
            found[f"{stem}.{words.get(role, f'lokr_{role}')}"] = value
        found[f"{stem}.alpha"] = np.asarray(_alpha(layer), np.float32)
    return found


def _stem(name: str, spelling: str, layer: LayerWeights) -> tuple[str, Mapping[str, str]]:
    """A layer's name, and its tensors' words, where strengths are alphas."""
    original = original_layer(name)
    if spelling == "kohya":
        return flat("lora_unet_", f"decoder.{original}"), _LORA_WORDS
    # ComfyUI knows LoKr under LyCORIS's names; other players know it under no other.
    if spelling == "lycoris" or layer.is_kronecker:
        return flat("lycoris_", original), _LORA_WORDS
    return PEFT_PREFIX + original, _PEFT_ROLES | {MAGNITUDE: _LORA_WORDS[MAGNITUDE]}


def _alpha(layer: LayerWeights) -> float:
    return layer.strength.plain_alpha if layer.rank else 1.0


def _as_lycoris(layer: LayerWeights) -> dict[str, Array]:
    """The matrices as LyCORIS means them: whole factors as they are, lengths with two axes."""
    import numpy as np

    found = {role: tensor.read() for role, tensor in layer.tensors.items()}
    if layer.is_kronecker and not layer.rank:
        found["w2"] = np.float32(layer.strength.scale) * found["w2"]
    if MAGNITUDE in found:
        flat_lengths = found[MAGNITUDE].reshape(-1)
        found[MAGNITUDE] = flat_lengths[None] if layer.by_column else flat_lengths[:, None]
    return found
