"""What lies below hearing taken out of a sound: a constant part, and everything up to 25 Hz.

A decoder that was trained on loudness by eye of a loss leaves offsets and slow waves, which cost
headroom, click at every cut and make speakers work for nothing. The filter is a windowed sinc
(Blackman, half a second long) of linear phase, so that nothing above it moves: −74 dB below 19 Hz,
−6 dB at 25 Hz, nothing from 31 Hz on. The lowest key of a piano is at 27.5 Hz, of a bass at 41 Hz.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

CUTOFF_HZ = 25.0
_LENGTH_S = 0.5
_HOPS = 6  # halves of the filter that one transform yields


def high_passed(blocks: Iterable[Array], sample_rate: int) -> Iterator[Array]:
    """Sound in blocks (channels, k) → the same sound without what is below 25 Hz.

    The ends are mirrored, so that an offset is gone from the first sample on. The blocks that come
    out have other lengths than those that went in, the same in sum; a few seconds are held.

    Args:
        blocks: one after another.
        sample_rate: Hz.
    """
    half = round(_LENGTH_S * sample_rate / 2)
    held: Array | None = None
    is_first = True
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=1)
        if is_first and held.shape[1] > half:
            held = np.concatenate([held[:, half:0:-1], held], axis=1)
            is_first = False
        while not is_first and held.shape[1] >= (_HOPS + 2) * half:
            yield _without_low(held[:, : (_HOPS + 2) * half], sample_rate)
            held = held[:, _HOPS * half :]
    if held is None or held.shape[1] == 0:
        return
    before = half if is_first else 0
    yield _without_low(np.pad(held, ((0, 0), (before, half)), mode="reflect"), sample_rate)


def _without_low(part: Array, sample_rate: int) -> Array:
    """The middle of `part`, which has half a filter more on both sides."""
    half, size = round(_LENGTH_S * sample_rate / 2), part.shape[1]
    length = 1 << (size - 1).bit_length()
    spectrum = np.fft.rfft(part, length) * _low_pass(sample_rate, length)
    # The first 2·half values are circular; what follows is the low part of the middle.
    low = np.fft.irfft(spectrum, length)[:, 2 * half : size].astype(np.float32, copy=False)
    high: Array = part[:, half : size - half] - low
    return high


@lru_cache(maxsize=8)
def _low_pass(sample_rate: int, length: int) -> NDArray[np.complex64]:
    """The spectrum of the filter that is subtracted; its odd number of taps adds up to 1."""
    half = round(_LENGTH_S * sample_rate / 2)
    places = np.arange(-half, half + 1) / sample_rate
    taps = np.sinc(2 * CUTOFF_HZ * places) * np.blackman(2 * half + 1)
    spectrum: NDArray[np.complex64] = np.fft.rfft(taps / taps.sum(), length).astype(np.complex64)
    return spectrum
