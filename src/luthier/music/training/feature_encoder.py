"""Audio → latents and prompts → conditions, with only those parts of the model in memory that the
pass at hand needs: first autoencoder and audio tokenizer, then text and condition encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.audio.decode import read_audio
from luthier.files import sha256_of
from luthier.music.spec import ModelSpec
from luthier.music.torch.denoiser import encode_conditions
from luthier.music.torch.model_folder import ModelFolder
from luthier.music.training.training_pairs import Sound

_TILE_S, _OVERLAP_S = 30, 2  # a long track is encoded in tiles; what overlaps is thrown away
# How this module encodes, as far as the result shows it: another manner, another number.
_MANNER = f"1: float32, tiles of {_TILE_S} s, overlap {_OVERLAP_S} s"
_WORDS = "2: the tokenizer's special tokens, XL's timbre token"


@dataclass(frozen=True)
class _Reader:
    """What `encode_conditions` needs of a model."""

    spec: ModelSpec
    text_encoder: Any
    condition_encoder: Any
    tokenizer: Any

    @property
    def silence(self) -> Tensor:
        latent: Tensor = self.condition_encoder.silence_latent
        return latent


class Encoder:
    """Encodes with a model of which nothing is loaded until it is needed.

    Args:
        model: where the parts are.
        device: to compute on.
    """

    def __init__(self, model: ModelFolder, device: torch.device) -> None:
        self.model, self.spec, self.device = model, model.spec, device
        self._parts: dict[str, Any] = {}

    @cached_property
    def identity(self) -> str:
        """What tells the results of this encoder from another's: the model, and the manner."""
        return f"{self.model.identity} {_MANNER}; {_WORDS}"

    @cached_property
    def vae_identity(self) -> str:
        """The same of plain latents, which merged and related models have in common."""
        return f"{sha256_of(self.model.part_folder('vae'))} {_MANNER}"

    def release(self) -> None:
        """Let go of what is loaded."""
        self._parts.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def latents(self, sound: Sound) -> Tensor:
        """Latents (T, C) of a sound on the CPU."""
        latents = encode_audio(self._part("vae"), torch.from_numpy(self._mixed(sound)), self.spec)
        return self._as_codes(latents) if sound.as_codes else latents

    @torch.no_grad()
    def conditions(self, text: str, lyrics: str) -> dict[str, Tensor]:
        """Encoder states (L, D) and mask (L,) of a prompt on the CPU, without reference audio."""
        reader = _Reader(
            self.spec,
            self._part("text_encoder"),
            self._part("condition_encoder"),
            self._part("tokenizer"),
        )
        states, mask = encode_conditions(reader, [text], [lyrics])  # type: ignore[arg-type]
        return {"states": states[0].float().cpu(), "mask": mask[0].float().cpu()}

    def _part(self, name: str) -> Any:
        if name not in self._parts:
            if name == "tokenizer":
                self._parts[name] = self.model.tokenizer()
            else:
                self._parts[name] = self.model.part(name).to(self.device)
        return self._parts[name]

    def _mixed(self, sound: Sound) -> NDArray[np.float32]:
        read = [
            read_audio(path, sample_rate=self.spec.sample_rate, channels=2)[0]
            for path in sound.files
        ]
        mixed = np.zeros((2, max(audio.shape[1] for audio in read)), np.float32)
        for audio in read:
            mixed[:, : audio.shape[1]] += audio
        clipped: NDArray[np.float32] = np.clip(mixed, -1.0, 1.0)
        return clipped

    @torch.no_grad()
    def _as_codes(self, latents: Tensor) -> Tensor:
        """Latents (T, C) as the audio codes say them: a cover hears no more of its source."""
        frames, window = latents.shape[0], self.spec.pool_window
        missing = -frames % window
        if missing:
            silence = self._part("condition_encoder").silence_latent[0, :missing].cpu()
            latents = torch.cat([latents, silence])
        windows = latents.reshape(1, -1, window, latents.shape[-1]).to(self.device)
        quantized, _ = self._part("audio_tokenizer")(windows)
        hints: Tensor = self._part("audio_detokenizer")(quantized)[0, :frames]
        return hints.float().cpu()


def encode_audio(vae: Any, audio: Tensor, spec: ModelSpec) -> Tensor:
    """Audio (2, n) → latents (T, C) on the CPU, in tiles, with T = the frames that are full."""
    frames = audio.shape[1] // spec.hop_length
    tile, overlap = (round(s * spec.frames_per_second) for s in (_TILE_S, _OVERLAP_S))
    device = next(vae.parameters()).device
    parts: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, frames, tile):
            first, last = max(0, start - overlap), min(frames, start + tile + overlap)
            window = audio[None, :, first * spec.hop_length : last * spec.hop_length].to(device)
            latents = vae.encode(window)[0].T.float().cpu()
            parts.append(latents[start - first : min(start + tile, frames) - first])
    return torch.cat(parts) if parts else torch.zeros(0, spec.latent_channels)
