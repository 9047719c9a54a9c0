"""Integrated loudness by ITU-R BS.1770-4: K-weighting, 400 ms blocks, two gates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luthier.audio.kweight import LOWEST_RATE, RUN, KWeighting

_STEPS_A_BLOCK = 4
_STEPS_A_SECOND = 10
_OFFSET_LU = -0.691
_ABSOLUTE_LUFS, _RELATIVE_LU = -70.0, -10.0
_SURROUND_WEIGHT = 1.41

Floats = NDArray[np.float32]


def step_size(sample_rate: int) -> int:
    """Samples in 100 ms, to the nearest multiple of 32 (a whole number of matrix products)."""
    return RUN * max(1, round(sample_rate / _STEPS_A_SECOND / RUN))


class LoudnessMeter:
    """Takes blocks of whole steps (`step_size`; the last may be shorter), tells the loudness.

    Args:
        sample_rate: Hz.
        channel_names: FFmpeg's speaker names: the LFE does not count, those behind by 1.41.
    """

    def __init__(self, sample_rate: int, channel_names: Sequence[str]) -> None:
        self._step = step_size(sample_rate)
        surround = len(channel_names) > 2
        self._weights = np.array([_weight(n) if surround else 1.0 for n in channel_names])
        self._filter = (
            KWeighting(sample_rate, len(channel_names)) if sample_rate >= LOWEST_RATE else None
        )
        self._powers: list[NDArray[np.float64]] = []
        self._rest: float | None = None  # of an incomplete step

    def add(self, block: Floats) -> None:
        """Take the next (channels, n) samples."""
        if self._filter is None:
            return
        count = block.shape[1]
        if count % RUN:
            block = np.pad(block, ((0, 0), (0, -count % RUN)))
        weighted = self._filter.filter(block)
        steps = count // self._step
        whole = weighted[:, : steps * self._step].reshape(len(block), steps, self._step)
        energy = np.einsum("csi,csi->cs", whole, whole).astype(np.float64)
        self._powers.append(self._weights @ energy / self._step)
        rest = weighted[:, steps * self._step : count]
        if rest.shape[1]:
            self._rest = float(self._weights @ np.mean(np.square(rest), axis=1))

    def lufs(self) -> float | None:
        """The loudness so far; None when every block of 400 ms is below -70 LUFS.

        A track below 400 ms is one block.
        """
        power = np.concatenate(self._powers) if self._powers else np.zeros(0)
        if not power.size:
            power = np.array([self._rest or 0.0])
        if power.size < _STEPS_A_BLOCK:
            blocks = power.mean(keepdims=True)
        else:
            width = np.full(_STEPS_A_BLOCK, 1 / _STEPS_A_BLOCK)
            blocks = np.convolve(power, width, mode="valid")
        loud = blocks[_lufs(blocks) > _ABSOLUTE_LUFS]
        if not loud.size:
            return None
        gated = loud[_lufs(loud) > float(_lufs(loud.mean())) + _RELATIVE_LU]
        return float(_lufs(gated.mean()))


def integrated_loudness(
    samples: Floats, sample_rate: int, channel_names: Sequence[str] = ()
) -> float | None:
    """Loudness of (channels, n) in LUFS; None when every block of 400 ms is below -70 LUFS."""
    meter = LoudnessMeter(sample_rate, channel_names or ("",) * len(samples))
    size = 50 * step_size(sample_rate)
    for start in range(0, samples.shape[1], size):
        meter.add(samples[:, start : start + size])
    return meter.lufs()


def _weight(name: str) -> float:
    if name.startswith("LFE"):
        return 0.0
    return _SURROUND_WEIGHT if name[:1] in ("B", "S") else 1.0


def _lufs(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return _OFFSET_LU + 10 * np.log10(np.maximum(power, 1e-20))
