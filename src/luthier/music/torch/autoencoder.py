"""mini's autoencoder: stereo audio ↔ latents, with the contract of ACE-Step's VAE.

Encoding is linear: short-time Fourier magnitudes, compressed by a power, projected on their
principal components. That makes latents that are smooth, ordered by energy and cheap to fit; a
convolutional network decodes them to sharper magnitudes than the projection's inverse, and
Griffin–Lim finds the phase that both channels share.

Everything is matrix products, reshapes and elementwise operations, so that it exports to ONNX as
it is.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from luthier.music.torch.fourier import Spectrum

_FLOOR = 1e-5


class _Block(nn.Module):
    """ConvNeXt block in one dimension (Liu et al., 2022): depthwise convolution, norm, two-layer
    perceptron.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) → the same."""
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        y = self.down(nn.functional.gelu(self.up(self.norm(y)), approximate="tanh"))
        added: Tensor = x + self.scale * y
        return added


class MiniAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Audio (B, 2, hop·T) in ±1 ↔ latents (B, C, T).

    Args:
        sample_rate: Hz of the audio.
        hop_length: samples a latent frame; the Fourier window is four hops.
        latent_channels: principal components kept, C.
        width: channels of the decoder.
        depth: ConvNeXt blocks of the decoder.
        expansion: widening inside a block.
        power: compression of magnitudes, magnitude ** power.
        phase_iterations: Griffin–Lim steps when decoding.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_rate: int = 24_000,
        hop_length: int = 480,
        latent_channels: int = 64,
        width: int = 256,
        depth: int = 6,
        expansion: int = 3,
        power: float = 0.3,
        phase_iterations: int = 24,
    ) -> None:
        super().__init__()
        self.spectrum = Spectrum(hop_length)
        features = 2 * self.spectrum.bins
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("basis", torch.zeros(features, latent_channels))
        self.register_buffer("inverse", torch.zeros(latent_channels, features))
        self.proj_in = nn.Conv1d(latent_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList([_Block(width, expansion) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.proj_out = nn.Linear(width, features)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def features(self, audio: Tensor) -> Tensor:
        """Compressed magnitudes of both channels: (B, 2, hop·T) → (B, T, 2·bins). A full-scale
        tone is near 1.
        """
        batch = audio.shape[0]
        real, imaginary = self.spectrum.analyse(audio.reshape(batch * 2, -1))
        scale = 4.0 / self.spectrum.n_fft
        energy = (real * real + imaginary * imaginary) * (scale * scale) + _FLOOR**2
        compressed = energy ** (self.config.power / 2)
        left_right = compressed.reshape(batch, 2, compressed.shape[1], -1)
        return torch.cat([left_right[:, 0], left_right[:, 1]], dim=-1)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, 2, hop·T) → latents (B, C, T)."""
        projected: Tensor = (self.features(audio) - self.mean) @ self.basis
        return projected.transpose(1, 2)

    def decode_features(self, latents: Tensor) -> Tensor:
        """Latents (B, C, T) → compressed magnitudes (B, T, 2·bins): the linear inverse plus what
        the network adds.
        """
        x = self.proj_in(latents).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        linear = latents.transpose(1, 2) @ self.inverse + self.mean
        sharpened: Tensor = linear + self.proj_out(self.norm(x))
        return sharpened

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, T) → audio (B, 2, hop·T). Both channels share the phase of their sum."""
        bins = self.spectrum.bins
        floor = _FLOOR**self.config.power
        compressed = self.decode_features(latents).clamp_min(floor)
        magnitude = (compressed ** (1.0 / self.config.power) - _FLOOR).clamp_min(0.0)
        magnitude = magnitude * (self.spectrum.n_fft / 4.0)
        left, right = magnitude[..., :bins], magnitude[..., bins:]
        c, s = self.spectrum.phase(0.5 * (left + right), self.config.phase_iterations)
        channels = torch.cat([left, right], dim=0)
        audio = self.spectrum.synthesise(
            channels * torch.cat([c, c], dim=0), channels * torch.cat([s, s], dim=0)
        )
        batch = latents.shape[0]
        return torch.stack([audio[:batch], audio[batch:]], dim=1)

    def fit_projection(self, features: Tensor, whitening: float = 0.5) -> None:
        """Set mean, basis and inverse from feature frames (frames, 2·bins) by principal components.

        Args:
            features: a sample of the music the model is for; tens of thousands of frames.
            whitening: exponent of the components' standard deviations that is divided out. 1 makes
            all latents
                equally loud; 0.5 keeps the strong components louder, which a diffusion model then
                settles first.
        """
        bins = self.spectrum.bins
        hertz = torch.linspace(0, self.config.sample_rate / 2, bins)
        # Below some 400 Hz every bin counts fully; above, hearing groups ever more bins into one
        # band.
        weight = (1 + hertz / 400.0).pow(-0.5).repeat(2)
        mean = features.mean(0)
        centred = (features - mean) * weight
        covariance = (centred.T @ centred).double() / len(centred)
        values, vectors = torch.linalg.eigh(covariance)
        channels = self.config.latent_channels
        values, vectors = values.flip(0)[:channels], vectors.flip(1)[:, :channels]
        deviation = values.clamp_min(1e-12).sqrt()
        gain = deviation**-whitening
        gain = gain / ((deviation * gain).square().mean().sqrt())
        self.mean.copy_(mean)
        self.basis.copy_((weight[:, None] * vectors * gain).float())
        self.inverse.copy_((vectors / gain / weight[:, None]).T.float())


def autoencoder_from(folder: Any) -> MiniAutoencoder:
    """Load a saved autoencoder (safetensors) from a folder, in float32 and evaluation mode."""
    model: MiniAutoencoder = MiniAutoencoder.from_pretrained(folder, torch_dtype=torch.float32)
    model.eval()
    return model
