"""Decode and encode long pieces in tiles, so that memory does not grow with the piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FADE_FRAMES = 8  # over which neighbouring tiles are cross-faded


def decode_tiles(
    decode: Callable[[Array], Array],
    latents: Array,
    hop: int,
    *,
    tile: int,
    overlap: int,
    workers: int = 1,
) -> Iterator[Array]:
    """Run `decode` ([1, C, t] → [1, 2, hop·t]) over `latents` [1, C, T] in tiles.

    Yields audio (2, n), one block after another: hop·T samples in all. Neighbours are cross-faded
    over a few frames at the border: a decoder that estimates phase need not agree with itself
    there.

    Args:
        tile: the most frames that are decoded at once.
        overlap: frames that a tile sees beyond its borders on each side, at least half a fade.
        workers: tiles that are decoded at once, each in a thread of its own.
    """
    total = latents.shape[2]
    borders = _borders(total, tile, overlap, workers)
    spans = [
        (max(0, start - overlap), min(total, end + overlap)) for start, end in pairwise(borders)
    ]
    cuts = (np.ascontiguousarray(latents[:, :, first:last]) for first, last in spans)
    half, fade = FADE_FRAMES // 2, FADE_FRAMES * hop
    rise = (np.arange(fade, dtype=np.float32) + np.float32(0.5)) / np.float32(fade)
    tail: Array | None = None  # of the tile before, where it fades into this one
    decoded = _at_once(decode, cuts, workers)
    for (start, end), (first, _), made in zip(pairwise(borders), spans, decoded, strict=True):
        audio = made[0]
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


def _at_once(
    decode: Callable[[Array], Array], tiles: Iterable[Array], workers: int
) -> Iterator[Array]:
    """What `decode` makes of each, in order; only the next few tiles are in memory."""
    if workers == 1:
        yield from map(decode, tiles)
        return
    ahead = iter(tiles)
    with ThreadPoolExecutor(workers) as threads:
        waiting: deque[Future[Array]] = deque()
        waiting.extend(threads.submit(decode, one) for one in islice(ahead, workers))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(threads.submit(decode, one) for one in islice(ahead, 1))
            yield made


def _borders(total: int, tile: int, overlap: int, workers: int = 1) -> list[int]:
    """Where tiles of at most `tile` frames, overlaps included, meet: evenly, so that none is
    tiny, and so many that the workers are done soonest."""
    fewest = 1 if total <= tile else -(-total // (tile - 2 * overlap))

    def frames_in_turn(count: int) -> float:
        around = 0 if count == 1 else overlap if count == 2 else 2 * overlap
        return -(-count // workers) * (total / count + around)

    count = min(range(fewest, fewest + workers), key=frames_in_turn)
    return [round(total * index / count) for index in range(count + 1)]
