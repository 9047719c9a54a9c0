"""ACE-Step's autoencoder, diffusers' Oobleck, with the contract that luthier's own has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from torch import Tensor, nn
from torch.nn.utils import remove_weight_norm


class Oobleck(AutoencoderOobleck):  # type: ignore[misc]  # diffusers is untyped
    """Encodes to the mean of the posterior: the same audio has the same latents, always."""

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, 2, hop·T) → latents (B, C, T)."""
        latents: Tensor = super().encode(audio).latent_dist.mode()
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, T) → audio (B, 2, hop·T)."""
        audio: Tensor = super().decode(latents).sample
        return audio


def context_frames(downsampling_ratios: Sequence[int]) -> int:
    """Latent frames, on each side, that a frame of decoded audio depends on: 9 for ACE-Step."""
    samples, reach = 1, 3.0  # the first convolution's seven taps
    for ratio in reversed(downsampling_ratios):
        reach += 1 / samples  # a transposed convolution sees one neighbour
        samples *= ratio
        reach += 3 * (1 + 3 + 9) / samples  # three residual units, seven taps dilated by 1, 3, 9
    return math.ceil(reach + 3 / samples)


def oobleck_from(folder: Path) -> Oobleck:
    """Load a saved Oobleck (safetensors) in float32 and evaluation mode."""
    model: Oobleck = Oobleck.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    model.eval()
    return model


def without_weight_norm(model: Oobleck) -> None:
    """Replace every weight that is a direction and a length by their product, in place.

    Weight normalisation (Salimans & Kingma, 2016) helps training; computing it in every run costs
    a pass over all weights.
    """
    for part in model.modules():
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d) and hasattr(part, "weight_g"):
            remove_weight_norm(part)


def folded(direction: Tensor, length: Tensor) -> Tensor:
    """The weight that `weight_v` and `weight_g` of a checkpoint stand for."""
    return torch._weight_norm(direction, length, 0)
