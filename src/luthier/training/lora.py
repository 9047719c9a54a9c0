"""Adapters by peft, put into a denoiser, saved and loaded: LoRA (Hu et al., 2021),
rsLoRA (Kalajdzievski, 2023), DoRA (Liu et al., 2024) and LoKr (Yeh et al., 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoKrConfig, LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from torch import Tensor, nn

from luthier.errors import AdapterError, TrainingError
from luthier.files import write_json
from luthier.music.adapters.file import StoredAdapter, read_adapter
from luthier.music.adapters.place import CONFIG_NAME, WEIGHTS_NAME
from luthier.music.adapters.writer import (
    PEFT_PREFIX,
    check_writable,
    peft_config,
    peft_file,
    peft_tensors,
    write_beside,
)
from luthier.training.config import TrainConfig
from luthier.training.merge_change import AdaptedLayer

_ADAPTER = "default"
_CONFIGS: dict[str, Any] = {"LORA": LoraConfig, "LOKR": LoKrConfig}
_NAMED = 3  # how many layers that do not fit are named


def add_adapter(transformer: nn.Module, config: TrainConfig) -> list[tuple[str, nn.Parameter]]:
    """Freeze `transformer`, give it a fresh adapter, and return the adapter's parameters by name.

    The adapter changes nothing yet: one of its two matrices is zero.

    Raises:
        TrainingError: a target names no linear layer of this model.
    """
    for target in config.modules:
        if not any(_is_target(name, target) for name, _ in _linears(transformer)):
            known = sorted(
                {name.split("attn.")[-1].split("mlp.")[-1] for name, _ in _linears(transformer)}
            )
            raise TrainingError(
                f"target_modules names {target!r}, but the denoiser has no such linear layer: "
                f"it has {', '.join(known)}."
            )
    _check_patterns(transformer, config)
    return _inject(transformer, _peft_config(config))


def _check_patterns(transformer: nn.Module, config: TrainConfig) -> None:
    adapted = [
        name
        for name, _ in _linears(transformer)
        if any(_is_target(name, target) for target in config.modules)
    ]
    for suffix in (*config.ranks, *config.alphas):
        if not any(_is_target(name, suffix) for name in adapted):
            raise TrainingError(
                f"a pattern names {suffix!r}, but no layer with an adapter ends with it: those are "
                f"{', '.join(config.modules)}, in layers.0.self_attn and so on."
            )


def _peft_config(config: TrainConfig) -> Any:
    if config.adapter == "lokr":
        return LoKrConfig(
            r=config.rank,
            alpha=config.alpha,
            rank_dropout=config.dropout,
            decompose_factor=config.lokr_factor,
            rank_pattern=config.ranks,
            alpha_pattern=config.alphas,
            target_modules=list(config.modules),
        )
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        rank_pattern=config.ranks,
        alpha_pattern=config.alphas,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        lora_dropout=config.dropout,
        target_modules=list(config.modules),
        bias="none",
    )


def save_adapter(transformer: nn.Module, folder: Path, base_name: str) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, as `PeftModel` reads them, and
    the same once more as diffusers, ACE-Step's own loader and ComfyUI read it (`write_beside`).
    """
    configs: Any = transformer.peft_config
    config = configs[_ADAPTER]
    kind = next(name for name, made in _CONFIGS.items() if isinstance(config, made))
    values = config.to_dict()
    values |= {"inference_mode": True, "base_model_name_or_path": base_name, "peft_type": kind}
    plain = {name: _plain(value) for name, value in sorted(values.items())}
    tensors = {
        PEFT_PREFIX + name: value.detach().float().cpu().numpy()
        for name, value in get_peft_model_state_dict(transformer).items()
    }
    (folder / WEIGHTS_NAME).write_bytes(peft_file(tensors, plain))
    write_json(folder / CONFIG_NAME, plain)
    try:
        layers = read_adapter(folder).layers
    except AdapterError:
        # It diverged, which the run finds and tells by itself; nobody else should play it.
        return
    write_beside(layers, folder, base_name)


