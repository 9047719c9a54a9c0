"""The same prompts with the same noise through a denoiser in training: audio to compare by ear.

The steps are those of playing (schedule, guidance), computed in torch on the weights as they are.
The autoencoder is loaded for it and let go again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.music.playing.guidance import ProjectedGuidance, classifier_free
from luthier.music.playing.schedule import step_times
from luthier.music.torch.denoiser import denoise
from luthier.music.torch.model_folder import ModelFolder
from luthier.music.training.batches import Constants, derived_seed
from luthier.music.training.feature_cache import Entry, Variant
from luthier.training.config import TrainConfig

_PEAK = 10 ** (-1 / 20)  # as in playing: -1 dBFS


@dataclass(frozen=True)
class Sample:
    """One prompt, played."""

    caption: str
    audio: NDArray[np.float32]  # (2, n), peak at -1 dBFS
    sample_rate: int


class Player:
    """Plays the prompts of a few tracks.

    Args:
        model: for the autoencoder.
        entries: tracks; the first `config.samples` that have a text-to-music prompt are played.
        constants: of the model.
        config: how many, how long, and the seed of the noise.
        device: where the denoiser is.
    """

    def __init__(
        self,
        model: ModelFolder,
        entries: Sequence[Entry],
        constants: Constants,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self.model, self.constants, self.config, self.device = model, constants, config, device
        found = [(entry.caption, _prompt(entry)) for entry in entries]
        self.prompts = [(c, v) for c, v in found if v is not None][: config.samples]

    @torch.no_grad()
    def play(self, transformer: Any) -> list[Sample]:
        """Each prompt's audio; the denoiser is left as it was found."""
        training = transformer.training
        transformer.eval()
        half = any(p.dtype == torch.bfloat16 for p in transformer.parameters())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            latents = [self._latents(transformer, i) for i in range(len(self.prompts))]
        transformer.train(training)
        vae, rate = self.model.part("vae").to(self.device), self.model.spec.sample_rate
        samples = []
        for (caption, _), found in zip(self.prompts, latents, strict=True):
            audio = vae.decode(found.transpose(1, 2))[0].float().cpu().numpy()
            peak = max(float(np.abs(audio).max()), 1e-9)
            samples.append(Sample(caption, audio * np.float32(_PEAK / peak), rate))
        return samples

    def _latents(self, transformer: Any, index: int) -> Tensor:
        spec = self.model.spec
        seconds = max(self.config.sample_s, spec.min_frames / spec.frames_per_second)
        frames = min(spec.frames(seconds), spec.max_frames // spec.patch_size * spec.patch_size)
        states, mask = self._conditions(index)
        quiet = self.constants.silence[:, :frames]
        context = torch.cat([quiet, torch.ones_like(quiet)], dim=-1).to(self.device)
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, "sample", index))
        x = torch.randn(quiet.shape, generator=generator).to(self.device)
        scale = 1.0 if spec.is_turbo else spec.default_guidance
        if scale > 1:
            null = self.constants.null_condition.to(self.device).expand_as(states)
            states, mask = torch.cat([states, null]), mask.repeat(2, 1)
            context = context.repeat(2, 1, 1)
        guide = ProjectedGuidance() if spec.guidance_method == "apg" else classifier_free
        times = step_times(spec.default_steps, spec.default_shift, is_turbo=spec.is_turbo)
        rows = len(states)
        ones = torch.ones(rows, frames, device=self.device)
        for now, then in zip(times, [*times[1:], 0.0], strict=True):
            time = torch.full((rows,), float(now), device=self.device)
            noisy = x.expand(rows, -1, -1)
            velocity = denoise(transformer, noisy, time, time, ones, states, mask, context).float()
            if scale > 1:
                both = velocity.cpu().numpy()
                velocity = torch.from_numpy(guide(both[:1], both[1:], scale)).to(self.device)
            x = x - velocity * float(now - then)
        return x

    def _conditions(self, index: int) -> tuple[Tensor, Tensor]:
        conditions = self.prompts[index][1].conditions
        states, mask = conditions.read("states"), conditions.read("mask")
        return states[None].to(self.device), mask[None].to(self.device)


def _prompt(entry: Entry) -> Variant | None:
    return next((v for v in entry.variants if v.task == "text2music"), None)
