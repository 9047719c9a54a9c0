"""Convolutions that change the rate or the number of channels, with channels last."""

from __future__ import annotations

import numpy as np

from luthier.export.passes.builder import Builder
from luthier.export.passes.layers import Convolution

# To so few outputs a product has hardly any columns: then the taps are columns too.
_NARROW = 8


def is_upsampling(layer: Convolution) -> bool:
    """Whether `upsampled` can compute it."""
    twice = layer.shape[2] == 2 * layer.stride and layer.dilation == 1
    return layer.transposed and twice and layer.pads[1] > 0 and layer.bias is not None


def upsampled(build: Builder, layer: Convolution, x: str) -> str:
    """A transposed convolution whose K = 2 strides: x (B, T, C_in) → (B, stride·T + …, C_out).

    Every row and the row before it make `stride` outputs: one product, nothing left to add up.
    """
    given, made, _ = layer.shape
    stride, (before, after) = layer.stride, layer.pads
    zero, one = build.integer(0), build.integer(1)
    rows = [build.padded(x, zero, one), build.padded(x, one, zero)]
    outside = build.outside
    halves = outside.reshape(layer.weight, given, made, 2, stride)
    halves = outside.op("Transpose", halves, perm=[2, 0, 3, 1])
    weight = outside.reshape(halves, 2 * given, stride * made)
    bias = outside.op("Tile", layer.bias or "", build.integer(stride))
    y = build.op("Add", build.op("MatMul", build.op("Concat", *rows, axis=2), weight), bias)
    y = build.reshape(y, 0, -1, made)
    return build.slice(y, build.integer(before), build.integer(-after), 1)


def is_narrow(layer: Convolution) -> bool:
    """Whether `narrowed` can compute it and helps."""
    made, given, _ = layer.shape
    return not layer.transposed and layer.bias is None and made <= _NARROW < given


def narrowed(build: Builder, layer: Convolution, x: str) -> str:
    """A convolution to few channels: a product with all its taps, which then are shifted."""
    made, given, taps = layer.shape
    outside = build.outside
    weight = outside.op("Transpose", layer.weight, perm=[1, 2, 0])
    y = build.op("MatMul", x, outside.reshape(weight, given, taps * made))
    shifts = np.einsum("kj,ab->akbj", np.eye(taps), np.eye(made)).reshape(made, taps * made, taps)
    y = _convolution(build, layer, build.op("Transpose", y, perm=[0, 2, 1]), build.small(shifts))
    return build.op("Transpose", y, perm=[0, 2, 1])


def as_it_is(build: Builder, layer: Convolution, x: str) -> str:
    """Any convolution: x (B, T, C_in) → (B, T', C_out)."""
    y = _convolution(build, layer, build.op("Transpose", x, perm=[0, 2, 1]), layer.weight)
    return build.op("Transpose", y, perm=[0, 2, 1])


def _convolution(build: Builder, layer: Convolution, x: str, weight: str) -> str:
    return build.op(
        "ConvTranspose" if layer.transposed else "Conv",
        x,
        weight,
        *([layer.bias] if layer.bias else []),
        strides=[layer.stride],
        dilations=[layer.dilation],
        pads=list(layer.pads),
    )
