"""Decode and encode long pieces in tiles, so that memory does not grow with the piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FADE_FRAMES = 8  # over which neighbouring tiles are cross-faded


def decode_tiles(
    decode: Callable[[Array], Array], latents: Array, hop: int, *, tile: int, overlap: int
) -> Iterator[Array]:
    """Run `decode` ([1, C, t] → [1, 2, hop·t]) over `latents` [1, C, T] in tiles.

    Yields audio (2, n), one block after another: hop·T samples in all. Neighbours are cross-faded
    over a few frames at the border: a decoder that estimates phase need not agree with itself
    there.

    Args:
        tile: the most frames that are decoded at once.
        overlap: frames that a tile sees beyond its borders on each side, at least half a fade.
    """
    total = latents.shape[2]
    borders = _borders(total, tile, overlap)
    half, fade = FADE_FRAMES // 2, FADE_FRAMES * hop
    rise = (np.arange(fade, dtype=np.float32) + np.float32(0.5)) / np.float32(fade)
    tail: Array | None = None  # of the tile before, where it fades into this one
    for start, end in pairwise(borders):
        first, last = max(0, start - overlap), min(total, end + overlap)
        audio = decode(np.ascontiguousarray(latents[:, :, first:last]))[0]
        left = start - half if tail is not None else start
        right = end + half if end < total else end
        block = np.array(audio[:, hop * (left - first) : hop * (right - first)])
        if tail is not None:
            block[:, :fade] = block[:, :fade] * rise + tail * rise[::-1]
        if end < total:
            tail = block[:, -fade:].copy()
            block = block[:, :-fade]
        yield block


def encode_tiles(
    encode: Callable[[Array], Array], audio: Array, hop: int, *, tile: int, overlap: int
) -> Array:
    """Run `encode` ([1, 2, hop·t] → [1, C, t]) over `audio` [1, 2, hop·T] in tiles: [1, C, T].

    Args:
        tile: the most frames that are encoded at once.
        overlap: frames that a tile sees beyond its borders on each side, and that are dropped.
    """
    total = audio.shape[2] // hop
    borders = _borders(total, tile, overlap)
    parts = []
    for start, end in pairwise(borders):
        first, last = max(0, start - overlap), min(total, end + overlap)
        latents = encode(np.ascontiguousarray(audio[:, :, hop * first : hop * last]))
        parts.append(latents[:, :, start - first : end - first])
    return np.concatenate(parts, axis=2)


def _borders(total: int, tile: int, overlap: int) -> list[int]:
    """Where tiles of at most `tile` frames, overlaps included, meet: evenly, so that none is
    tiny."""
    count = 1 if total <= tile else -(-total // (tile - 2 * overlap))
    return [round(total * index / count) for index in range(count + 1)]
