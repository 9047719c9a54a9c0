"""What each step trains on, as a function of seed and step alone: no sampler state to be saved.

Tracks are shuffled anew for every pass; crops, noise and times come from a generator that is seeded
per batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch import Tensor

from luthier.music.spec import ModelSpec
from luthier.training.cache import Entry
from luthier.training.config import TrainConfig
from luthier.training.objective import Batch, draw_timesteps, drop_conditions


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


def training_example(
    entries: Sequence[Entry], constants: Constants, config: TrainConfig, step: int, micro: int = 0
) -> Example:
    """The example of step `step` (from 0), of its `accumulate` ones the `micro`-th."""
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "step", step, micro))
    first = (step * config.accumulate + micro) * config.batch_size
    rows = [
        entries[_shuffled(len(entries), config.seed, (first + i) // len(entries))[j]]
        for i in range(config.batch_size)
        for j in [(first + i) % len(entries)]
    ]
    frames = crop_frames(constants.spec, config.crop_s, rows)
    starts = [_start(entry, frames, config.crop_start, generator) for entry in rows]
    batch = _collate(rows, starts, frames, constants)
    if not constants.spec.is_turbo:  # turbo has its guidance in the weights: no null condition
        drop_conditions(batch, constants.null_condition, generator)
    times = draw_timesteps(constants.spec, len(rows), generator)
    return Example(batch, times, torch.randn(batch.music.shape, generator=generator))


def validation_examples(
    entries: Sequence[Entry], constants: Constants, config: TrainConfig, levels: int = 4
) -> list[Example]:
    """Every track's first crop at `levels` fixed times, with fixed noise: always the same."""
    examples = []
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "validation"))
    for at in range(0, len(entries), config.batch_size):
        rows = entries[at : at + config.batch_size]
        frames = crop_frames(constants.spec, config.crop_s, rows)
        batch = _collate(rows, [0] * len(rows), frames, constants)
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


def _start(entry: Entry, frames: int, where: str, generator: torch.Generator) -> int:
    free = max(0, entry.frames - frames)
    chance = float(torch.rand(1, generator=generator))  # drawn always: one pattern for all kinds
    if where == "first" or free == 0:
        return 0
    if where == "bar" and entry.bar_frames:
        bars = int(free / entry.bar_frames)
        return min(free, round(int(chance * (bars + 1)) * entry.bar_frames))
    return int(chance * (free + 1))


def _collate(
    rows: Sequence[Entry], starts: Sequence[int], frames: int, constants: Constants
) -> Batch:
    """Crops and conditions in one batch; where a track is shorter, silence that does not count."""
    count, channels = len(rows), constants.spec.latent_channels
    silence = constants.silence[:, :frames]
    music = silence.expand(count, -1, -1).clone()
    frame_mask = torch.zeros(count, frames)
    conditions = [_conditions(entry) for entry in rows]
    longest = max(len(mask) for _, mask in conditions)
    states = torch.zeros(count, longest, conditions[0][0].shape[1])
    states_mask = torch.zeros(count, longest)
    for i, (entry, start) in enumerate(zip(rows, starts, strict=True)):
        crop = _read_crop(entry, start, frames)
        music[i, : len(crop)] = crop
        frame_mask[i, : len(crop)] = 1.0
        state, mask = conditions[i]
        states[i, : len(mask)] = state
        states_mask[i, : len(mask)] = mask
    # Text to music: the source is silence and all of it is to be made.
    context = torch.cat([silence, torch.ones(1, frames, channels)], dim=-1)
    return Batch(music, frame_mask, states, states_mask, context.expand(count, -1, -1).clone())


def _read_crop(entry: Entry, start: int, frames: int) -> Tensor:
    # Only the crop is read: memory does not grow with the tracks.
    with safe_open(entry.latents, "pt") as file:
        crop: Tensor = file.get_slice("latents")[start : start + frames]
    return crop


def _conditions(entry: Entry) -> tuple[Tensor, Tensor]:
    with safe_open(entry.conditions, "pt") as file:
        return file.get_tensor("states"), file.get_tensor("mask")
