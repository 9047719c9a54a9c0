"""A network of convolutions read from its graph: a chain of layers, some of them residual units.

Only what depends on the graph's first input is data. All else is constant: weights, whether their
values are there (initializers) or not yet (further inputs), and what is computed of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Snake:
    """x + scale · sin²(frequency · x); both are names of constants (1, C, 1)."""

    frequency: str
    scale: str


@dataclass(frozen=True)
class Convolution:
    """One-dimensional.

    Attributes:
        weight: the name of a constant (C_out, C_in, K), `shape`; if transposed (C_in, C_out, K).
        bias: the name of a constant (C_out,), or None.
        pads: zeros before and after in time.
    """

    weight: str
    shape: tuple[int, int, int]
    bias: str | None
    stride: int
    dilation: int
    pads: tuple[int, int]
    transposed: bool


@dataclass(frozen=True)
class Unit:
    """x + mix(after(spread(before(x))))."""

    before: Snake
    spread: Convolution
    after: Snake
    mix: Convolution


Layer = Snake | Convolution | Unit


class Reader:
    """Follows a value through a graph from layer to layer."""

    def __init__(self, graph: Any) -> None:
        self._values = {t.name: t for t in graph.initializer}
        self._shapes = {t.name: tuple(t.dims) for t in graph.initializer}
        for value in graph.input[1:]:
            dims = value.type.tensor_type.shape.dim
            self._shapes[value.name] = tuple(d.dim_value for d in dims)
        self._same: dict[str, str] = {}
        self._users: dict[str, list[Any]] = defaultdict(list)
        self._data = {graph.input[0].name}
        for node in graph.node:
            self._note(node)

    def layers(self, value: str) -> tuple[list[Layer], str]:
        """The layers from the value `value` on, as many as are known, and what the last makes."""
        found: list[Layer] = []
        while step := self._unit(value) or self._snake(value) or self._convolution(value):
            layer, value = step
            found.append(layer)
        return found, value

    def is_constant(self, node: Any) -> bool:
        """Whether a node computes nothing from data."""
        return not self._data & set(node.input)

    def _note(self, node: Any) -> None:
        if self.is_constant(node):
            return
        self._data |= set(node.output)
        if node.op_type == "Reshape" and node.input[1] in self._data:
            # The reshapes around a snake give a tensor the shape that it has.
            self._same[node.output[0]] = self._resolved(node.input[0])
        elif node.op_type != "Shape":
            for name in {self._resolved(name) for name in node.input}:
                self._users[name].append(node)

    def _resolved(self, name: str) -> str:
        return self._same.get(name, name)

    def _unit(self, value: str) -> tuple[Unit, str] | None:
        parts: list[Any] = []
        current = value
        for read in (self._snake, self._convolution, self._snake, self._convolution):
            step = read(current)
            if step is None:
                return None
            parts.append(step[0])
            current = step[1]
        total = self._only(current, "Add")
        if total is None or {self._resolved(name) for name in total.input} != {value, current}:
            return None
        return Unit(*parts), total.output[0]

    def _snake(self, value: str) -> tuple[Snake, str] | None:
        for node in self._users[value]:
            if node.op_type != "Mul":
                continue
            frequency = self._factor(node)
            sine = self._only(node.output[0], "Sin")
            square = sine and self._only(sine.output[0], "Pow")
            product = square and self._only(square.output[0], "Mul")
            total = product and self._only(product.output[0], "Add")
            if total is None or frequency is None or not self._is_two(square.input[1]):
                continue
            scale = self._factor(product)
            inputs = {self._resolved(name) for name in total.input}
            if scale is not None and inputs == {value, product.output[0]}:
                return Snake(frequency, scale), total.output[0]
        return None

    def _convolution(self, value: str) -> tuple[Convolution, str] | None:
        users = self._users[value]
        if len(users) != 1 or users[0].op_type not in ("Conv", "ConvTranspose"):
            return None
        node = users[0]
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        known = {"dilations", "group", "kernel_shape", "pads", "strides"}
        shape = self._shapes.get(node.input[1], ())
        if given.keys() - known or given.get("group", 1) != 1 or len(shape) != 3:
            return None
        layer = Convolution(
            weight=node.input[1],
            shape=(shape[0], shape[1], shape[2]),
            bias=node.input[2] if len(node.input) > 2 else None,
            stride=given.get("strides", [1])[0],
            dilation=given.get("dilations", [1])[0],
            pads=tuple(given.get("pads", [0, 0])),
            transposed=node.op_type == "ConvTranspose",
        )
        return layer, node.output[0]

    def _only(self, value: str, kind: str) -> Any:
        users = self._users[value]
        return users[0] if len(users) == 1 and users[0].op_type == kind else None

    def _factor(self, node: Any) -> str | None:
        """The constant of a product with data."""
        constants = [name for name in node.input if name not in self._data]
        return constants[0] if len(constants) == 1 else None

    def _is_two(self, name: str) -> bool:
        tensor = self._values.get(name)
        return tensor is not None and numpy_helper.to_array(tensor).tolist() == 2
