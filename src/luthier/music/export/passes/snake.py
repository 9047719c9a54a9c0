"""Snake, x + k · sin²(αx), of sums and products: ONNX Runtime's sine is serial and unvectorised.

In half turns u = αx/π the square of the sine has period 1, so that only t = u − round(u) in
[−½, ½] counts. There the sine is t times a square of t² and a remainder. One more term would take
two more passes over the data; as it is, the error is 80 dB below k.
"""

from __future__ import annotations

import numpy as np

from luthier.export.passes.builder import Builder
from luthier.export.passes.layers import Snake

# sin²(πt) ≈ C (t ((t² + A)² + B))², fitted to the least largest error: 1e-4.
_A, _B, _C = -1.1237528550389755, 0.11263380775102094, 5.212154815125161


def snake(build: Builder, layer: Snake, x: str) -> str:
    """Snake of x (B, T, C)."""
    return applied(build, x, half_turns(build, layer), amplitude(build, layer))


def half_turns(build: Builder, layer: Snake) -> str:
    """α/π as (C,)."""
    outside = build.outside
    return outside.op("Mul", outside.reshape(layer.frequency, -1), build.small(1 / np.pi))


def amplitude(build: Builder, layer: Snake) -> str:
    """k times the polynomial's constant, as (C,)."""
    outside = build.outside
    return outside.op("Mul", outside.reshape(layer.scale, -1), build.small(_C))


def applied(build: Builder, x: str, turns: str | None, amplitude: str) -> str:
    """x (B, T, C) plus the amplitude (C,) times the polynomial of x · turns (C,), or of x."""
    u = x if turns is None else build.op("Mul", x, turns)
    t = build.op("Sub", u, build.op("Round", u))
    s = build.op("Mul", t, t)
    inner = build.op("Add", s, build.small(_A))
    outer = build.op("Add", build.op("Mul", inner, inner), build.small(_B))
    sine = build.op("Mul", outer, t)
    square = build.op("Mul", sine, sine)
    return build.op("Add", x, build.op("Mul", square, amplitude))
