"""What each step trains on, as a function of seed and step alone: no sampler state to be saved.

Tracks are shuffled anew for every pass; tasks, crops, windows, noise and times come from a
generator that is seeded per batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.music.spec import ModelSpec
from luthier.music.training.feature_cache import Entry, Variant
from luthier.music.training.objective import Batch, draw_timesteps, drop_conditions
from luthier.music.training.task_context import context_of, drawn_window
from luthier.music.training.task_mix import task_weights
from luthier.training.config import TrainConfig
from luthier.training.shards import Stored


@dataclass(frozen=True)
class Constants:
    """What every batch of a model shares."""

    spec: ModelSpec
    silence: Tensor  # (1, max frames, C)
    null_condition: Tensor  # (1, 1, D)


@dataclass(frozen=True)
class Example:
    """A batch with its noise and times: all that the loss needs."""

    batch: Batch
    times: Tensor  # (B,)
    noise: Tensor  # (B, T, C)

    def to(self, device: torch.device) -> Example:
        """The same on another device."""
        moved = Batch(**{name: value.to(device) for name, value in vars(self.batch).items()})
        return Example(moved, self.times.to(device), self.noise.to(device))


def derived_seed(*parts: int | str) -> int:
    """One number out of many, evenly spread: neighbouring steps get unrelated randomness."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class _Crop:
    """One row of a batch, before anything is read."""

    variant: Variant
    start: int
    frames: int  # that the track has from there
    window: tuple[int, int] | None


def training_example(
    entries: Sequence[Entry],
    constants: Constants,
    config: TrainConfig,
    step: int,
    micro: int = 0,
    micros: int | None = None,
) -> Example:
    """The example of step `step` (from 0), of its `micros` (`accumulate`) ones the `micro`-th."""
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "step", step, micro))
    first = (step * (micros or config.accumulate) + micro) * config.batch_size
    rows = [
        entries[_shuffled(len(entries), config.seed, (first + i) // len(entries))[j]]
        for i in range(config.batch_size)
        for j in [(first + i) % len(entries)]
    ]
    frames = crop_frames(constants.spec, config.crop_s, rows)
    weights = task_weights(config.tasks)
    crops = [_drawn(entry, frames, config, weights, constants.spec, generator) for entry in rows]
    batch = _collate(crops, frames, constants)
    if not constants.spec.is_turbo:  # turbo has its guidance in the weights: no null condition
        drop_conditions(batch, constants.null_condition, generator)
    times = draw_timesteps(constants.spec, len(rows), generator)
    return Example(batch, times, torch.randn(batch.music.shape, generator=generator))


def validation_examples(
    entries: Sequence[Entry], constants: Constants, config: TrainConfig, levels: int = 4
) -> list[Example]:
    """Every track's first crop at `levels` fixed times, with fixed noise: always the same.

    Of several tasks the first one counts: one curve that can be compared.
    """
    examples = []
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "validation"))
    for at in range(0, len(entries), config.batch_size):
        rows = entries[at : at + config.batch_size]
        frames = crop_frames(constants.spec, config.crop_s, rows)
        crops = []
        for entry in rows:
            variant = entry.variants[0]
            window = (frames // 4, 3 * frames // 4) if variant.task == "repaint" else None
            crops.append(_Crop(variant, 0, entry.frames, window))
        batch = _collate(crops, frames, constants)
        for level in range(levels):
            times = torch.full((len(rows),), (level + 0.5) / levels)
            noise = torch.randn(batch.music.shape, generator=generator)
            examples.append(Example(batch, times, noise))
    return examples


def crop_frames(spec: ModelSpec, crop_s: float, rows: Sequence[Entry]) -> int:
    """Frames of a batch: the crop's, or the longest track's where all are shorter; whole tokens."""
    wanted = min(spec.frames(crop_s), max(entry.frames for entry in rows))
    return -(-min(wanted, spec.max_frames) // spec.patch_size) * spec.patch_size


def _shuffled(count: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(derived_seed(seed, "epoch", epoch))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def _drawn(
    entry: Entry,
    frames: int,
    config: TrainConfig,
    weights: dict[str, float],
    spec: ModelSpec,
    generator: torch.Generator,
) -> _Crop:
    """A task by its weight among those that the track serves, one of its variants, and a place."""
    known = sorted({variant.task for variant in entry.variants})
    # Drawn always, and for all in the same order: one pattern for all kinds of run.
    place, kind, which = torch.rand(3, generator=generator).tolist()
    task = known[_weighted([weights.get(name, 1.0) for name in known], kind)]
    variants = [variant for variant in entry.variants if variant.task == task]
    variant = variants[int(which * len(variants))]
    start = _start(entry, frames, config.crop_start, place)
    if task == "cover":  # the codes count in windows: begin where one begins
        start -= start % spec.pool_window
    window = drawn_window(min(frames, entry.frames), generator) if task == "repaint" else None
    return _Crop(variant, start, entry.frames - start, window)


def _weighted(weights: Sequence[float], chance: float) -> int:
    rest = chance * sum(weights)
    for index, weight in enumerate(weights):
        rest -= weight
        if rest < 0:
            return index
    return len(weights) - 1


def _start(entry: Entry, frames: int, where: str, chance: float) -> int:
    free = max(0, entry.frames - frames)
    if where == "first" or free == 0:
        return 0
    if where == "bar" and entry.bar_frames:
        bars = int(free / entry.bar_frames)
        return min(free, round(int(chance * (bars + 1)) * entry.bar_frames))
    return int(chance * (free + 1))


def _collate(crops: Sequence[_Crop], frames: int, constants: Constants) -> Batch:
    """Crops and conditions in one batch; where a track is shorter, silence that does not count."""
    count, channels = len(crops), constants.spec.latent_channels
    silence = constants.silence[0, :frames]
    music = silence.expand(count, -1, -1).clone()
    frame_mask = torch.zeros(count, frames)
    context = torch.zeros(count, frames, 2 * channels)
    conditions = [_conditions(crop.variant) for crop in crops]
    longest = max(len(mask) for _, mask in conditions)
    states = torch.zeros(count, longest, conditions[0][0].shape[1])
    states_mask = torch.zeros(count, longest)
    for i, crop in enumerate(crops):
        length = min(frames, crop.frames)
        music[i, :length] = _read(crop.variant.target, crop.start, length)
        frame_mask[i, :length] = 1.0
        source = silence
        if crop.variant.source is not None:
            # What follows a source that ends is silence from its own beginning, as in playing.
            shown = _read(crop.variant.source, crop.start, length)
            source = torch.cat([shown, silence[: frames - length]])
        context[i] = context_of(source, silence, crop.window)
        state, mask = conditions[i]
        states[i, : len(mask)] = state
        states_mask[i, : len(mask)] = mask
    return Batch(music, frame_mask, states, states_mask, context)


def _read(latents: Stored, start: int, frames: int) -> Tensor:
    # Only the crop is read: memory does not grow with the tracks.
    return latents.read("latents", start, frames)


def _conditions(variant: Variant) -> tuple[Tensor, Tensor]:
    return variant.conditions.read("states"), variant.conditions.read("mask")
