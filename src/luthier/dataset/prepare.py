"""Decoded blocks → the blocks that are encoded: stereo, at the output's rate, cut with a fade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.mix import mix_to

_FADE_SHARE, _MIN_FADE_S, _MAX_FADE_S = 0.01, 0.05, 2.0

Floats = NDArray[np.float32]


class Preparation:
    """Takes what a file decodes to, gives what the output holds before its gain.

    Args:
        sample_rate: of the file, Hz.
        channel_names: of the file.
        output_rate: Hz.
        longest_s: what is longer is cut here, and its end faded out along a half cosine over 1 %
            of the length, within 50 ms…2 s.

    Attributes:
        count: samples given so far, those that are held back included.
        is_cut: whether the file is longer.
    """

    def __init__(
        self, sample_rate: int, channel_names: Sequence[str], output_rate: int, longest_s: float
    ) -> None:
        import soxr

        self._names = channel_names
        self._resampler: Any = None
        if sample_rate != output_rate:
            # HQ is transparent at 16 bits, which is what the outputs have.
            self._resampler = soxr.ResampleStream(
                sample_rate, output_rate, 2, "float32", quality="HQ"
            )
        self._longest_in = longest_s * sample_rate
        self._taken = 0
        self._limit = max(1, round(longest_s * output_rate))
        fade_s = min(_MAX_FADE_S, max(_MIN_FADE_S, _FADE_SHARE * longest_s))
        self._fade = min(self._limit, round(fade_s * output_rate))
        self._held: list[Floats] = []  # where the fade will be, if the file goes on behind it
        self.count = 0

    @property
    def is_cut(self) -> bool:
        """Whether there was more than the longest allowed."""
        return self._taken > self._longest_in

    def add(self, block: Floats) -> Floats:
        """Take (channels, n) decoded samples; return (2, m) that are ready, m may be 0."""
        self._taken += block.shape[1]
        if self.count >= self._limit:
            return np.zeros((2, 0), np.float32)
        stereo = mix_to(block, 2, self._names)
        if self._resampler is not None:
            frames = np.ascontiguousarray(stereo.T)
            stereo = self._resampler.resample_chunk(frames).T
        return self._ready(stereo)

    def finish(self) -> Floats:
        """What is left: (2, m)."""
        parts = []
        if self._resampler is not None and self.count < self._limit:
            rest = self._resampler.resample_chunk(np.zeros((0, 2), np.float32), last=True)
            parts.append(self._ready(rest.T))
        end = np.concatenate([*parts, *self._held], axis=1) if parts or self._held else None
        if end is None:
            return np.zeros((2, 0), np.float32)
        if self.is_cut:
            count = min(end.shape[1], self._fade)
            ramp = 0.5 + 0.5 * np.cos(np.pi * (np.arange(count) + 1) / count)
            end[:, -count:] *= ramp.astype(np.float32)
        return end

    def _ready(self, stereo: Floats) -> Floats:
        stereo = stereo[:, : self._limit - self.count]
        before_fade = max(0, self._limit - self._fade - self.count)
        self.count += stereo.shape[1]
        if stereo.shape[1] > before_fade:
            self._held.append(stereo[:, before_fade:])
        return stereo[:, :before_fade]
