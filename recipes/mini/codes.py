"""The audio codes while they are trained: what they make of music, and how far that is off."""

from __future__ import annotations

import torch
from torch import Tensor

from luthier.music.torch.model import MusicModel


def hints(model: MusicModel, music: Tensor) -> Tensor:
    """Music through the audio codes and back: (B, T, C), T a multiple of the pool window."""
    batch, frames, channels = music.shape
    window = model.spec.pool_window
    pooled = music[:, : frames // window * window].reshape(batch, -1, window, channels)
    quantized, _ = model.audio_tokenizer(pooled)
    decoded: Tensor = model.audio_detokenizer(quantized)
    return decoded


def tokenizer_loss(model: MusicModel, music: Tensor) -> Tensor:
    """Reconstruction error of the audio codes, with straight-through gradients past the
    rounding.
    """
    tokenizer, window = model.audio_tokenizer, model.spec.pool_window
    batch, frames, channels = music.shape
    pooled = music.reshape(batch, frames // window, window, channels)
    hidden = tokenizer.attention_pooler(tokenizer.audio_acoustic_proj(pooled))
    quantizer = tokenizer.quantizer
    levels = torch.tensor(quantizer.levels, dtype=torch.float32)
    bound = 1.0 + 1.0 / (levels - 1.0)
    codes = torch.tanh(quantizer.project_in(hidden) / bound) * bound
    rounded = codes + (quantizer._quantize(codes) - codes).detach()
    decoded = model.audio_detokenizer(quantizer.project_out(rounded))
    return (decoded - music).square().mean()
