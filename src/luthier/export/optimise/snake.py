"""Snake, x + k · sin²(αx), of sums and products: ONNX Runtime's sine is serial and unvectorised.

In half turns u = αx/π the square of the sine has period 1, so that only t = u − round(u) in
[−½, ½] counts. There sin²(πt) = 4w(1 − w) with w = cos²(πt/2), and the cosine a polynomial in t².
"""

from __future__ import annotations

import numpy as np

from luthier.export.optimise.builder import Builder
from luthier.export.optimise.layers import Snake

# w = ((t² + A)² + B)² (t² + C)² / D, fitted to the least largest error of sin²(πt): 5e-8.
_A, _B, _C, _D = -5.679617455004425, 16.50457199690735, -0.9992508703813187, 2374.232547648911


def snake(build: Builder, layer: Snake, x: str) -> str:
    """Snake of x (B, T, C)."""
    return applied(build, x, half_turns(build, layer), amplitude(build, layer))


def half_turns(build: Builder, layer: Snake) -> str:
    """α/π as (C,)."""
    return build.op("Mul", build.reshape(layer.frequency, -1), build.small(1 / np.pi))


def amplitude(build: Builder, layer: Snake) -> str:
    """k times the polynomial's constant, as (C,)."""
    return build.op("Mul", build.reshape(layer.scale, -1), build.small(4 / _D**2))


def applied(build: Builder, x: str, turns: str | None, amplitude: str) -> str:
    """x (B, T, C) plus the amplitude (C,) times the polynomial of x · turns (C,), or of x."""
    u = x if turns is None else build.op("Mul", x, turns)
    t = build.op("Sub", u, build.op("Round", u))
    s = build.op("Mul", t, t)
    inner = build.op("Add", s, build.small(_A))
    outer = build.op("Add", build.op("Mul", inner, inner), build.small(_B))
    cosine = build.op("Mul", outer, build.op("Add", s, build.small(_C)))
    w = build.op("Mul", cosine, cosine)
    square = build.op("Mul", w, build.op("Sub", build.small(_D), w))
    return build.op("Add", x, build.op("Mul", square, amplitude))
