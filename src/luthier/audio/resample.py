"""Samples at one rate → the same sound at another."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from luthier.errors import RequestError

Quality = Literal["VHQ", "HQ", "MQ"]


def resample(
    samples: NDArray[np.float32], from_rate: int, to_rate: int, *, quality: Quality = "HQ"
) -> NDArray[np.float32]:
    """Band-limited sample-rate conversion with soxr.

    Args:
        samples: (channels, n).
        from_rate, to_rate: Hz.
        quality: soxr's name; HQ is transparent at 16 bits, VHQ at 24.

    Returns:
        (channels, about n · to_rate / from_rate).
    """
    if from_rate <= 0 or to_rate <= 0:
        raise RequestError(f"sample rates must be above 0 Hz, not {from_rate} and {to_rate}.")
    if from_rate == to_rate or samples.shape[1] == 0:
        return samples
    import soxr

    interleaved = np.ascontiguousarray(samples.T, dtype=np.float32)
    converted = soxr.resample(interleaved, from_rate, to_rate, quality=quality)
    return np.ascontiguousarray(converted.T, dtype=np.float32)
