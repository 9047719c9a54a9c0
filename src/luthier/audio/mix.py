"""Any number of channels → one or two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mix_to(
    samples: NDArray[np.float32], channels: int, names: Sequence[str] = ()
) -> NDArray[np.float32]:
    """Mix (n_in, n) to 1 or 2 channels: mono is doubled, stereo averaged, surround folded by side.

    `names` are FFmpeg's speaker names (FL, FR, FC, LFE, BL …), used where there are more than two.
    """
    if samples.shape[0] == channels:
        return samples
    if channels == 1:
        mean: NDArray[np.float32] = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        return mean
    if samples.shape[0] == 1:
        return np.repeat(samples, 2, axis=0)
    weights = np.array([_side_weights(n) for n in names or ("",) * samples.shape[0]], np.float32)
    weights /= np.maximum(weights.sum(axis=0, keepdims=True), 1e-9)
    return (weights.T @ samples).astype(np.float32)


def _side_weights(name: str) -> tuple[float, float]:
    """What a speaker gives to (left, right): centre and unknown to both at -3 dB, LFE to none."""
    if name.startswith("LFE"):
        return (0.0, 0.0)
    front = 1.0 if name.startswith("F") else 0.7071
    if name.endswith("L"):
        return (front, 0.0)
    return (0.0, front) if name.endswith("R") else (0.7071, 0.7071)
