"""Attention whose memory grows with the length of a piece, not with its square.

Where every key counts, ONNX Runtime's MultiHeadAttention computes scores in blocks that fit the
cache (Dao et al., "FlashAttention", 2022), if it is given no mask. So the mask is made one more
feature of queries and keys: 1 times what would be added. Where only keys within a window count,
blocks of queries are multiplied with the keys around them, in standard operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from luthier.export.optimise.attention_pattern import Attention, AttentionReader, Mask
from luthier.export.optimise.builder import Builder

CONTRIB = "com.microsoft"
_EIGHT = 8  # the width of a head stays a multiple of it, as kernels of graphics processors want it
_ROWS = 128  # queries of a block: few enough for the cache, enough for a product of matrices


def linear_memory(proto: Any) -> Any:
    """The graph with the attention that is known rewritten; as it is where none is."""
    reader = AttentionReader(proto.graph)
    softmax = [node for node in proto.graph.node if node.op_type == "Softmax"]
    found = [made for node in softmax if (made := reader.attention(node)) is not None]
    if not found:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    emitter = _Emitter()
    new = {layer.end.output[0]: emitter.emitted(layer) for layer in found}
    nodes: list[Any] = []
    for node in made.graph.node:
        nodes.extend(new.get(node.output[0], [node]))
    _replace(made, nodes, emitter.constants)
    onnx.checker.check_model(made)
    return made


def _replace(proto: Any, nodes: list[Any], constants: list[Any]) -> None:
    """Put in the nodes that the outputs need, and the constants that these need."""
    graph = proto.graph
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= _inputs(node)
    tensors = [t for t in (*graph.initializer, *constants) if t.name in wanted]
    for field, values in (("node", kept[::-1]), ("initializer", tensors)):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(values)
    domains = {entry.domain for entry in proto.opset_import}
    if CONTRIB not in domains and any(node.domain == CONTRIB for node in kept):
        proto.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))


def _inputs(node: Any) -> set[str]:
    """What a node reads, and what its bodies read from outside."""
    names = set(node.input)
    for attribute in node.attribute:
        names.update(*(_inputs(inner) for inner in attribute.g.node))
    return names


class _Emitter:
    """Makes the nodes of one attention after another; what masks need is made once for all."""

    def __init__(self) -> None:
        self._build = Builder()
        self._features: dict[tuple[str, int, int], str] = {}
        self._blocks: dict[tuple[Mask, int], _Blocks] = {}

    @property
    def constants(self) -> list[Any]:
        return self._build.constants

    def emitted(self, layer: Attention) -> list[Any]:
        """The nodes that stand for an attention and make what it makes."""
        self._build.nodes = []
        if layer.mask.window is None:
            self._fused(layer)
        else:
            self._near(layer)
        self._build.nodes[-1].output[0] = layer.end.output[0]
        return self._build.nodes

    def _fused(self, layer: Attention) -> None:
        build, heads = self._build, layer.heads * layer.groups
        extra = _EIGHT - layer.width % _EIGHT
        wide = layer.width + extra
        ends = build.small([0] * 7 + [extra], np.int64)
        query = build.op("Pad", layer.query, ends, build.small(1.0))
        features = self._masking(layer, extra)
        keys = build.op("Concat", layer.keys, features, axis=3)
        build.op(
            "MultiHeadAttention",
            build.reshape(query, 0, 0, heads * wide),
            self._repeated(keys, layer.groups, heads * wide),
            self._repeated(layer.values, layer.groups, heads * layer.width),
            domain=CONTRIB,
            num_heads=heads,
            scale=1.0,
        )

    def _masking(self, layer: Attention, extra: int) -> str:
        """The mask as features of the keys (B, L, heads, extra): the first is it, others are 0."""
        key = (layer.mask.keys, layer.heads, extra)
        if key not in self._features:
            build = self._build
            values = build.op("Transpose", layer.mask.keys, perm=[0, 3, 1, 2])
            first = np.zeros((layer.heads, extra))
            first[:, 0] = 1
            self._features[key] = build.op("Mul", values, build.small(first))
        return self._features[key]

    def _repeated(self, x: str, groups: int, width: int) -> str:
        """(B, L, heads, …) with each head `groups` times in a row, as (B, L, width)."""
        if groups > 1:
            x = self._build.op("Unsqueeze", x, self._build.integer(3))
            x = self._build.op("Expand", x, self._build.small([1, 1, 1, groups, 1], np.int64))
        return self._build.reshape(x, 0, 0, width)

    def _near(self, layer: Attention) -> None:
        build = self._build
        key = (layer.mask, layer.groups)
        if key not in self._blocks:
            self._blocks[key] = _Blocks(build, layer.mask, layer.groups)
        self._blocks[key].attention(build, layer)


class _Blocks:
    """Blocks of queries and, for each, the keys that are near one of them.

    All blocks are equally long and so are their keys: at the ends they are moved inwards. A piece
    of one block has no other keys than its own.
    """

    def __init__(self, build: Builder, mask: Mask, groups: int) -> None:
        assert mask.window is not None
        one, none = build.integer(1), build.integer(0)
        self.length = build.size(mask.keys, 3)
        self.rows = build.op("Min", self.length, build.integer(_ROWS))
        reached = build.op("Add", self.length, build.op("Sub", self.rows, one))
        self.count = build.op("Div", reached, self.rows)
        self.steps = build.op("Unsqueeze", _range(build, self.count), one)
        last = build.op("Sub", self.length, self.rows)
        first = build.op("Mul", _range(build, self.count), self.rows)
        self.queries = build.op("Min", first, last)
        around = build.integer(_ROWS + 2 * mask.window)
        self.columns = build.op("Min", self.length, around)
        before = build.op("Sub", self.queries, build.integer(mask.window))
        latest = build.op("Sub", self.length, self.columns)
        self.keys = build.op("Max", build.op("Min", before, latest), none)
        self.bias = self._bias(build, mask, groups)

    def _bias(self, build: Builder, mask: Mask, groups: int) -> str:
        """The mask (B, blocks, groups · rows, columns)."""
        one = build.integer(1)
        i = self._positions(build, self.queries, self.rows)
        j = self._positions(build, self.keys, self.columns)
        apart = build.op(
            "Sub", build.op("Unsqueeze", i, build.integer(2)), build.op("Unsqueeze", j, one)
        )
        far = build.op("Greater", build.op("Abs", apart), build.integer(mask.window or 0))
        outside = build.op("Where", far, build.small(mask.outside), build.small(0.0))
        kept = build.op("Gather", build.reshape(mask.keys, 0, -1), j, axis=1)
        bias = build.op("Add", build.op("Unsqueeze", kept, build.integer(2)), outside)
        return build.op("Concat", *[bias] * groups, axis=2) if groups > 1 else bias

    def _positions(self, build: Builder, starts: str, count: str) -> str:
        """(blocks, count), each row counting from its start."""
        return build.op(
            "Add", build.op("Unsqueeze", starts, build.integer(1)), _range(build, count)
        )

    def attention(self, build: Builder, layer: Attention) -> None:
        """Append the nodes of an attention with this mask."""
        heads = layer.heads * layer.groups
        by_head = [
            build.op("Transpose", name, perm=[0, 2, 1, 3])
            for name in (layer.query, layer.keys, layer.values)
        ]
        body, step = Builder(build), build.name()
        after = body.op("Add", step, build.integer(1))
        start = body.slice(self.queries, step, after, 0)
        query = body.slice(by_head[0], start, body.op("Add", start, self.rows), 2)
        query = body.reshape(query, 0, layer.heads, -1, layer.width)
        start = body.slice(self.keys, step, after, 0)
        end = body.op("Add", start, self.columns)
        keys, values = (body.slice(name, start, end, 2) for name in by_head[1:])
        scores = body.op("MatMul", query, body.op("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = body.op("Add", scores, body.slice(self.bias, step, after, 1))
        mixed = body.op("MatMul", body.op("Softmax", scores, axis=-1), values)
        mixed = body.reshape(mixed, 0, heads, -1, layer.width)
        body.reshape(body.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, heads * layer.width)
        joined = build.scan(self.steps, body, step)
        self._cut(build, build.reshape(joined, 0, -1, heads * layer.width))

    def _cut(self, build: Builder, joined: str) -> None:
        """The blocks in a row, without what the last two have in common."""
        whole = build.op("Mul", self.rows, self.count)
        before = build.op("Sub", whole, self.rows)
        again = build.op("Sub", whole, self.length)
        head = build.slice(joined, build.integer(0), before, 1)
        tail = build.slice(joined, build.op("Add", before, again), whole, 1)
        build.op("Concat", head, tail, axis=1)


def _range(build: Builder, count: str) -> str:
    """0, 1, 2 … below a number that is a tensor of one element."""
    zero, one = build.small(0, np.int64), build.small(1, np.int64)
    return build.op("Range", zero, build.op("Squeeze", count, build.integer(0)), one)
