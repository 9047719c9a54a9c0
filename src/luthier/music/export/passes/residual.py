"""A residual unit in chunks of time, each of which stays in the cache from its start to its end.

The seven taps are a minimal filter of 16 products for 10 outputs. Dilation is free: with dilation d
a row of d·C numbers takes the place of one of C.
"""

from __future__ import annotations

from dataclasses import dataclass

from luthier.export.passes.builder import Builder
from luthier.export.passes.layers import Unit
from luthier.music.export.passes.minimal_filter import OUTPUTS, POINTS, TAPS, minimal_filter
from luthier.music.export.passes.snake import amplitude, applied, half_turns

# The numbers a chunk has. In wide layers weights outweigh them, and are read for every chunk.
_CHUNK, _WIDE, _WIDE_CHUNK = 2**18, 512, 2**20


def fits(unit: Unit) -> bool:
    """Whether `residual` can compute the unit."""
    spread, mix = unit.spread, unit.mix
    same = (3 * spread.dilation, 3 * spread.dilation)
    return (
        (spread.shape[2], spread.stride, spread.pads, spread.transposed) == (TAPS, 1, same, False)
        and (mix.shape[2], mix.stride, mix.pads, mix.transposed) == (1, 1, (0, 0), False)
        and spread.bias is not None
        and mix.bias is not None
    )


def residual(build: Builder, unit: Unit, x: str) -> str:
    """The unit of x (B, T, C)."""
    cut = _cut(build, unit, build.size(x, 1))
    # Zeros are what the convolution pads with: snake leaves a zero a zero.
    padded = build.padded(x, cut.margin, cut.after)
    weights = _weights(build, unit)

    body, start = Builder(build), build.name()
    chunk = body.slice(padded, start, body.op("Add", start, cut.seen), 1)
    change = _change(body, unit, weights, chunk)
    middle = body.slice(chunk, cut.margin, body.op("Add", cut.margin, cut.rows), 1)
    body.op("Add", middle, change)
    chunks = build.scan(cut.starts, body, start)
    joined = build.reshape(chunks, 0, -1, unit.mix.shape[0])
    return build.slice(joined, build.integer(0), cut.length, 1)


@dataclass(frozen=True)
class _Cut:
    """Names of whole numbers: how a length is cut into chunks of `rows`.

    Attributes:
        margin: the rows that a chunk sees before and after its own; `seen` are all.
        after: the rows of zeros that the last chunk lacks, with its margin.
    """

    length: str
    starts: str
    rows: str
    margin: str
    seen: str
    after: str


def _cut(build: Builder, unit: Unit, length: str) -> _Cut:
    channels, dilation = unit.spread.shape[1], unit.spread.dilation
    block, margin = OUTPUTS * dilation, build.integer(3 * dilation)
    numbers = _WIDE_CHUNK if channels >= _WIDE else _CHUNK
    longest = max(1, numbers // (channels * block)) * block
    count = build.quotient(length, build.integer(longest))
    blocks = build.quotient(build.quotient(length, count), build.integer(block))
    rows = build.op("Mul", blocks, build.integer(block))
    whole = build.op("Mul", count, rows)
    bounds = [build.reshape(name) for name in (build.integer(0), whole, rows)]
    return _Cut(
        length=length,
        starts=build.reshape(build.op("Range", *bounds), -1, 1),
        rows=rows,
        margin=margin,
        seen=build.op("Add", rows, build.integer(6 * dilation)),
        after=build.op("Add", build.op("Sub", whole, length), margin),
    )


@dataclass(frozen=True)
class _Weights:
    """Names of what is made of a unit's weights once.

    Attributes:
        turns, before: of the first snake; after: of the second.
        products: (16, C_in, C); they make half turns, in which the second snake counts, as does
        the bias.
        mix: (C, C_out).
    """

    turns: str
    before: str
    products: str
    products_bias: str
    after: str
    mix: str
    mix_bias: str


def _weights(build: Builder, unit: Unit) -> _Weights:
    outside = build.outside
    _, taps, _ = minimal_filter()
    made, given, _ = unit.spread.shape
    turns = half_turns(build, unit.after)
    spread = outside.op("Transpose", unit.spread.weight, perm=[2, 1, 0])
    spread = outside.reshape(outside.op("Mul", spread, turns), TAPS, -1)
    products = outside.op("MatMul", build.small(taps), spread)
    mix = outside.op("Transpose", outside.reshape(unit.mix.weight, -1, made), perm=[1, 0])
    return _Weights(
        turns=half_turns(build, unit.before),
        before=amplitude(build, unit.before),
        products=outside.reshape(products, POINTS, given, made),
        products_bias=outside.op("Mul", unit.spread.bias or "", turns),
        after=outside.op("Mul", amplitude(build, unit.after), turns),
        mix=outside.op("Div", mix, outside.reshape(turns, -1, 1)),
        mix_bias=outside.reshape(unit.mix.bias or "", -1),
    )


def _change(build: Builder, unit: Unit, weights: _Weights, x: str) -> str:
    """What the unit adds to x (B, seen, C), away from the margins: (B, rows, C)."""
    spread, _, gather = minimal_filter()
    made, given, _ = unit.spread.shape
    dilation = unit.spread.dilation
    y = applied(build, x, weights.turns, weights.before)
    y = build.reshape(y, 0, 1, -1, dilation * given)
    y = build.op("Conv", y, build.small(spread[:, None, :, None]), strides=[OUTPUTS, 1])
    y = build.op("MatMul", build.reshape(y, 0, POINTS, -1, given), weights.products)
    y = build.reshape(y, 0, POINTS, -1, dilation * made)
    y = build.op("ConvTranspose", y, build.small(gather.T[:, None, :, None]), strides=[OUTPUTS, 1])
    y = build.op("Add", build.reshape(y, 0, -1, made), weights.products_bias)
    y = build.op("MatMul", applied(build, y, None, weights.after), weights.mix)
    return build.op("Add", y, weights.mix_bias)
