"""Attention whose memory grows with the length of a piece, not with its square.

Where every key counts, ONNX Runtime's MultiHeadAttention computes scores in blocks that fit the
cache (Dao et al., "FlashAttention", 2022), if it is given no mask. So the mask is made one more
feature of queries and keys: 1 times what would be added. Where only keys within a window count,
blocks of queries are multiplied with the keys around them, in standard operators.
"""

from __future__ import annotations

import numpy as np

from luthier.export.passes.builder import CONTRIB, Builder
from luthier.music.export.passes.attention_pattern import Attention, Mask

_EIGHT = 8  # the width of a head stays a multiple of it, as kernels of graphics processors want it
_BY_HEAD = [0, 2, 1, 3]
_ROWS = 128  # queries of a block: few for the cache and the window, many for a product


class AttentionWriter:
    """Makes the nodes of one attention after another; what masks need is made once for all."""

    def __init__(self, build: Builder) -> None:
        self._build = build
        self._features: dict[tuple[str, int, int], str] = {}
        self._blocks: dict[tuple[Mask, int], _Blocks] = {}

    def write(self, layer: Attention) -> None:
        """Append the nodes of an attention; the last makes what it makes."""
        if layer.mask.window is None:
            self._whole(layer)
        else:
            self._near(layer)

    def _whole(self, layer: Attention) -> None:
        """Few scores as a product of matrices, many in the kernel that keeps only some."""
        build = self._build
        features = self._masking(layer)
        pairs = build.op("Mul", build.size(layer.query, 1), build.size(layer.keys, 1))
        few = build.op("LessOrEqual", pairs, build.integer((2 * _ROWS) ** 2))
        product, kernel = Builder(build), Builder(build)
        query, keys, values = (product.op("Transpose", x, perm=_BY_HEAD) for x in layer.operands)
        _products(product, layer, query, keys, values, layer.mask.keys)
        self._kernel(kernel, layer, features)
        build.choice(few, product, kernel)

    def _kernel(self, build: Builder, layer: Attention, features: str) -> None:
        heads = layer.heads * layer.groups
        extra = _extra(layer)
        wide = layer.width + extra
        ends = build.small([0] * 7 + [extra], np.int64)
        query = build.op("Pad", layer.query, ends, build.small(1.0))
        keys = build.op("Concat", layer.keys, features, axis=3)
        build.op(
            "MultiHeadAttention",
            build.reshape(query, 0, 0, heads * wide),
            _repeated(build, keys, layer.groups, heads * wide),
            _repeated(build, layer.values, layer.groups, heads * layer.width),
            domain=CONTRIB,
            num_heads=heads,
            scale=1.0,
        )

    def _masking(self, layer: Attention) -> str:
        """The mask as features of the keys (B, L, heads, extra): the first is it, others are 0."""
        key = (layer.mask.keys, layer.heads, _extra(layer))
        if key not in self._features:
            build = self._build
            values = build.op("Transpose", layer.mask.keys, perm=[0, 3, 1, 2])
            first = np.zeros(key[1:])
            first[:, 0] = 1
            self._features[key] = build.op("Mul", values, build.small(first))
        return self._features[key]

    def _near(self, layer: Attention) -> None:
        build = self._build
        key = (layer.mask, layer.groups)
        if key not in self._blocks:
            self._blocks[key] = _Blocks(build, layer.mask, layer.groups)
        self._blocks[key].attention(build, layer)


class _Blocks:
    """Blocks of queries and, for each, the keys that are near one of them.

    All blocks are equally long and so are their keys: at the ends they are moved inwards. What is
    shorter than two blocks is one, where all is multiplied with all.
    """

    def __init__(self, build: Builder, mask: Mask, groups: int) -> None:
        assert mask.window is not None
        one, none = build.integer(1), build.integer(0)
        self.length = build.size(mask.keys, 3)
        short = build.op("LessOrEqual", self.length, build.integer(2 * _ROWS))
        self.rows = build.op("Where", short, self.length, build.integer(_ROWS))
        reached = build.op("Add", self.length, build.op("Sub", self.rows, one))
        self.count = build.op("Div", reached, self.rows)
        self.steps = build.op("Unsqueeze", _range(build, self.count), one)
        last = build.op("Sub", self.length, self.rows)
        first = build.op("Mul", _range(build, self.count), self.rows)
        self.queries = build.op("Min", first, last)
        around = build.op("Add", self.rows, build.integer(2 * mask.window))
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
        by_head = [build.op("Transpose", x, perm=_BY_HEAD) for x in layer.operands]
        body, step = Builder(build), build.name()
        after = body.op("Add", step, build.integer(1))
        start = body.slice(self.queries, step, after, 0)
        query = body.slice(by_head[0], start, body.op("Add", start, self.rows), 2)
        start = body.slice(self.keys, step, after, 0)
        end = body.op("Add", start, self.columns)
        keys, values = (body.slice(x, start, end, 2) for x in by_head[1:])
        _products(body, layer, query, keys, values, body.slice(self.bias, step, after, 1))
        joined = build.scan(self.steps, body, step)
        self._cut(build, build.reshape(joined, 0, -1, layer.heads * layer.groups * layer.width))

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


def _extra(layer: Attention) -> int:
    """Features that are added to a head's: at least one."""
    return _EIGHT - layer.width % _EIGHT


def _repeated(build: Builder, x: str, groups: int, width: int) -> str:
    """(B, L, heads, …) with each head `groups` times in a row, as (B, L, width)."""
    if groups > 1:
        x = build.op("Unsqueeze", x, build.integer(3))
        x = build.op("Expand", x, build.small([1, 1, 1, groups, 1], np.int64))
    return build.reshape(x, 0, 0, width)


def _products(
    build: Builder, layer: Attention, query: str, keys: str, values: str, bias: str
) -> None:
    """Append attention by its definition, over (B, heads, T or L, width); makes (B, T, width).

    The queries that share keys follow each other as rows of one matrix, so no key is copied.
    """
    query = build.reshape(query, 0, layer.heads, -1, layer.width)
    scores = build.op("MatMul", query, build.op("Transpose", keys, perm=[0, 1, 3, 2]))
    weights = build.op("Softmax", build.op("Add", scores, bias), axis=-1)
    heads = layer.heads * layer.groups
    mixed = build.reshape(build.op("MatMul", weights, values), 0, heads, -1, layer.width)
    build.reshape(build.op("Transpose", mixed, perm=_BY_HEAD), 0, 0, heads * layer.width)
