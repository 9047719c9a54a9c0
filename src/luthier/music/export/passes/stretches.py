"""The last layers of a decoder, one stretch of time after another.

There a second has hundreds of times as many numbers as its latents: a stretch keeps memory from
growing with the length, and its numbers in the processor's last cache. A stretch sees as much
beyond its ends as its outputs depend on; what is computed of that is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod

from luthier.export.passes.builder import Builder
from luthier.export.passes.layers import Convolution, Layer, Unit
from luthier.export.passes.resample import is_upsampling

_STRETCH = 2**22  # numbers of the widest layer
_WASTE = 1 / 24  # of a stretch: the most that may be computed only to be cut off

Emit = Callable[[Builder, Layer, str], str]


def split(layers: Sequence[Layer]) -> int:
    """Where the layers begin that are worth computing in stretches; their number when none is."""
    for index, layer in enumerate(layers):
        if isinstance(layer, Convolution) and is_upsampling(layer):
            tail = layers[index:]
            if _is_exact(tail) and 2 * _margin(tail) <= _WASTE * _rows(tail):
                return index
    return len(layers)


def in_stretches(build: Builder, layers: Sequence[Layer], x: str, emit: Emit) -> str:
    """The layers of x (B, T, C) → (B, T · their strides, C')."""
    rate, none = build.integer(_rate(layers)), build.integer(0)
    length, margin = build.size(x, 1), build.integer(_margin(layers))
    around = build.integer(2 * _margin(layers))
    count = build.quotient(length, build.integer(_rows(layers)))
    rows = build.quotient(length, count)
    seen = build.op("Min", length, build.op("Add", rows, around))
    latest, farthest = build.op("Sub", length, rows), build.op("Sub", length, seen)
    index = build.op("Range", *(build.reshape(n) for n in (none, count, build.integer(1))))
    starts = build.op("Min", build.op("Mul", index, rows), latest)

    body, start = Builder(build), build.name()
    first = body.op("Min", body.op("Max", body.op("Sub", start, margin), none), farthest)
    y = body.slice(x, first, body.op("Add", first, seen), 1)
    for layer in layers:
        y = emit(body, layer, y)
    begin = body.op("Mul", body.op("Sub", start, first), rate)
    body.slice(y, begin, body.op("Add", begin, body.op("Mul", rows, rate)), 1)
    joined = build.scan(build.reshape(starts, -1, 1), body, start)
    # The last stretch was moved inwards, to be as long as the others.
    flat = build.reshape(joined, 0, -1, _made(layers))
    whole = build.op("Mul", build.op("Mul", count, rows), rate)
    border = build.op("Sub", whole, build.op("Mul", rows, rate))
    again = build.op("Sub", whole, build.op("Mul", length, rate))
    head = build.slice(flat, none, border, 1)
    tail = build.slice(flat, build.op("Add", border, again), whole, 1)
    return build.op("Concat", head, tail, axis=1)


def _is_exact(layers: Sequence[Layer]) -> bool:
    """Whether every layer makes as many rows as it has, times its stride."""
    for layer in layers:
        if isinstance(layer, Convolution):
            excess = layer.stride if is_upsampling(layer) else (layer.shape[2] - 1) * layer.dilation
            strided = layer.stride != 1 and not is_upsampling(layer)
            if strided or sum(layer.pads) != excess:
                return False
    return True


def _margin(layers: Sequence[Layer]) -> int:
    """Rows of the input, on each side, that an output depends on."""
    margin = 0
    for layer in reversed(layers):
        if isinstance(layer, Unit):
            margin += max(layer.spread.pads)
        elif isinstance(layer, Convolution):
            upsampling = is_upsampling(layer)
            margin = ceil(margin / layer.stride) + 1 if upsampling else margin + max(layer.pads)
    return margin


def _rate(layers: Sequence[Layer]) -> int:
    """Rows of the output for a row of the input."""
    return prod(layer.stride for layer in layers if isinstance(layer, Convolution))


def _rows(layers: Sequence[Layer]) -> int:
    """Rows of the input that make a stretch."""
    widest, rate = 1, 1
    for layer in layers:
        if isinstance(layer, Convolution):
            rate *= layer.stride
            widest = max(widest, rate * layer.shape[1 if layer.transposed else 0])
    return max(1, _STRETCH // widest)


def _made(layers: Sequence[Layer]) -> int:
    """Channels of the output."""
    last = [layer for layer in layers if isinstance(layer, Convolution)][-1]
    return last.shape[1 if last.transposed else 0]
