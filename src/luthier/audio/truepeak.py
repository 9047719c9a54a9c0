"""True peak by ITU-R BS.1770-4, annex 2: the largest value between the samples too.

Only where a run of samples is loud enough to hold it is the sound interpolated: the filter can
raise nothing by more than the sum of its coefficients' sizes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_RUN = 32
_PHASES, _TAPS = 4, 12
_BEYOND_NEED_HZ = 96000  # from here on half the oversampling does, as the standard has it
# The standard's 48 coefficients at four times the rate, the first two phases; the others mirror.
_PHASE_0 = (
    0.0017089843750, 0.0109863281250, -0.0196533203125, 0.0332031250000,
    -0.0594482421875, 0.1373291015625, 0.9721679687500, -0.1022949218750,
    0.0476074218750, -0.0266113281250, 0.0148925781250, -0.0083007812500,
)  # fmt: skip
_PHASE_1 = (
    -0.0291748046875, 0.0292968750000, -0.0517578125000, 0.0891113281250,
    -0.1665039062500, 0.4650878906250, 0.7797851562500, -0.2003173828125,
    0.1015625000000, -0.0582275390625, 0.0330810546875, -0.0189208984375,
)  # fmt: skip

Floats = NDArray[np.float32]


class TruePeakMeter:
    """Takes blocks (channels, n) of one recording, remembers the largest value.

    Args:
        sample_rate: Hz.
        channels: of the blocks.

    Attributes:
        peak: the largest value so far; the last few samples count after `finish`.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._table = _table(2 if sample_rate >= _BEYOND_NEED_HZ else 1)
        self._most_gain = float(np.abs(self._table).sum(axis=0).max())
        self._carry = np.zeros((channels, _TAPS - 1), np.float32)  # less than a window
        self.peak = 0.0

    def add(self, block: Floats) -> None:
        """Take the next samples."""
        self.peak = max(self.peak, _largest(block))
        samples = np.concatenate([self._carry, block], axis=1)
        runs = (samples.shape[1] - _TAPS + 1) // _RUN
        self._carry = samples[:, runs * _RUN :].copy()
        if runs:
            for channel in samples:
                self._interpolate(channel, runs)

    def finish(self) -> None:
        """No more blocks: silence follows."""
        self.add(np.zeros((len(self._carry), _RUN + _TAPS - 1), np.float32))

    def _interpolate(self, samples: Floats, runs: int) -> None:
        """Raise the peak by what lies between the samples, where a run is loud enough for it."""
        size = np.abs(samples[: runs * _RUN]).reshape(runs, _RUN).max(axis=1)
        # A run is interpolated from itself and the first samples of the next.
        reach = size.copy()
        np.maximum(size[:-1], size[1:], out=reach[:-1])
        reach[-1] = max(reach[-1], _largest(samples[runs * _RUN : runs * _RUN + _TAPS - 1]))
        windows = np.lib.stride_tricks.sliding_window_view(samples, _RUN + _TAPS - 1)[::_RUN]
        # The loudest few first: they raise the bar for the others.
        for bar in (0.98 * float(reach.max()), 0.0):
            loud = np.flatnonzero(reach > max(bar, self.peak / self._most_gain))
            if loud.size:
                self.peak = max(self.peak, _largest(windows[loud] @ self._table))


def true_peak(samples: Floats, sample_rate: int) -> float:
    """The true peak of (channels, n) samples."""
    meter = TruePeakMeter(sample_rate, len(samples))
    meter.add(samples)
    meter.finish()
    return meter.peak


def _largest(values: Floats) -> float:
    return max(float(values.max()), -float(values.min()))


@lru_cache(maxsize=2)
def _table(every: int) -> Floats:
    """(43, 32 · 4 / every): 43 samples in a row → the interpolated values over 32 of them."""
    phases = [np.array(p) for p in (_PHASE_0, _PHASE_1, _PHASE_1[::-1], _PHASE_0[::-1])][::every]
    table = np.zeros((_RUN + _TAPS - 1, len(phases) * _RUN), np.float32)
    for i in range(_RUN):
        for p, phase in enumerate(phases):
            table[i : i + _TAPS, i * len(phases) + p] = phase[::-1]
    return table
