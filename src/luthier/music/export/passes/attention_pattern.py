"""Attention read from a graph: what `luthier.music.torch.attention` becomes when it is traced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from luthier.export.passes.values import Values, attribute

_TO_HEADS, _TO_COLUMNS = [0, 2, 1, 3], [0, 2, 3, 1]


@dataclass(frozen=True)
class Mask:
    """What is added to scores.

    Attributes:
        keys: the name of a value (B, 1, 1, L) for each key.
        window: how far a key may be from its query; None for any distance.
        outside: what is added besides where it is farther.
    """

    keys: str
    window: int | None = None
    outside: float = 0.0


@dataclass(frozen=True)
class Attention:
    """softmax(query · keys + mask) · values.

    Attributes:
        query: the name of (B, T, heads · groups, width), scaled.
        keys, values: (B, L, heads, width).
        heads: of keys and values.
        groups: heads of the query that share one of the keys.
        width: of a head.
        end: the node that makes the result (B, T, heads · groups · width).
    """

    query: str
    keys: str
    values: str
    heads: int
    groups: int
    width: int
    mask: Mask
    end: Any

    @property
    def operands(self) -> tuple[str, str, str]:
        return self.query, self.keys, self.values


class AttentionReader:
    """Finds attention in a graph."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._maker, self._user = values.maker, values.user
        self._numbers = values.numbers

    def attention(self, softmax: Any) -> Attention | None:
        """The attention around a node Softmax, when it is one that is known."""
        total = self._maker(softmax.input[0], "Add")
        scores = total and self._maker(total.input[0], "MatMul")
        mixed = self._user(softmax.output[0], "MatMul")
        if not (scores and mixed and mixed.input[0] == softmax.output[0]):
            return None
        mask = self._mask(total.input[1])
        end = self._joined(mixed)
        query = self._transposed(scores.input[0], _TO_HEADS)
        keys, key_groups = self._shared(scores.input[1], _TO_COLUMNS)
        values, groups = self._shared(mixed.input[1], _TO_HEADS)
        size = values and self._heads(values)
        if not (mask and end and query and keys and values and size) or key_groups != groups:
            return None
        return Attention(query, keys, values, size[0], groups, size[1], mask, end)

    def _joined(self, mixed: Any) -> Any:
        """The node that joins the heads of the result."""
        turned = self._user(mixed.output[0], "Transpose")
        if turned is None or attribute(turned, "perm") != _TO_HEADS:
            return None
        users = self._values.users(turned.output[0])
        joined = [node for node in users if node.op_type == "Reshape"]
        known = len(joined) == 1 and all(node.op_type in ("Reshape", "Shape") for node in users)
        target = self._maker(joined[0].input[1], "Concat") if known else None
        return joined[0] if target and self._numbers(target.input[-1]) == [-1] else None

    def _shared(self, name: str, order: list[int]) -> tuple[str | None, int]:
        """(B, L, heads, width) in another order, each head once or `groups` times in a row."""
        groups = 1
        if joined := self._maker(name, "Reshape"):
            tiled = self._maker(joined.input[0], "Tile")
            spread = tiled and self._maker(tiled.input[0], "Unsqueeze")
            if spread is None or self._numbers(spread.input[1]) != [2]:
                return None, 0
            counts = self._numbers(tiled.input[1])
            if counts is None or len(counts) != 5 or counts[:2] + counts[3:] != [1] * 4:
                return None, 0
            groups, name = int(counts[2]), spread.input[0]
        return self._transposed(name, order), groups

    def _heads(self, name: str) -> tuple[int, int] | None:
        """Heads and their width, from the node that splits them."""
        split = self._maker(name, "Reshape")
        shape = split and self._maker(split.input[1], "Concat")
        for part in shape.input if shape else ():
            numbers = self._numbers(part)
            if numbers is not None and len(numbers) == 2 and min(numbers) > 0:
                return int(numbers[0]), int(numbers[1])
        return None

    def _mask(self, name: str) -> Mask | None:
        if (total := self._maker(name, "Add")) is None:
            return self._of_keys(name)
        keys = self._of_keys(total.input[0])
        distant = self._maker(total.input[1], "Mul")
        outside = distant and self._numbers(distant.input[1])
        cast = distant and self._maker(distant.input[0], "Cast")
        far = cast and self._maker(cast.input[0], "Greater")
        window = far and self._numbers(far.input[1])
        if not (keys and outside and window) or not self._is_distance(far.input[0]):
            return None
        return Mask(keys.keys, int(window[0]), float(outside[0]))

    def _of_keys(self, name: str) -> Mask | None:
        """A value for each key, for every query the same."""
        spread = self._maker(name, "Expand")
        value = spread and self._maker(spread.input[0], "Cast")
        shaped = value and self._maker(value.input[0], "Unsqueeze")
        inner = shaped and self._maker(shaped.input[0], "Unsqueeze")
        if inner is None or [self._numbers(n.input[1]) for n in (inner, shaped)] != [[1], [2]]:
            return None
        return Mask(value.output[0])

    def _is_distance(self, name: str) -> bool:
        """Whether a value is |i - j| of the positions 0, 1, 2 …"""
        size = self._maker(name, "Abs")
        difference = size and self._maker(size.input[0], "Sub")
        sides = [self._maker(part, "Unsqueeze") for part in difference.input] if difference else []
        if len(sides) != 2 or None in sides or sides[0].input[0] != sides[1].input[0]:
            return False
        steps = self._maker(sides[0].input[0], "Range")
        axes = [self._numbers(side.input[1]) for side in sides]
        counted = steps and [self._numbers(steps.input[0]), self._numbers(steps.input[2])]
        return axes == [[1], [0]] and counted == [[0], [1]]

    def _transposed(self, name: str, order: list[int]) -> str | None:
        node = self._maker(name, "Transpose")
        return node.input[0] if node and attribute(node, "perm") == order else None
