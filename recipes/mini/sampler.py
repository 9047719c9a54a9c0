"""Training batches out of encoded music: crops that begin with a phrase, prompts, a task."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.music.denoiser import encode_conditions
from luthier.music.model import MusicModel
from luthier.music.templates import lyrics_text
from luthier.training.objective import Batch

from .build import prompt_for
from .codes import hints

_COVER_FROM_STEP = 1500  # the tokenizer needs a while before its hints say anything
_LYRICS = lyrics_text("")


class Sampler:
    """Draws batches: crops that begin with a phrase, captions, a task."""

    def __init__(
        self, model: MusicModel, latents: NDArray[np.float16], labels: list[dict[str, Any]]
    ) -> None:
        self.model, self.latents, self.labels = model, latents, labels

    def batch(self, rng: random.Random, size: int, step: int) -> tuple[Batch, list[str]]:
        """A training batch and its prompts: one length, one task, mixed labels."""
        frames = rng.choice((100, 100, 150, 150, 200, 200, 300, 500))
        size = max(4, size * 200 // frames)
        task = rng.choices(("text2music", "repaint", "cover"), (0.88, 0.06, 0.06))[0]
        if task == "cover" and step < _COVER_FROM_STEP:
            task = "text2music"
        music = torch.zeros(size, frames, self.latents.shape[2])
        references = torch.zeros(size, self.model.spec.timbre_frames, self.latents.shape[2])
        prompts = []
        for i in range(size):
            index = rng.randrange(len(self.latents))
            row = self.labels[index] | {"task": task}
            clip = torch.from_numpy(self.latents[index].astype(np.float32))
            start = self._phrase_start(row, frames, len(clip), rng)
            music[i] = clip[start : start + frames]
            other = rng.randrange(len(clip) - references.shape[1] + 1)
            references[i] = clip[other : other + references.shape[1]]
            duration = frames / self.model.spec.frames_per_second
            prompts.append(prompt_for(row, rng.choice(row["captions"]), duration, rng))
        given = references if rng.random() < 0.1 else None
        states, mask = encode_conditions(self.model, prompts, [_LYRICS] * size, given)
        source, chunk = self._context(music, task, rng)
        context = torch.cat([source, chunk], dim=-1)
        return Batch(music, torch.ones(size, frames), states, mask, context), prompts

    def _phrase_start(
        self, row: dict[str, Any], frames: int, total: int, rng: random.Random
    ) -> int:
        """The first frame of a four-bar phrase: where the progression is back at the tonic."""
        phrase = 4 * row["timesignature"] * 60.0 / row["bpm"] * self.model.spec.frames_per_second
        return round(rng.randint(0, int((total - frames) / phrase)) * phrase)

    def _context(self, music: Tensor, task: str, rng: random.Random) -> tuple[Tensor, Tensor]:
        """Source latents and chunk mask of a task, as in playing."""
        frames = music.shape[1]
        silence = self.model.silence[:, :frames].expand_as(music)
        chunk = torch.ones_like(music)
        if task == "cover":
            with torch.no_grad():
                return hints(self.model, music), chunk
        if task == "repaint":
            width = rng.randint(frames // 6, frames // 2)
            start = rng.randint(0, frames - width)
            chunk = torch.zeros_like(music)
            chunk[:, start : start + width] = 1.0
            return torch.where(chunk > 0, silence, music), chunk
        return silence, chunk