def load_adapter(transformer: nn.Module, place: Path) -> None:
    """Put the adapter of a folder or file into `transformer`, with peft's layers.

    What peft has no layers for (LoKr with DoRA, a length a column) goes into the weights.

    Raises:
        AdapterError: it cannot be read, or was made for another model.
    """
    put_in(transformer, read_adapter(place))


def put_in(transformer: nn.Module, stored: StoredAdapter) -> None:
    """Put an adapter that was read into `transformer`; raises what `load_adapter` raises."""
    check_fit(transformer, stored)
    if not peft_knows(stored):
        for name, layer in stored.layers.items():
            weight: Any = transformer.get_submodule(name).weight
            with torch.no_grad():
                weight.add_(AdaptedLayer(layer, 1.0).delta(weight.float()).to(weight.dtype))
        return
    # The layers by their full names: a suffix would give others an adapter of their own.
    values = peft_config(stored.layers, "") | {"target_modules": sorted(stored.layers)}
    kind, place = _CONFIGS[values["peft_type"]], stored.files.place
    known = {k: v for k, v in values.items() if k in kind.__dataclass_fields__}
    try:
        parameters = _inject(transformer, kind(**known | {"inference_mode": False}))
    except (ValueError, TypeError) as error:
        raise AdapterError(f"{place} cannot be put into this model: {error}") from error
    copy_weights(parameters, peft_state(stored), place)


def peft_knows(stored: StoredAdapter) -> bool:
    """Whether peft has layers of this kind and these sizes."""
    try:
        check_writable(stored.layers, "peft", stored.name)
    except AdapterError:
        return False
    return True


def peft_state(stored: StoredAdapter) -> dict[str, Tensor]:
    """An adapter's tensors as peft's layers in diffusers' denoiser call them."""
    return {name: torch.from_numpy(v) for name, v in peft_tensors(stored.layers).items()}


def check_fit(transformer: nn.Module, stored: StoredAdapter) -> None:
    """Raise `AdapterError` naming the layers that `transformer` does not have like that."""
    linears = dict(_linears(transformer))
    wrong = []
    for name, layer in stored.layers.items():
        here = (linears[name].in_features, linears[name].out_features) if name in linears else None
        if here != layer.shape:
            wrong.append(f"{name[:120]} has shape {layer.shape} there and {here or 'none'} here")
    if wrong:
        more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise AdapterError(
            f"the adapter {stored.files.place} does not fit this model: "
            f"{'; '.join(wrong[:_NAMED])}{more} ({len(wrong)} of its {len(stored.layers)} layers). "
            "Was it trained on another model?"
        )


def copy_weights(
    parameters: list[tuple[str, nn.Parameter]], weights: Mapping[str, Tensor], folder: Path
) -> None:
    """Set an adapter's parameters to saved `weights`; `AdapterError` when they are not the same."""
    expected = {name: tuple(value.shape) for name, value in parameters}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        name = min(expected.items() ^ found.items())[0]
        raise AdapterError(
            f"the adapter {folder} does not fit this model: {name} has shape "
            f"{found.get(name, 'none')} there and {expected.get(name, 'none')} here. "
            "Was it trained on another model?"
        )
    with torch.no_grad():
        for name, value in parameters:
            value.copy_(weights[name])


def _inject(transformer: nn.Module, config: Any) -> list[tuple[str, nn.Parameter]]:
    transformer.requires_grad_(False)
    inject_adapter_in_model(config, transformer, _ADAPTER)
    found = [(_plain_name(n), p) for n, p in transformer.named_parameters() if p.requires_grad]
    for _, parameter in found:
        # peft takes the type of the frozen weights; small steps would be lost in half precision.
        parameter.data = parameter.data.float()
    return found


def _plain_name(name: str) -> str:
    """A tensor's name as PEFT stores it: without the adapter's, DoRA's magnitude without .weight"""
    name = name.replace(f".{_ADAPTER}.", ".").removesuffix(f".{_ADAPTER}")
    return name.removesuffix(".weight") if "lora_magnitude_vector" in name else name


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear))


def _is_target(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
