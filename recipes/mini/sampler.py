"""Training batches out of encoded music: crops that begin with a phrase, prompts, tasks.

What a row's source, mask and instruction are is what playing makes of them (`music/prepare.py`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.music.templates import lyrics_text
from luthier.music.torch.denoiser import encode_conditions
from luthier.music.torch.model import MusicModel
from luthier.music.training.objective import Batch

from .build import prompt_for
from .codes import hints
from .corpus import ALONE, MIX, WITHOUT, Corpus
from .layers import layer_caption

# The share of each task in a batch.
TASKS = {
    "text2music": 0.45,
    "lego": 0.25,
    "extract": 0.11,
    "repaint": 0.08,
    "cover": 0.06,
    "complete": 0.05,
}
_SOURCES_FROM_STEP = 1500  # from nothing: the audio codes say little before, nor does a source help
_WINDOWED = 0.2  # of the lego rows: the layer is wanted in a window only
_WITHOUT_FACTS = 0.5  # of the rows whose source tells tempo and key
_LYRICS = lyrics_text("")


@dataclass(frozen=True)
class Row:
    """One row of a batch before its crop is cut: latents (T, C) of a whole clip, and the words."""

    target: Tensor
    source: Tensor | None  # None is silence
    tracks: tuple[str, ...]
    caption: str


class Sampler:
    """Draws batches.

    Args:
        model: encodes the conditions, and says what silence is.
        corpus: encoded clips.
        all_tasks_from: the step from which a batch holds more than text2music and repaint.
    """

    def __init__(
        self, model: MusicModel, corpus: Corpus, all_tasks_from: int = _SOURCES_FROM_STEP
    ) -> None:
        self.model, self.corpus, self.all_tasks_from = model, corpus, all_tasks_from

    def batch(self, rng: random.Random, size: int, step: int) -> tuple[Batch, list[str]]:
        """A training batch and its prompts: one length, mixed tasks and labels."""
        spec, corpus = self.model.spec, self.corpus
        frames = rng.choice((100, 100, 150, 150, 200, 200, 300, 500))
        size = max(4, size * 200 // frames)
        music = torch.zeros(size, frames, corpus.channels)
        contexts = torch.zeros(size, frames, 2 * corpus.channels)
        references = torch.zeros(size, spec.timbre_frames, corpus.channels)
        prompts = []
        for i in range(size):
            task = self._task(rng, step)
            index = rng.randrange(len(corpus))
            labels = corpus.labels[index]
            views = torch.from_numpy(corpus.clip(index).astype(np.float32))
            row = row_of(task, views, labels, rng)
            start = self._phrase_start(labels, frames, views.shape[1], rng)
            crop = slice(start, start + frames)
            source = None if row.source is None else row.source[crop]
            music[i], contexts[i] = self._shown(task, row.target[crop], source, rng)
            other = rng.randrange(views.shape[1] - spec.timbre_frames + 1)
            references[i] = row.target[other : other + spec.timbre_frames]
            told = row.source is None or rng.random() >= _WITHOUT_FACTS
            seconds = frames / spec.frames_per_second
            prompts.append(
                prompt_for(labels, row.caption, seconds, rng, task, row.tracks, told=told)
            )
        given = references if rng.random() < 0.1 else None
        states, mask = encode_conditions(self.model, prompts, [_LYRICS] * size, given)
        return Batch(music, torch.ones(size, frames), states, mask, contexts), prompts

    def _task(self, rng: random.Random, step: int) -> str:
        task = rng.choices(list(TASKS), list(TASKS.values()))[0]
        early = step < self.all_tasks_from and task != "repaint"
        return "text2music" if early else task

    def _phrase_start(
        self, labels: dict[str, Any], frames: int, total: int, rng: random.Random
    ) -> int:
        """The first frame of a four-bar phrase: where the progression is back at the tonic."""
        bar_s = labels["timesignature"] * 60.0 / labels["bpm"]
        phrase = 4 * bar_s * self.model.spec.frames_per_second
        return round(rng.randint(0, int((total - frames) / phrase)) * phrase)

    def _shown(
        self, task: str, target: Tensor, source: Tensor | None, rng: random.Random
    ) -> tuple[Tensor, Tensor]:
        """What is to be made (T, C), and source latents and mask (T, 2·C), of one row."""
        frames = len(target)
        silence = self.model.silence[0, :frames]
        mask = torch.ones_like(target)
        if task == "cover":
            with torch.no_grad():
                source = hints(self.model, target[None])[0]
        elif task == "repaint" or (task == "lego" and rng.random() < _WINDOWED):
            assert source is not None
            width = rng.randint(frames // 6, frames // 2)
            start = rng.randint(0, frames - width)
            mask = torch.zeros_like(target)
            mask[start : start + width] = 1.0
            # Outside its window a source stays as it is; inside, a repaint does not show it.
            target = torch.where(mask > 0, target, source)
            source = torch.where(mask > 0, silence, source) if task == "repaint" else source
        return target, torch.cat([silence if source is None else source, mask], dim=-1)


def row_of(task: str, views: Tensor, labels: dict[str, Any], rng: random.Random) -> Row:
    """What a clip is to a task: target, source, tracks and caption.

    Args:
        views: (views, T, C) latents, in the order of `corpus.VIEWS`.
        labels: of the clip.
    """
    mix, captions = views[MIX], labels["captions"]
    if task in ("text2music", "cover", "repaint"):
        source = mix if task == "repaint" else None
        return Row(mix, source, (), rng.choice(captions))
    drawn = rng.randrange(2)
    layer, other = labels["layers"][drawn], labels["layers"][1 - drawn]
    alone, without = views[ALONE[drawn]], views[WITHOUT[drawn]]
    words = layer_caption(captions, labels["style"], labels["mood"], layer["instruments"], rng)
    track = (layer["track"],)
    if task == "extract":
        return Row(alone, mix, track, words)
    if task == "lego":
        # Mostly a song that lacks one track; now and then a single track to build upon.
        source = without if rng.random() < 0.7 else views[ALONE[1 - drawn]]
        return Row(alone, source, track, words)
    caption = rng.choice((*captions, ""))
    if rng.random() < 0.5:
        return Row(mix, without, track, caption)
    missing = tuple(name for name in labels["tracks"] if name != other["track"])
    return Row(mix, views[ALONE[1 - drawn]], missing, caption)
