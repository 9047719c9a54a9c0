"""Clipping: runs of samples that stay at full scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FULL_SCALE = 0.999  # a sample at or above it counts as full scale, whatever the bit depth
CLIP_RUN = 3  # full-scale samples in a row that make a clip; one or two are a normal peak


class ClippingMeter:
    """Takes blocks of one recording, counts samples in runs of at least three at full scale.

    A run is of one channel and one sign, and goes on from block to block.
    """

    def __init__(self, channels: int) -> None:
        self.clipped = 0
        self.runs = 0
        self._open = np.zeros((channels, 2), np.int64)  # length of the run at the block's end

    def add(self, block: NDArray[np.float32], peak: float) -> None:
        """Take the next (channels, n) samples, whose largest is `peak`."""
        if peak < FULL_SCALE:
            self._close(self._open)
            self._open[:] = 0
            return
        for channel, samples in enumerate(block):
            for sign, full in enumerate((samples >= FULL_SCALE, samples <= -FULL_SCALE)):
                self._open[channel, sign] = self._count(full, int(self._open[channel, sign]))

    def finish(self) -> None:
        """No more blocks: runs that were still open end here."""
        self._close(self._open)
        self._open[:] = 0

    def _close(self, lengths: NDArray[np.int64]) -> None:
        done = lengths[lengths >= CLIP_RUN]
        self.clipped += int(done.sum())
        self.runs += done.size

    def _count(self, full: NDArray[np.bool_], before: int) -> int:
        """Count the runs that end in this block; return the length of the one that does not."""
        edges = np.flatnonzero(np.diff(full.astype(np.int8), prepend=0, append=0))
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        if before and not full[0]:
            self._close(np.array([before]))
        elif before:
            lengths[0] += before
        if not full[-1]:
            self._close(lengths)
            return 0
        self._close(lengths[: len(starts) - 1])
        return int(lengths[-1])
