"""Adapters by peft, put into a denoiser, saved and loaded as PEFT does: LoRA (Hu et al., 2021),
rsLoRA (Kalajdzievski, 2023), DoRA (Liu et al., 2024) and LoKr (Yeh et al., 2023).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoKrConfig, LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from luthier.errors import LuthierError, TrainingError
from luthier.files import read_json, write_json
from luthier.training.config import TrainConfig

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PREFIX = "base_model.model."  # what PeftModel calls the model that it wraps
# Where diffusers' `load_lora_weights` looks, and what it calls the denoiser.
PIPELINE_WEIGHTS_NAME, _PIPELINE_PREFIX = "pytorch_lora_weights.safetensors", "transformer."
_ADAPTER = "default"
_STRENGTH = ("r", "lora_alpha", "use_rslora", "use_dora", "target_modules")
_CONFIGS: dict[str, Any] = {"LORA": LoraConfig, "LOKR": LoKrConfig}


class AdapterError(TrainingError):
    """An adapter is missing, damaged, of a kind that is not supported, or of another model."""

    exit_code = 2


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
    return _inject(transformer, _peft_config(config))


def _peft_config(config: TrainConfig) -> Any:
    if config.adapter == "lokr":
        return LoKrConfig(
            r=config.rank,
            alpha=config.alpha,
            rank_dropout=config.dropout,
            decompose_factor=config.lokr_factor,
            target_modules=list(config.modules),
        )
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        lora_dropout=config.dropout,
        target_modules=list(config.modules),
        bias="none",
    )


def save_adapter(transformer: nn.Module, folder: Path, base_name: str) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, as `PeftModel` reads them.

    A LoRA is written once more with diffusers' names: `AceStepPipeline.load_lora_weights(folder)`
    looks for another file, and takes alpha for the rank unless the file says otherwise.
    """
    configs: Any = transformer.peft_config
    config = configs[_ADAPTER]
    kind = next(name for name, made in _CONFIGS.items() if isinstance(config, made))
    values = config.to_dict()
    values |= {"inference_mode": True, "base_model_name_or_path": base_name, "peft_type": kind}
    plain = {name: _plain(value) for name, value in sorted(values.items())}
    state = {
        name: value.detach().float().cpu().contiguous()
        for name, value in get_peft_model_state_dict(transformer).items()
    }
    files = {WEIGHTS_NAME: PREFIX}
    if kind == "LORA":
        files[PIPELINE_WEIGHTS_NAME] = _PIPELINE_PREFIX
    for file, prefix in files.items():
        settings = {prefix + name: plain[name] for name in _STRENGTH if name in plain}
        metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(settings)}
        tensors = {prefix + name: value for name, value in state.items()}
        (folder / file).write_bytes(serialised(tensors, metadata=metadata))
    write_json(folder / CONFIG_NAME, plain)


def load_adapter(transformer: nn.Module, folder: Path) -> list[tuple[str, nn.Parameter]]:
    """Give `transformer` the adapter in `folder`; return its parameters by name.

    Raises:
        AdapterError: it is damaged, or was made for another model.
    """
    config = read_adapter_config(folder)
    weights = read_adapter_weights(folder)
    try:
        kind = _CONFIGS[config["peft_type"]]
        known = {k: v for k, v in config.items() if k in kind.__dataclass_fields__}
        made = kind(**known | {"inference_mode": False})
        parameters = _inject(transformer, made)
    except (ValueError, TypeError) as error:
        raise AdapterError(f"{folder} cannot be put into this model: {error}") from error
    copy_weights(parameters, weights, folder)
    return parameters


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


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json` of a LoRA or LoKr adapter; `AdapterError` for anything else."""
    if not folder.is_dir():
        raise AdapterError(f"the LoRA checkpoint {folder} does not exist, or is not a folder.")
    try:
        config = read_json(folder / CONFIG_NAME)
    except LuthierError as error:
        raise AdapterError(f"{folder} is not a LoRA adapter: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") not in _CONFIGS:
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterError(
            f"{folder / CONFIG_NAME} is not of a LoRA or LoKr adapter: peft_type is {kind}."
        )
    return config


def read_adapter_weights(folder: Path) -> dict[str, Tensor]:
    """The adapter's tensors by name without PEFT's prefix; none holds a NaN."""
    path = folder / WEIGHTS_NAME
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise AdapterError(f"{folder} is not a LoRA adapter: {WEIGHTS_NAME} is missing.") from None
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is damaged: {error}") from error
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise AdapterError(f"{path} holds values that are no numbers (NaN) in {name}.")
    return {_plain_name(name.removeprefix(PREFIX)): value for name, value in tensors.items()}


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
