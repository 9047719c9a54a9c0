"""What a graph of a language model is made of: stored weights, and nodes that use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from luthier.export.lm_weights import Checkpoint, LMPrecision, WeightFile, quantised, seen_as

CONTRIB = "com.microsoft"
_BITS: dict[LMPrecision, int] = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
_ALL = slice(None)


@dataclass
class Weights:
    """Initializers by the name of their weight: stored at first use, then shared by all graphs."""

    source: Checkpoint
    file: WeightFile
    precision: LMPrecision
    _kept: dict[str, list[TensorProto]] = field(default_factory=dict)

    def plain(self, name: str, values: NDArray[Any] | None = None) -> list[TensorProto]:
        """A tensor as it is: a norm of the model, or the given values."""
        if name not in self._kept:
            stored = self.source[name] if values is None else values
            self._kept[name] = [self.file.add(name, stored)]
        return self._kept[name]

    def matrix(self, name: str, parts: Sequence[str], rows: slice = _ALL) -> list[TensorProto]:
        """Rows of the weights `parts` (N, K), one below the other, in the export's precision."""
        if name not in self._kept:
            weight = np.concatenate([self.source[part][rows] for part in parts])
            self._kept[name] = self._stored(name, weight)
        return self._kept[name]

    def _stored(self, name: str, weight: NDArray[np.float32]) -> list[TensorProto]:
        bits = self.bits(name)
        if bits > 8:
            kind = np.float16 if bits == 16 else np.float32
            return [self.file.add(name, weight.astype(kind))]
        values, scales, zeros = quantised(weight, bits)
        made = [self.file.add(name, values), self.file.add(f"{name}.scale", scales)]
        return made if zeros is None else [*made, self.file.add(f"{name}.zero", zeros)]

    def bits(self, name: str) -> int:
        """Bits a weight. Tables of tokens keep eight: with fewer the audio codes break."""
        bits = _BITS[self.precision]
        return max(bits, 8) if name.startswith("tokens.") else bits


class GraphBuilder:
    """Nodes and initializers of one graph; names are numbered as they come.

    Args:
        prefix: of the names, so that they are unique in a graph with branches.
        initializers: of the graph around this one, where there is one.
    """

    def __init__(
        self,
        weights: Weights,
        prefix: str = "n",
        initializers: dict[str, TensorProto] | None = None,
    ) -> None:
        self.weights, self.prefix = weights, prefix
        self.nodes: list[NodeProto] = []
        self.initializers = {} if initializers is None else initializers

    def branch(self, prefix: str) -> GraphBuilder:
        """A graph inside this one, that uses this one's initializers."""
        return GraphBuilder(self.weights, prefix, self.initializers)

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; the output's name."""
        return self.nodes_of(kind, inputs, 1, domain=domain, **attributes)[0]

    def nodes_of(
        self, kind: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; their names."""
        name = f"{self.prefix}{len(self.nodes)}"
        self.named(kind, inputs, [f"{name}.{i}" for i in range(outputs)], domain, **attributes)
        return list(self.nodes[-1].output)

    def named(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Add a node whose outputs have names of their own."""
        name = f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                kind, list(inputs), list(outputs), name=name, domain=domain, **attributes
            )
        )

    def constant(self, value: Any, kind: Any = np.int64) -> str:
        """A small constant, shared by value."""
        array = np.asarray(value, kind)
        name = f"c_{array.dtype}_{array.ndim}_{array.tolist()}".replace(" ", "")
        self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def use(self, tensors: Sequence[TensorProto]) -> list[str]:
        """Refer to stored weights; their names."""
        for tensor in tensors:
            self.initializers.setdefault(tensor.name, tensor)
        return [tensor.name for tensor in tensors]

    def linear(self, x: str, name: str, parts: Sequence[str], rows: slice = _ALL) -> str:
        """`x` (n, K) times the weights (N, K), transposed: (n, N)."""
        tensors = self.weights.matrix(name, parts, rows)
        names, bits = self.use(tensors), self.weights.bits(name)
        if bits > 8:
            weight = names[0] if bits == 32 else self.node("Cast", names[0], to=TensorProto.FLOAT)
            return self.node("Gemm", x, weight, transB=1)
        count, blocks, packed = tensors[0].dims
        block = packed * 8 // bits
        sizes = {"N": count, "K": blocks * block, "bits": bits, "block_size": block}
        # Level 4: activations as 8-bit integers, a scale a block of a row, so that an item of a
        # batch does not depend on the others.
        return self.node("MatMulNBits", x, *names, domain=CONTRIB, accuracy_level=4, **sizes)

    def rows(self, name: str, parts: Sequence[str], rows: slice, ids: str) -> str:
        """Rows `ids` of a table of tokens (n, K), from the bytes that the head multiplies with."""
        tensors = self.weights.matrix(name, parts, rows)
        bits = self.weights.bits(name)
        if bits > 8:
            found = self.node("Gather", self.use(tensors)[0], ids)
            return found if bits == 32 else self.node("Cast", found, to=TensorProto.FLOAT)
        count, blocks, block = tensors[0].dims
        table = seen_as(tensors[0], f"{name}.rows", (count, blocks * block))
        return self.node(
            "GatherBlockQuantized",
            *self.use([table]),
            ids,
            *self.use(tensors[1:]),
            domain=CONTRIB,
            bits=bits,
            block_size=block,
            quantize_axis=1,
            gather_axis=0,
        )
