"""A recording as few pairs of lowest and highest sample: what a picture of it needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FRAME_S = 0.05


class WaveformMeter:
    """Takes blocks (channels, n) of one recording, keeps the extremes of every 50 ms."""

    def __init__(self, sample_rate: int) -> None:
        self._size = max(1, round(_FRAME_S * sample_rate))
        self._low: list[NDArray[np.float32]] = []
        self._high: list[NDArray[np.float32]] = []

    def add(self, block: NDArray[np.float32]) -> None:
        """Take the next samples. A block's last frame may be shorter."""
        mono = sum(block[1:], block[0]) * np.float32(1 / len(block))
        whole = mono.size // self._size * self._size
        frames = mono[:whole].reshape(-1, self._size)
        rest = mono[whole:][None] if whole < mono.size else mono[:0].reshape(0, 1)
        for part in (frames, rest):
            if len(part):
                self._low.append(part.min(axis=1))
                self._high.append(part.max(axis=1))

    def pairs(self, count: int = 400, gain: float = 1.0) -> list[list[float]]:
        """[lowest, highest] of the mono mix, times `gain`, in at most `count` equal parts."""
        if not self._low:
            return []
        low, high = np.concatenate(self._low), np.concatenate(self._high)
        starts = np.unique(np.linspace(0, low.size, count, endpoint=False).astype(int))
        lowest = np.minimum.reduceat(low, starts) * gain
        highest = np.maximum.reduceat(high, starts) * gain
        rows = zip(lowest.tolist(), highest.tolist(), strict=True)
        return [[round(a, 3), round(b, 3)] for a, b in rows]
