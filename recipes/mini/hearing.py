"""Where in the latents tempo and key are heard, and a loss that looks there.

Every frame of music differs from what a prompt can tell by so much that key and tempo, which show
only in averages over many frames, hardly move an ordinary squared error. Projected on the pitch
classes and averaged over time, key is most of what is left; projected on a few bands and on waves
at the rates of beats, tempo is. Squared errors of such projections have the same minimiser as the
squared error itself, the conditional mean: this reweights, it does not bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from luthier.music.torch.autoencoder import MiniAutoencoder

_REGISTERS = ((55.0, 220.0), (220.0, 1760.0))  # Hz: the bass, and where chords and melody lie
_BANDS = ((40.0, 150.0), (150.0, 600.0), (600.0, 2500.0), (2500.0, 11000.0))
_RATES = torch.cat([torch.linspace(1.0, 140 / 60, 24), torch.linspace(2.4, 140 / 30, 24)])  # Hz


class Hearing(nn.Module):
    """Linear maps from latents (B, T, C) to what a listener judges key and tempo by.

    Args:
        vae: its inverse projection says what spectrum a latent stands for.
        sample: latents (clips, T, C) of the training music, to scale each direction to variance 1.
    """

    def __init__(self, vae: MiniAutoencoder, sample: Tensor) -> None:
        super().__init__()
        rate, hop = vae.config.sample_rate, vae.config.hop_length
        self.frames_per_second = rate / hop
        hertz = torch.linspace(0, rate / 2, vae.spectrum.bins)
        both = vae.inverse.reshape(vae.inverse.shape[0], 2, -1).mean(dim=1)  # (C, bins)
        chroma = torch.cat([_pitch_classes(hertz, *r) for r in _REGISTERS])  # (24, bins)
        bands = torch.stack([((hertz >= lo) & (hertz < hi)).float() for lo, hi in _BANDS])
        bands = bands / bands.sum(dim=1, keepdim=True)
        self.register_buffer("chroma", both @ chroma.T)
        self.register_buffer("bands", both @ bands.T)
        with torch.no_grad():
            heard, beaten = self.forward(sample)
            self.register_buffer("chroma_scale", 1 / heard.std(dim=0).clamp_min(1e-6))
            self.register_buffer("beat_scale", 1 / beaten.std(dim=(0, 1)).clamp_min(1e-6))

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean pitch-class levels (B, 24) and beat waves of the bands (B, rates, 2·bands)."""
        heard = (latents @ self.chroma).mean(dim=1)
        # What all pitch classes share is loudness, not key.
        registers = heard.reshape(len(heard), len(_REGISTERS), 12)
        heard = (registers - registers.mean(dim=2, keepdim=True)).flatten(1)
        t = torch.arange(latents.shape[1]) / self.frames_per_second
        phase = 2 * math.pi * _RATES[:, None] * t
        levels = latents @ self.bands
        waves = torch.cat([torch.cos(phase) @ levels, torch.sin(phase) @ levels], dim=2)
        return heard, waves / math.sqrt(latents.shape[1])

    def loss(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error in both, for an error of predicted music (B, T, C): two scalars."""
        heard, beaten = self.forward(error)
        key = (heard * self.chroma_scale).square().mean()
        return key, (beaten * self.beat_scale).square().mean()


def _pitch_classes(hertz: Tensor, low: float, high: float) -> Tensor:
    """How much each spectral line counts for each pitch class in a register: (12, bins)."""
    pitch = 69 + 12 * torch.log2(hertz.clamp_min(1.0) / 440.0)
    inside = (hertz >= low) & (hertz <= high)
    distance = (pitch[None, :] - torch.arange(12)[:, None] + 6) % 12 - 6
    # A line is 12.5 Hz wide: in the bass it covers more than a semitone.
    width = torch.clamp(12 * 12.5 / (hertz * math.log(2)), 0.5, 2.0)
    weight = torch.clamp(1 - distance.abs() / width, min=0.0) * inside
    return weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-6)
