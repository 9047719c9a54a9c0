"""Does a merged model compute what base + adapter compute? Both are loaded and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel
from torch import Tensor

from luthier.errors import ModelError
from luthier.music.denoiser import denoise
from luthier.training.lora import load_adapter
from luthier.training.tensor_file import read_header, type_of

_EXACT = 1e-5
# bfloat16 keeps eight bits: weights that are rounded to it move the velocity by some hundredths.
_ROUNDED = 0.1
_BATCH, _TOKENS, _PATCHES = 2, 12, 24


class Check(NamedTuple):
    """The largest difference of a velocity, and the largest allowed."""

    difference: float
    tolerance: float


def compare(
    base_dir: Path, adapter_dir: Path, merged_dir: Path, scale: float, storage: str
) -> Check:
    """Compare the two on one random batch, in float32."""
    adapted = _load(base_dir)
    load_adapter(adapted, adapter_dir)
    if scale != 1.0:
        for module in adapted.modules():
            if hasattr(module, "scale_layer"):
                module.scale_layer(scale)
    expected = _velocity(adapted)
    del adapted
    found = _velocity(_load(merged_dir))
    half = storage == "base" and not _is_float32(merged_dir)
    difference = float((expected - found).abs().max())
    return Check(difference, _ROUNDED * float(expected.abs().max()) if half else _EXACT)


def _load(folder: Path) -> Any:
    try:
        model = AceStepTransformer1DModel.from_pretrained(
            folder / "transformer", torch_dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder / 'transformer'} cannot be loaded: {error}") from error
    return model.eval()


def _is_float32(folder: Path) -> bool:
    shards = (folder / "transformer").glob("*.safetensors")
    records = [record for shard in shards for record in read_header(shard).values()]
    return all(type_of(record) == torch.float32 for record in records)


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
