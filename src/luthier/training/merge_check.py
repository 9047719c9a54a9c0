"""Does a merged model compute what base + adapters compute? Both are loaded and asked.

The reference knows nothing of how merging is done: peft's own layers are hung onto the base model,
and what each adds to a layer's output is summed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from luthier.files import read_json, temporary_folder, write_json
from luthier.music.checkpoints import CLASSES, ModelFolder
from luthier.music.denoiser import denoise
from luthier.training.lora import CONFIG_NAME, PREFIX, WEIGHTS_NAME, load_adapter
from luthier.training.merge_adapters import Adapter, native_name
from luthier.training.tensor_file import Slot, read_header, write_tensors

# Of the velocity's size. float32 only adds in another order; the others keep 11 and 8 bits of each
# weight, which moves the velocity by some thousandths and hundredths.
ALLOWED = {"F64": 1e-4, "F32": 1e-4, "F16": 0.01, "BF16": 0.05}
_NOTHING = 1e-5  # an effect that float32 cannot tell from another order of adding
_BATCH, _TOKENS, _PATCHES = 2, 12, 24


@dataclass(frozen=True)
class Check:
    """How far the merged model is from base + adapters, as a share of the velocity's size."""

    difference: float  # root mean square
    allowed: float
    effect: float  # the same between base + adapters and base: what the adapters do
    max_abs_difference: float  # the largest single one, in the velocity's own unit

    @property
    def passed(self) -> bool:
        """Close enough, and at most half of what the adapters do is lost."""
        kept = self.difference < self.effect / 2 or self.effect < _NOTHING
        return self.difference <= self.allowed and kept

    @property
    def sentence(self) -> str:
        """The result in words."""
        numbers = (
            f"the merged model differs from base + adapter by {self.difference:.2g} of the "
            f"velocity (allowed {self.allowed:g}); the adapter changes {self.effect:.2g} of it"
        )
        if self.passed:
            return numbers + "."
        if self.difference <= self.allowed:
            return (
                numbers
                + ", of which rounding to the base's type swallowed most: use --storage exact."
            )
        return numbers + ": it is not the same model."


def compare(base: ModelFolder, adapters: Sequence[Adapter], merged_dir: Path) -> Check:
    """Compare the two on one random batch, in float32; memory holds the denoiser once or twice."""
    model = base.part("transformer")
    plain = _velocity(model)
    expected = _velocity_with(model, adapters)
    del model
    merged = ModelFolder(merged_dir, "diffusers").part("transformer")
    found = _velocity(merged)
    names = {name for adapter in adapters for name in adapter.changes}
    return Check(
        difference=_size(found - expected) / _size(expected),
        allowed=_allowed(merged_dir, names),
        effect=_size(expected - plain) / _size(expected),
        max_abs_difference=float((found - expected).abs().max()),
    )


def _velocity_with(model: Any, adapters: Sequence[Adapter]) -> Tensor:
    """The velocity of `model` with adapters; the model is as before afterwards, but for full ones,
    which are put into its weights.
    """
    for adapter in adapters:
        if adapter.method == "full":
            _move_weights(model, adapter)
    handles = []
    for adapter in adapters:
        if adapter.method == "full":
            continue
        layers = dict(_twin(model, adapter).named_modules())
        for name in adapter.changes:
            module = name.removesuffix(".weight")
            hook = _adding(layers[module])
            handles.append(model.get_submodule(module).register_forward_hook(hook))
    try:
        return _velocity(model)
    finally:
        for handle in handles:
            handle.remove()


def _adding(layer: nn.Module) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    base: Any = layer.base_layer

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        added: Tensor = layer(*inputs) - base(*inputs)
        return output + added

    return hook


def _twin(model: Any, adapter: Adapter) -> nn.Module:
    """The model once more with peft's layers; it shares the weights of `model`."""
    with torch.device("meta"):
        twin: nn.Module = CLASSES["transformer"].from_config(model.config)
    twin.load_state_dict(model.state_dict(), strict=True, assign=True)
    twin.eval()
    with temporary_folder() as folder:
        load_adapter(twin, _native_copy(adapter, folder))
    for layer in twin.modules():
        scale: Any = getattr(layer, "scale_layer", None)
        if scale is not None:
            scale(adapter.weight)
    return twin.eval()


def _native_copy(adapter: Adapter, folder: Path) -> Path:
    """The adapter with diffusers' names, where a trainer of the original layout wrote it."""
    modules = sorted(name.removesuffix(".weight") for name in adapter.changes)
    records = read_header(adapter.folder / WEIGHTS_NAME)
    renamed = [
        Slot(PREFIX + native_name(name.removeprefix(PREFIX)), record.dtype, record)
        for name, record in records.items()
    ]
    if [slot.name for slot in renamed] == list(records):
        return adapter.folder
    config = read_json(adapter.folder / CONFIG_NAME) | {"target_modules": modules}
    for patterns in ("rank_pattern", "alpha_pattern"):
        values = (config.get(patterns) or {}).items()
        config[patterns] = {native_name(f"{k}.weight")[: -len(".weight")]: v for k, v in values}
    write_json(folder / CONFIG_NAME, config)
    write_tensors(folder / WEIGHTS_NAME, renamed, lambda _, value: value)
    return folder


def _move_weights(model: Any, adapter: Adapter) -> None:
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, change in adapter.changes.items():
            new = change.tensors["full"].read().to(parameters[name].dtype)
            parameters[name].lerp_(new, adapter.weight)


def _size(value: Tensor) -> float:
    return float(value.square().mean().sqrt())


def _allowed(merged_dir: Path, names: set[str]) -> float:
    return max(
        ALLOWED[record.dtype]
        for shard in (merged_dir / "transformer").glob("*.safetensors")
        for name, record in read_header(shard).items()
        if name in names
    )


def _velocity(transformer: Any) -> Tensor:
    config = transformer.config
    generator = torch.Generator().manual_seed(0)
    frames, channels = config.patch_size * _PATCHES, config.audio_acoustic_hidden_dim
    width = transformer.condition_embedder.in_features

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    time = torch.tensor([0.3, 0.8])
    context = random(_BATCH, frames, config.in_channels - channels)
    mask, tokens = torch.ones(_BATCH, frames), torch.ones(_BATCH, _TOKENS)
    noisy, states = random(_BATCH, frames, channels), random(_BATCH, _TOKENS, width)
    with torch.no_grad():
        return denoise(transformer, noisy, time, time, mask, states, tokens, context)
