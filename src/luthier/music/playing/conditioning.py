"""What the denoiser is told: the source latents, the mask of what to make, the lengths. Numpy only.

Frames are latent frames; a mask is 1 where music is to be made and 0 where the source stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.errors import ModelError
from luthier.music.spec import ModelSpec

Array = NDArray[np.float32]
Window = tuple[int, int]  # first and one past the last, in frames or in samples


@dataclass(frozen=True)
class Extent:
    """How long a request is: in samples as asked for, in latent frames as computed."""

    samples: int
    frames: int


def extent_of(spec: ModelSpec, duration_s: float) -> Extent:
    """Samples of a duration, and the frames that cover them, at least the minimum."""
    samples = max(1, round(duration_s * spec.sample_rate))
    return Extent(samples, max(math.ceil(samples / spec.hop_length), spec.min_frames))


def silence(silence_latent: Array, frames: int) -> Array:
    """The first `frames` of the stored latent of silence [1, max, C]; never tiled, as upstream."""
    if frames > silence_latent.shape[1]:
        raise ModelError(
            f"{frames} latent frames are needed, but the model knows silence only for "
            f"{silence_latent.shape[1]}: ask for a shorter duration."
        )
    return silence_latent[:, :frames]


def fit(latents: Array, silence_latent: Array, frames: int) -> Array:
    """Latents [1, T, C] cut to `frames`, or followed by silence up to `frames`."""
    missing = frames - latents.shape[1]
    if missing <= 0:
        return latents[:, :frames]
    return np.concatenate([latents, silence(silence_latent, missing)], axis=1)


def window_frames(spec: ModelSpec, start_s: float, end_s: float | None, frames: int) -> Window:
    """First and one-past-last frame of a window in seconds, clamped to the piece, never empty."""
    start = min(max(0, int(start_s * spec.frames_per_second)), frames - 1)
    end = frames if end_s is None else int(end_s * spec.frames_per_second)
    return start, max(start + 1, min(end, frames))


def chunk_mask(spec: ModelSpec, frames: int, windows: Sequence[Window] | None = None) -> Array:
    """The mask [1, frames, C]: 1 everywhere, or only inside `windows`."""
    mask = np.zeros((1, frames, spec.latent_channels), dtype=np.float32)
    for start, end in [(0, frames)] if windows is None else windows:
        mask[:, start:end] = 1.0
    return mask


def soft_windows(
    windows: Sequence[Window], length: int, ramp: int, part: slice | None = None
) -> Array:
    """Weights of a piece of `length` places, or of `part` of it: 1 inside the windows, falling
    linearly to 0 over `ramp` places outside.

    Where less than `ramp` is left before an end of the piece, the ramp is steeper.
    """
    part = part or slice(0, length)
    places = np.arange(part.start, part.stop, dtype=np.float32)
    weights = np.zeros(len(places), dtype=np.float32)
    for start, end in windows:
        before = np.maximum(start - places, 0) / np.float32(min(ramp, start) + 1)
        behind = np.maximum(places - (end - 1), 0) / np.float32(min(ramp, length - end) + 1)
        np.maximum(weights, 1 - np.maximum(before, behind), out=weights)
    return weights


def reference_segments(audio: Array, sample_rate: int, total_s: float) -> Array:
    """`total_s` seconds of timbre from a recording (2, n): a third each of start, middle and end.

    A recording that is shorter is repeated first. The places are fixed, so that the same request
    sounds the same.
    """
    total = round(total_s * sample_rate)
    if audio.shape[1] < total:
        audio = np.tile(audio, (1, math.ceil(total / audio.shape[1])))
    third, length = total // 3, audio.shape[1]
    starts = (0, length // 3, length - third)
    joined = np.concatenate([audio[:, s : s + third] for s in starts], axis=1)
    # Thirds that do not divide leave a sample or two to fill.
    return np.pad(joined, ((0, 0), (0, total - joined.shape[1])), mode="edge")
