"""Decode long latents in tiles, so that memory does not grow with the piece."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

TILE_FRAMES = 512
OVERLAP_FRAMES = 64
_FADE_FRAMES = 8


def decode_tiled(decode: Callable[[Array], Array], latents: Array, hop: int) -> Array:
    """Run `decode` ([1, C, t] → [1, 2, hop·t]) over `latents` [1, C, T] in tiles: [1, 2, hop·T].

    A tile sees `OVERLAP_FRAMES` beyond its borders on each side. Neighbours are cross-faded over a
    few frames at the border: a decoder that estimates phase need not agree with itself there.
    """
    total = latents.shape[2]
    if total <= TILE_FRAMES:
        return decode(latents)
    core = TILE_FRAMES - 2 * OVERLAP_FRAMES
    half = _FADE_FRAMES // 2
    result = np.zeros((1, 2, hop * total), dtype=np.float32)
    for start in range(0, total, core):
        end = min(start + core, total)
        first, last = max(0, start - OVERLAP_FRAMES), min(total, end + OVERLAP_FRAMES)
        audio = decode(np.ascontiguousarray(latents[:, :, first:last]))
        left, right = max(0, start - half), min(total, end + half)
        part = audio[:, :, hop * (left - first) : hop * (right - first)]
        result[:, :, hop * left : hop * right] += part * _weights(
            part.shape[2], 2 * half * hop, fade_in=start > 0, fade_out=end < total
        )
    return result


def _weights(length: int, fade: int, *, fade_in: bool, fade_out: bool) -> Array:
    weights = np.ones(length, dtype=np.float32)
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / fade
    if fade_in:
        weights[:fade] *= ramp[:length]
    if fade_out:
        weights[max(0, length - fade) :] *= ramp[::-1][-length:]
    return weights
