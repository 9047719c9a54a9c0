"""Blocks of a recording → its first minutes in mono at a low rate, for tempo and key."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXCERPT_RATE = 22050  # Hz: what the tempo is estimated at; the key needs half of it
LONGEST_S = 300.0

Floats = NDArray[np.float32]


class MonoExcerpt:
    """Takes blocks (channels, n) of one recording, keeps `longest_s` seconds of it at most.

    Args:
        sample_rate: of the blocks, Hz.
        longest_s: seconds from the start that are kept, 300 at most.
    """

    def __init__(self, sample_rate: int, longest_s: float = LONGEST_S) -> None:
        import soxr

        self._left = round(min(longest_s, LONGEST_S) * sample_rate)
        self._resampler: Any = soxr.ResampleStream(
            sample_rate, EXCERPT_RATE, 1, "float32", quality="MQ"
        )
        self._parts: list[Floats] = []

    def add(self, block: Floats) -> None:
        """Take the next samples."""
        block = block[:, : self._left]
        if block.shape[1]:
            self._left -= block.shape[1]
            self._parts.append(self._resampler.resample_chunk(block.mean(axis=0)))

    def samples(self) -> Floats:
        """(1, n) at `EXCERPT_RATE`; no blocks can be added afterwards."""
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return np.concatenate([*self._parts, rest])[None]
