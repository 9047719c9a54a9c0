"""ACE-Step's autoencoder, diffusers' Oobleck, with the contract that luthier's own has."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from torch import Tensor


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


def oobleck_from(folder: Path) -> Oobleck:
    """Load a saved Oobleck (safetensors) in float32 and evaluation mode."""
    model: Oobleck = Oobleck.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    model.eval()
    return model
