"""A skeleton and its weights → a graph whose weights are stored in the precision of a tier.

Weights are read, lowered and appended to a file one after another. Activations stay float32 but
where a matrix product takes 8-bit integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from luthier.export.folding import Folding
from luthier.export.graph_file import WEIGHTS
from luthier.export.lm_weights import WeightFile
from luthier.export.passes.values import names_read
from luthier.export.precision import BLOCK_MULTIPLE, Int8, Precision, Storage, storage_of
from luthier.export.quantise import by_block, by_output, by_row
from luthier.export.weights import Weights, as_half, fits, shapes_of
from luthier.music.export.calibration import Activations

CONTRIB = "com.microsoft"
_INSIDE = 1024  # bytes up to which a tensor lies in the graph itself
_ACCURACY = 4  # of MatMulNBits: activations as 8-bit integers, a scale a block of a row


@dataclass(frozen=True)
class Lowered:
    """How the weights of a graph are to be stored.

    Attributes:
        activations: what was seen of them, by weight.
        folded: store what is computed of weights alone, in float32, instead of the weights.
    """

    precision: Precision
    int8: Int8 = "dynamic"
    activations: Mapping[str, Activations] = field(default_factory=dict)
    folded: bool = False


class Lowering:
    """Rewrites one skeleton; `apply` does it, in place.

    Args:
        proto: a skeleton.
        weights: by the names that the skeleton's further inputs have.
        file: takes the values.
        plan: the precision.
    """

    def __init__(self, proto: Any, weights: Weights, file: WeightFile, plan: Lowered) -> None:
        self._graph, self._weights, self._file, self._plan = proto.graph, weights, file, plan
        self._proto = proto
        self._shapes = {
            name: shape
            for name, shape in shapes_of(proto.graph.input).items()
            if name.startswith(WEIGHTS)
        }
        self._folding = Folding(proto.graph, self._shapes if plan.folded else (), self._read)
        self._turned: dict[str, str] = {}  # the output of a transposition -> the weight
        self._first: list[NodeProto] = []
        self._nodes: list[NodeProto] = []
        self._plain: dict[tuple[str, bool], str] = {}
        self._stored: dict[str, str] = {}  # digest -> the tensor that holds it
        self._integers: dict[str, tuple[str, str, str]] = {}

    def apply(self) -> None:
        """Rewrite the graph; its weights become initializers."""
        for node in list(self._graph.node):
            if self._folding.takes(node):
                continue
            if node.op_type == "Transpose" and len(self._shapes.get(node.input[0], ())) == 2:
                self._turned[node.output[0]] = node.input[0]
            elif not (self._product(node) or self._lookup(node)):
                self._point_at_values(node)
                self._nodes.append(node)
        nodes = self._first + self._nodes
        real = [value for value in self._graph.input if value.name not in self._shapes]
        read = {name for node in nodes for name in names_read(node)}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        for field_name, values in (("node", nodes), ("input", real), ("initializer", kept)):
            del getattr(self._graph, field_name)[:]
            getattr(self._graph, field_name).extend(values)
        known = {entry.domain for entry in self._proto.opset_import}
        if CONTRIB not in known and any(node.domain == CONTRIB for node in self._nodes):
            self._proto.opset_import.append(helper.make_opsetid(CONTRIB, 1))

    def _point_at_values(self, node: NodeProto) -> None:
        """Let a node, and the bodies that it has, read what stands for weights."""
        for place, name in enumerate(node.input):
            node.input[place] = self._value(name)
        for given in node.attribute:
            for inner in given.g.node:
                self._point_at_values(inner)

    def _product(self, node: NodeProto) -> bool:
        """Rewrite a product with a constant matrix, when that is stored in 8 or 4 bits."""
        if node.op_type not in ("MatMul", "Gemm"):
            return False
        factor = node.input[1]
        name = self._turned.get(factor, factor)
        if len(self._shapes.get(name, ())) != 2:
            return False
        transposed = factor in self._turned
        if node.op_type == "Gemm":
            flags = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if flags.get("transA", 0) or {flags.get("alpha", 1.0), flags.get("beta", 1.0)} != {1.0}:
                return False
            transposed ^= bool(flags.get("transB", 0))
        shape = self._shapes[name] if transposed else self._shapes[name][::-1]
        storage = storage_of(name, shape, self._plan.precision, matrix=True)
        if storage in ("fp32", "fp16"):
            return False
        bias = node.input[2] if len(node.input) == 3 else None
        result = f"{node.output[0]}.product" if bias else node.output[0]
        weight = self._read(name)
        self._multiply(node.input[0], name, weight if transposed else weight.T, storage, result)
        if bias:
            self._add("Add", [result, self._value(bias)], [node.output[0]])
        return True

    def _multiply(self, x: str, name: str, weight: Any, storage: Storage, result: str) -> None:
        """`x` times the matrix (N, K), transposed."""
        in_blocks = self._plan.int8 == "weight-only" and weight.shape[1] % BLOCK_MULTIPLE == 0
        if storage == "int4" or in_blocks:
            self._multiply_blocks(x, name, weight, 4 if storage == "int4" else 8, result)
            return
        values, scales = by_output(weight)
        # The four nodes are a pattern that ONNX Runtime runs as one.
        integers, scale, zero = self._as_integers(x, self._plan.activations.get(name))
        stored = self._store(f"{name}.int8", values)
        none = self._store(f"{name}.z", np.zeros(len(scales), np.int8))
        self._add("MatMulInteger", [integers, stored, zero, none], [f"{result}.i"])
        self._add("Cast", [f"{result}.i"], [f"{result}.f"], to=TensorProto.FLOAT)
        self._add("Mul", [scale, self._store(f"{name}.s", scales)], [f"{result}.s"])
        self._add("Mul", [f"{result}.f", f"{result}.s"], [result])

    def _multiply_blocks(self, x: str, name: str, weight: Any, bits: int, result: str) -> None:
        """The same by ONNX Runtime's operator for weights in blocks."""
        seen = self._plan.activations.get(name)
        values, scales, zeros = by_block(
            np.ascontiguousarray(weight), bits, None if seen is None else seen.mean_square
        )
        tensors = [self._store(f"{name}.int{bits}", values), self._store(f"{name}.s", scales)]
        if zeros is not None:
            tensors.append(self._store(f"{name}.z", zeros))
        sizes = {"N": weight.shape[0], "K": weight.shape[1], "bits": bits}
        sizes |= {"block_size": values.shape[2] * 8 // bits, "accuracy_level": _ACCURACY}
        self._add("MatMulNBits", [x, *tensors], [result], CONTRIB, **sizes)

    def _as_integers(self, x: str, seen: Activations | None) -> tuple[str, str, str]:
        """`x` as 8-bit integers, made once for all its products: values, scale, zero point."""
        if x not in self._integers:
            made = (f"{x}.uint8", f"{x}.scale", f"{x}.zero")
            if self._plan.int8 == "static" and seen is not None:
                scale, zero = seen.as_integers()
                made = (made[0], self._store(made[1], scale), self._store(made[2], zero))
                self._add("QuantizeLinear", [x, made[1], made[2]], [made[0]])
            else:
                self._add("DynamicQuantizeLinear", [x], list(made))
            self._integers[x] = made
        return self._integers[x]

    def _lookup(self, node: NodeProto) -> bool:
        """Rewrite the look-up in a table of vectors: integers and scales are gathered alike."""
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        name = node.input[0] if node.input else ""
        if node.op_type != "Gather" or axis != 0 or len(self._shapes.get(name, ())) != 2:
            return False
        kind = storage_of(name, self._shapes[name], self._plan.precision, matrix=True)
        if kind in ("fp32", "fp16"):
            return False
        values, scales = by_row(self._read(name))
        table, scale = self._store(f"{name}.int8", values), self._store(f"{name}.s", scales)
        ids, result = node.input[1], node.output[0]
        self._add("Gather", [table, ids], [f"{result}.i"])
        self._add("Cast", [f"{result}.i"], [f"{result}.f"], to=TensorProto.FLOAT)
        self._add("Gather", [scale, ids], [f"{result}.s"])
        self._add("Mul", [f"{result}.f", f"{result}.s"], [result])
        return True

    def _value(self, name: str) -> str:
        """The float32 value that stands for `name`, when that is a weight or made of weights."""
        if name in self._folding:
            if (name, False) not in self._plain:
                self._plain[name, False] = self._store(name, self._folding.value(name))
            return self._plain[name, False]
        weight = self._turned.get(name, name)
        if weight not in self._shapes:
            return name
        key = (weight, name in self._turned)
        if key not in self._plain:
            values = self._read(weight)
            values = np.ascontiguousarray(values.T) if key[1] else values
            label = f"{weight}.T" if key[1] else weight
            kind = storage_of(weight, values.shape, self._plan.precision, matrix=False)
            if kind == "fp16" and values.dtype == np.float32:
                stored = self._store(f"{label}.fp16", as_half(values))
                cast = helper.make_node("Cast", [stored], [f"{label}.f"], to=TensorProto.FLOAT)
                self._first.append(cast)
                label = f"{label}.f"
            else:
                label = self._store(label, values)
            self._plain[key] = label
        return self._plain[key]

    def _read(self, name: str) -> NDArray[Any]:
        return fits(name, self._weights[name], self._shapes[name])

    def _store(self, name: str, values: NDArray[Any]) -> str:
        """Store an array, unless its equal is there; the name of the initializer."""
        data = np.ascontiguousarray(values)
        digest = hashlib.sha256(f"{data.dtype}{data.shape}".encode())
        digest.update(data.reshape(-1).view(np.uint8).data)
        key = digest.hexdigest()
        if key not in self._stored:
            small = data.nbytes <= _INSIDE
            tensor = numpy_helper.from_array(data, name) if small else self._file.add(name, data)
            self._graph.initializer.append(tensor)
            self._stored[key] = name
        return self._stored[key]

    def _add(
        self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> None:
        name = f"{outputs[0]}.{kind}"
        self._nodes.append(
            helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes)
        )
