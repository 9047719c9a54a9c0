"""Peak, RMS, DC offset, silence, and how alike the channels are: sums over blocks."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

SILENCE_DB = -60.0
_FRAMES_A_STEP = 2  # 100 ms steps hold two frames of 50 ms
_ALIKE = 1e-6  # energy of what differs, over all: -60 dB
FLOOR_DB = -200.0  # digital silence: JSON has no minus infinity

Image = Literal["mono", "dual mono", "inverted mono", "one-sided", "stereo", "surround"]


def decibels(value: float) -> float:
    """Amplitude → dB full scale, floored at -200."""
    return max(FLOOR_DB, 20 * float(np.log10(max(value, 1e-12))))


class LevelMeter:
    """Takes blocks (channels, n) of one recording, of whole steps but for the last.

    Args:
        channels: of the blocks.
        step: samples in 100 ms, an even number.

    Attributes:
        peak: the largest absolute sample so far.
        count: samples so far, a channel.
    """

    def __init__(self, channels: int, step: int) -> None:
        self._frame = step // _FRAMES_A_STEP
        self._sums = np.zeros(channels)
        self._energy = np.zeros(channels)
        self._difference = 0.0  # energy of left minus right
        self._silent = self._frames = 0
        self.peak = 0.0
        self.count = 0

    def add(self, block: NDArray[np.float32]) -> float:
        """Take the next samples; return the block's own peak."""
        channels, count = block.shape
        frames = count // self._frame
        cut = frames * self._frame
        framed = block[:, :cut].reshape(channels, frames, self._frame)
        energy = np.einsum("cfi,cfi->cf", framed, framed)
        self._count_silence(energy, self._frame)
        total = energy.sum(axis=1, dtype=np.float64)
        if cut < count:
            rest = block[:, cut:]
            energy = np.einsum("ci,ci->c", rest, rest)[:, None]
            self._count_silence(energy, count - cut)
            total += energy[:, 0]
        self._energy += total
        self._sums += block.sum(axis=1)
        if channels == 2:
            difference = block[0] - block[1]
            self._difference += float(np.dot(difference, difference))
        peak = max(float(block.max()), -float(block.min()))
        self.peak = max(self.peak, peak)
        self.count += count
        return peak

    def _count_silence(self, energy: NDArray[np.float32], size: int) -> None:
        power = energy.sum(axis=0) / (size * len(energy))
        self._silent += int(np.count_nonzero(power < 10 ** (SILENCE_DB / 10)))
        self._frames += power.size

    @property
    def rms(self) -> float:
        """Root mean square over all channels."""
        return float(np.sqrt(self._energy.sum() / max(1, self.count * self._energy.size)))

    @property
    def dc_offset(self) -> float:
        """Mean of the worst channel, -1..1."""
        means = self._sums / max(1, self.count)
        return float(means[np.argmax(np.abs(means))])

    @property
    def silence_ratio(self) -> float:
        """Share of 50 ms frames with an RMS over channels below -60 dB."""
        return self._silent / max(1, self._frames)

    @property
    def image(self) -> Image:
        """What the channels hold; "inverted mono" cancels out when mixed to mono."""
        if self._energy.size != 2:
            return "mono" if self._energy.size == 1 else "surround"
        total = float(self._energy.sum())
        if self._difference <= _ALIKE * total:
            return "dual mono"
        if 2 * total - self._difference <= _ALIKE * total:
            return "inverted mono"
        return "one-sided" if self._energy.min() <= _ALIKE * total else "stereo"
