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

from luthier.music.adapters.file import StoredAdapter
from luthier.music.adapters.layer import LayerWeights
from luthier.music.torch.denoiser import denoise
from luthier.music.torch.model_folder import CLASSES, ModelFolder
from luthier.music.torch.weight_files import safetensors_files
from luthier.training.lora import peft_knows, put_in
from luthier.training.merge_adapters import Adapter
from luthier.training.merge_change import WholeWeight
from luthier.training.tensor_file import read_header

# Of the velocity's size. float32 only adds in another order; the others keep 11 and 8 bits of each
# weight, which moves the velocity by some thousandths and hundredths.
ALLOWED = {"F64": 1e-4, "F32": 1e-4, "F16": 0.01, "BF16": 0.05}
_NOTHING = 1e-5  # an effect that float32 cannot tell from another order of adding
_BATCH, _TOKENS, _PATCHES = 2, 12, 24
Hook = Callable[[nn.Module, Any, Tensor], Tensor]


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
        assert adapter.stored is not None
        known = peft_knows(adapter.stored)
        layers = dict(_twin(model, adapter, adapter.stored).named_modules()) if known else {}
        for name in adapter.stored.layers:
            hook = (
                _adding(layers[name])
                if known
                else _adding_without_peft(adapter, adapter.stored, name)
            )
            handles.append(model.get_submodule(name).register_forward_hook(hook))
    try:
        return _velocity(model)
    finally:
        for handle in handles:
            handle.remove()


def _adding(layer: nn.Module) -> Hook:
    base: Any = layer.base_layer

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        added: Tensor = layer(*inputs) - base(*inputs)
        return output + added

    return hook


def _twin(model: Any, adapter: Adapter, stored: StoredAdapter) -> nn.Module:
    """The model once more with peft's layers; it shares the weights of `model`."""
    with torch.device("meta"):
        twin: nn.Module = CLASSES["transformer"].from_config(model.config)
    twin.load_state_dict(model.state_dict(), strict=True, assign=True)
    twin.eval()
    put_in(twin, stored)
    for layer in twin.modules():
        scale: Any = getattr(layer, "scale_layer", None)
        if scale is not None:
            scale(adapter.weight)
    return twin.eval()


def _adding_without_peft(adapter: Adapter, stored: StoredAdapter, name: str) -> Hook:
    """What peft has no layer for: computed on the activations, not on the weights."""
    layer = stored.layers[name]
    factor = adapter.weight * layer.strength.scale

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        (x,) = inputs
        linear: Any = module
        plain = nn.functional.linear(x, linear.weight)
        changed = plain + factor * _product(layer, x)
        if layer.has_magnitude:
            whole = linear.weight + torch.from_numpy(layer.product()) * adapter.weight
            wanted = torch.from_numpy(layer.magnitudes())
            ratio = wanted / whole.norm(dim=0 if layer.by_column else 1)
            if layer.by_column:
                x = x * ratio
                changed = nn.functional.linear(x, linear.weight) + factor * _product(layer, x)
            else:
                changed = changed * ratio
        return output + changed - plain

    return hook


def _product(layer: LayerWeights, x: Tensor) -> Tensor:
    """The matrices of a layer, without strength, times its input."""
    if not layer.is_kronecker:
        down, up = (torch.from_numpy(layer.tensors[role].read()) for role in ("down", "up"))
        return x @ down.T @ up.T
    first, second = (torch.from_numpy(layer.factor(name)) for name in ("w1", "w2"))
    parts = x.reshape(*x.shape[:-1], first.shape[1], second.shape[1])
    made = torch.einsum("ab,cd,...bd->...ac", first, second, parts)
    return made.flatten(-2)


def _move_weights(model: Any, adapter: Adapter) -> None:
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, change in adapter.changes.items():
            assert isinstance(change, WholeWeight)
            new = change.record.read().to(parameters[name].dtype)
            parameters[name].lerp_(new, adapter.weight)


def _size(value: Tensor) -> float:
    return float(value.square().mean().sqrt())


def _allowed(merged_dir: Path, names: set[str]) -> float:
    return max(
        ALLOWED[record.dtype]
        for shard in safetensors_files(merged_dir / "transformer")
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
