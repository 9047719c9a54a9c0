"""Float matrices → fewer bits. Numpy only; what the graphs do with the result is in `lowering`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.export.lm_weights import block_of, nibbles, quantised

Float = NDArray[np.float32]

# Processors without VNNI add two products of a uint8 and an int8 in 16 bits: 2 · 255 · 64 is what
# fits.
_LEVELS = 64
_TINY = np.float32(1e-12)
# Shares of a block's range that are tried when it is known how much each input column matters.
_SHARES = np.linspace(0.7, 1.0, 13, dtype=np.float32)
_ROWS_AT_ONCE = 512  # of the search: it holds a few copies of what it works on


def by_output(weight: Float) -> tuple[NDArray[np.int8], Float]:
    """(N, K) → integers (K, N) in ±64 and a scale an output (N,)."""
    scale = np.maximum(np.abs(weight).max(axis=1), _TINY) / np.float32(_LEVELS)
    values = np.rint(weight / scale[:, None]).astype(np.int8)
    return np.ascontiguousarray(values.T), scale


def by_row(table: Float) -> tuple[NDArray[np.int8], Float]:
    """A table of vectors (rows, width) → integers in ±127 and a scale a row (rows, 1)."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), _TINY) / np.float32(127)
    return np.rint(table / scale).astype(np.int8), scale


def by_block(
    weight: Float, bits: int, importance: Float | None = None
) -> tuple[NDArray[np.uint8], Float, NDArray[np.uint8] | None]:
    """(N, K) → blocks of a row that share a scale, in the layout of MatMulNBits.

    Args:
        weight: K a multiple of 16.
        bits: 8 or 4.
        importance: (K,), the mean square of what each column is multiplied with. With 4 bits each
            block's range is then shrunk to where the error of the product, not of the weights, is
            smallest (the diagonal of the layer's Hessian, as in GPTQ, Frantar et al. 2022).

    Returns:
        Values, scales, and packed zero points with 4 bits; see `lm_weights.quantised`.
    """
    if bits == 8 or importance is None:
        return quantised(weight, bits)
    parts = [
        _searched(weight[i : i + _ROWS_AT_ONCE], importance)
        for i in range(0, len(weight), _ROWS_AT_ONCE)
    ]
    values, scales, zeros = (np.concatenate(column) for column in zip(*parts, strict=True))
    return nibbles(values), scales, nibbles(zeros)


def _searched(weight: Float, importance: Float) -> tuple[Any, Float, Any]:
    block = block_of(weight.shape[1], 4)
    blocks = weight.reshape(len(weight), -1, block)
    matters = importance.reshape(1, -1, block)
    low = np.minimum(blocks.min(axis=2), 0.0)[..., None]
    high = np.maximum(blocks.max(axis=2), 0.0)[..., None]
    best = np.full(low.shape, np.inf, np.float32)
    scales, zeros = np.empty_like(low), np.empty_like(low)
    for share in _SHARES:
        scale = np.maximum((high - low) * share, _TINY) / np.float32(15)
        zero = np.clip(np.rint(-low * share / scale), 0, 15)
        found = np.clip(np.rint(blocks / scale) + zero, 0, 15)
        error = (matters * ((found - zero) * scale - blocks) ** 2).sum(axis=2, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
    values = np.clip(np.rint(blocks / scales) + zeros, 0, 15)
    return values, scales[..., 0].astype(np.float32), zeros[..., 0]
