"""Rotary positions as one operator: seven, as they are traced, each write all queries or keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.export.passes.builder import CONTRIB, Builder
from luthier.export.passes.values import Values


@dataclass(frozen=True)
class Rotation:
    """x · cos + (-x₂, x₁) · sin, where x₁ and x₂ are the halves of x.

    Attributes:
        x: the name of a value (B, T, heads, 2 · half).
        cosine, sine: of the angles (T, half).
    """

    x: str
    half: int
    cosine: str
    sine: str


def rotation(values: Values, total: Any) -> Rotation | None:
    """What a node Add computes, when it is that."""
    plain, turned = (values.maker(name, "Mul") for name in total.input)
    joined = turned and values.maker(turned.input[0], "Concat")
    if not (plain and joined) or len(joined.input) != 2:
        return None
    negative = values.maker(joined.input[0], "Neg")
    upper = negative and _part(values, negative.input[0])
    lower = _part(values, joined.input[1])
    cosine, sine = (_angles(values, node.input[1]) for node in (plain, turned))
    if not (upper and lower and cosine and sine) or {upper[0], lower[0]} != {plain.input[0]}:
        return None
    half = lower[2]
    if lower[1] != 0 or upper[1] != half or upper[2] < np.iinfo(np.int64).max:
        return None
    return Rotation(plain.input[0], half, cosine, sine)


def rotated(build: Builder, layer: Rotation) -> None:
    """Append the nodes of a rotation; the last makes what it makes."""
    joined = build.reshape(layer.x, 0, 0, -1)
    inputs = (joined, build.integer(0), layer.cosine, layer.sine)
    result = build.op("RotaryEmbedding", *inputs, domain=CONTRIB)
    build.reshape(result, 0, 0, -1, 2 * layer.half)


def _part(values: Values, name: str) -> tuple[str, int, int] | None:
    """What is sliced along heads' width, from where and to where."""
    node = values.maker(name, "Slice")
    numbers = [values.numbers(part) for part in node.input[1:]] if node else []
    if len(numbers) != 4 or numbers[2:] != [[3], [1]] or None in numbers[:2]:
        return None
    (start,), (end,) = numbers[:2]  # type: ignore[misc]
    return node.input[0], int(start), int(end)


def _angles(values: Values, name: str) -> str | None:
    """The half of (1, T, 1, width) that is said twice, as (T, width / 2)."""
    outer = values.maker(name, "Unsqueeze")
    inner = outer and values.maker(outer.input[0], "Unsqueeze")
    if inner is None or [values.numbers(n.input[1]) for n in (inner, outer)] != [[0], [2]]:
        return None
    cast = values.maker(inner.input[0], "Cast")
    twice = values.maker(cast.input[0] if cast else inner.input[0], "Concat")
    same = twice is not None and len(twice.input) == 2 and twice.input[0] == twice.input[1]
    return str(twice.input[0]) if same else None
