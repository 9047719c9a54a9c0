"""Nodes and constants of a graph in the making."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators
_PREFIX = "fast."


class Builder:
    """Collects nodes; names what they make. Bodies of loops share the names and the constants."""

    def __init__(self, parent: Builder | None = None) -> None:
        self._root: Builder = parent.outside if parent else self
        self.nodes: list[Any] = []
        if parent is None:
            self.constants: list[Any] = []
            self._count = 0
            self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    @property
    def outside(self) -> Builder:
        """The graph around all bodies: what is appended to it is computed once."""
        return self._root

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        output = self.name()
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def name(self) -> str:
        """A name that is not yet taken."""
        self._root._count += 1
        return f"{_PREFIX}{self._root._count}"

    def small(self, values: Any, dtype: type[np.generic] = np.float32) -> str:
        """A small constant; equal ones are stored once."""
        array = np.asarray(values, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        known = self._root._small
        if key not in known:
            known[key] = self.name()
            self._root.constants.append(numpy_helper.from_array(array, known[key]))
        return known[key]

    def integer(self, value: int) -> str:
        """A whole number as a tensor of one element, as shapes and bounds are built from."""
        return self.small([value], np.int64)

    def reshape(self, x: str, *shape: int) -> str:
        """As numpy's; 0 keeps the dimension in that place."""
        return self.op("Reshape", x, self.small(shape, np.int64))

    def slice(self, x: str, start: str, end: str, axis: int) -> str:
        """From `start` to before `end` along `axis`."""
        return self.op("Slice", x, start, end, self.integer(axis))

    def size(self, x: str, axis: int) -> str:
        """The size of an axis, as a tensor of one element."""
        return self.op("Shape", x, start=axis, end=axis + 1)

    def quotient(self, a: str, b: str) -> str:
        """Whole numbers a / b, rounded up."""
        return self.op("Div", self.op("Sub", self.op("Add", a, b), self.integer(1)), b)

    def padded(self, x: str, before: str, after: str) -> str:
        """x (B, T, C) with zeros before and after in time."""
        zero = self.integer(0)
        return self.op("Pad", x, self.op("Concat", zero, before, zero, zero, after, zero, axis=0))

    def scan(self, steps: str, body: Builder, step: str) -> str:
        """Run `body` for every row of `steps`, the whole number `step` in its turn.

        The body sees all that is outside of it. What its last node makes, (B, t, C), is joined in
        (B, steps, t, C); all must be equally long.
        """
        result = body.nodes[-1].output[0]
        graph = helper.make_graph(
            body.nodes,
            self.name(),
            [helper.make_tensor_value_info(step, TensorProto.INT64, [1])],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, [None, None, None])],
        )
        return self.op("Scan", steps, body=graph, num_scan_inputs=1, scan_output_axes=[1])

    def choice(self, condition: str, yes: Builder, no: Builder) -> str:
        """What the last node of one body makes, (B, t, C), as a condition says."""
        branches = {}
        for name, body in (("then_branch", yes), ("else_branch", no)):
            result = body.nodes[-1].output[0]
            made = helper.make_tensor_value_info(result, TensorProto.FLOAT, [None, None, None])
            branches[name] = helper.make_graph(body.nodes, self.name(), [], [made])
        return self.op("If", condition, **branches)
