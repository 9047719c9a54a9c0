"""A graph whose linear layers take a low-rank addition: y = x·W + (x·A)·B, with A and B as inputs.

The addition is put in when a session opens, on a copy of the graph in memory: files stay as they
were exported, and playing without adapter runs them as they are. A and B are ordinary inputs of any
rank, so one session serves all adapters of the same layers, several at once, at every strength
(LoRA: Hu et al., 2021). They are float32 beside a product in any precision.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import ModelError
from luthier.runtime.wire import Field, WireError, block, fields, numbers, whole

# Numbers of fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_GRAPH = 7
_NODE, _INITIALIZER, _INPUT = 1, 5, 11
_READS, _MAKES, _NAME, _KIND, _ATTRIBUTE = 1, 2, 3, 4, 5
_DIMS, _TENSOR_NAME = 1, 8
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = 1, 3
_FLOAT = 1  # of TensorProto.DataType

# What the exporter calls the stored weight of a linear layer (`luthier.export.lowering`).
_WEIGHT = re.compile(r"part\.(?P<layer>.+)\.weight(?:\.T)?(?:\.int[48]|\.fp16)?(?:\.f)?")
_DOWN, _UP = ".lora_A", ".lora_B"
_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "MatMulNBits")


@dataclass(frozen=True)
class Linear:
    """A linear layer of a graph: its sizes, and the values that it reads and makes."""

    inputs: int
    outputs: int
    reads: str
    makes: str


@dataclass
class _Node:
    raw: memoryview
    kind: str
    reads: list[str]
    makes: list[str]
    integers: dict[str, int]


class AdaptableGraph:
    """A graph file, read as far as its linear layers are concerned.

    Args:
        data: the file.
        path: where it lies, for sentences.

    Raises:
        ModelError: it is no graph.
    """

    def __init__(self, data: bytes, path: Path) -> None:
        self._message, self._path = memoryview(data), path
        try:
            (self._graph,) = [f.message for f in fields(self._message) if f.number == _GRAPH]
            parts = list(fields(self._graph))
            self._nodes = [_node(part) for part in parts if part.number == _NODE]
            shapes = dict(_tensor(part) for part in parts if part.number == _INITIALIZER)
            self._parts = parts
            self._makers = {name: node for node in self._nodes for name in node.makes}
            self._users = {name: node for node in self._nodes for name in node.reads}
            found = list(self._found(shapes))
        except (WireError, ValueError, LookupError) as error:
            raise ModelError(f"the graph {path} cannot be read: {error!r}.") from error
        # Equal weights are stored once: which of two layers a product is would be a guess.
        times = Counter(name for name, _ in found)
        self.linears: dict[str, Linear] = {name: it for name, it in found if times[name] == 1}

    def _found(self, shapes: Mapping[str, list[int]]) -> Iterator[tuple[str, Linear]]:
        for node in self._nodes:
            if node.kind not in _PRODUCTS or len(node.reads) < 2:
                continue
            weight = _WEIGHT.fullmatch(node.reads[1])
            if weight is None:
                continue
            name = node.reads[1]
            if name not in shapes and name in self._makers:  # float16 that is cast first
                name = self._makers[name].reads[0]
            sizes = _sizes(node, shapes.get(name, []))
            ends = self._ends(node)
            if sizes and ends:
                yield weight["layer"], Linear(*sizes, *ends)

    def _ends(self, node: _Node) -> tuple[str, str] | None:
        """What a product multiplies and what it makes, both float32."""
        if node.kind != "MatMulInteger":
            return node.reads[0], node.makes[0]
        # 8-bit: the factor is made integers before, the result is cast and scaled after.
        before = self._makers.get(node.reads[0])
        after = self._users.get(node.makes[0])
        scaled = self._users.get(after.makes[0]) if after else None
        if before is None or scaled is None or scaled.kind != "Mul":
            return None
        return before.reads[0], scaled.makes[0]

    def with_inputs(self, names: Collection[str]) -> bytes:
        """The file with inputs `<layer>.lora_A` (inputs, rank) and `<layer>.lora_B` (rank, outputs)
        for some of its linear layers, by name; a rank may be 0.
        """
        chosen = {name: linear for name, linear in self.linears.items() if name in names}
        layers = {linear.makes: (name, linear) for name, linear in chosen.items()}
        made: list[bytes | memoryview] = []
        nodes = iter(self._nodes)
        for part in self._parts:
            node = next(nodes) if part.number == _NODE else None
            known = layers.get(node.makes[0]) if node and node.makes else None
            if node is None or known is None:
                made.append(part.raw)
                continue
            made += _adapted(node, *known)
        for name, linear in chosen.items():
            down, up = input_names(name)
            made.append(block(_INPUT, _value(down, (linear.inputs, None))))
            made.append(block(_INPUT, _value(up, (None, linear.outputs))))
        graph = block(_GRAPH, b"".join(made))
        rest = [part.raw for part in fields(self._message) if part.number != _GRAPH]
        return b"".join([*rest, graph])


def input_names(layer: str) -> tuple[str, str]:
    """The names of the inputs that a layer's two matrices are."""
    return f"{layer}{_DOWN}", f"{layer}{_UP}"


def layers_of(inputs: Iterable[str]) -> tuple[str, ...]:
    """The layers whose matrices are among the names of inputs, sorted."""
    return tuple(sorted(n.removesuffix(_DOWN) for n in inputs if n.endswith(_DOWN)))


def _adapted(node: _Node, name: str, linear: Linear) -> list[bytes]:
    """The node with its result under another name, and the nodes that make the sum."""
    plain, low, high = (f"{linear.makes}.{part}" for part in ("plain", "low", "high"))
    down, up = input_names(name)
    renamed = [
        block(_MAKES, plain) if part.number == _MAKES and part.text == linear.makes else part.raw
        for part in fields(node.raw)
    ]
    return [
        block(_NODE, b"".join(renamed)),
        _new("MatMul", [linear.reads, down], low),
        _new("MatMul", [low, up], high),
        _new("Add", [plain, high], linear.makes),
    ]


def _new(kind: str, reads: list[str], makes: str) -> bytes:
    parts = [block(_READS, name) for name in reads]
    parts += [block(_MAKES, makes), block(_NAME, f"{makes}.{kind}"), block(_KIND, kind)]
    return block(_NODE, b"".join(parts))


def _value(name: str, shape: tuple[int | None, ...]) -> bytes:
    """A graph's input of float32, with some lengths open (ValueInfoProto)."""
    lengths = b"".join(block(1, whole(1, length) if length else b"") for length in shape)
    tensor = whole(1, _FLOAT) + block(2, lengths)
    return block(1, name) + block(2, block(1, tensor))


def _node(part: Field) -> _Node:
    found = _Node(part.message, "", [], [], {})
    for field in fields(part.message):
        if field.number == _READS:
            found.reads.append(field.text)
        elif field.number == _MAKES:
            found.makes.append(field.text)
        elif field.number == _KIND:
            found.kind = field.text
        elif field.number == _ATTRIBUTE:
            inner = {f.number: f for f in fields(field.message)}
            value = inner.get(_ATTRIBUTE_INTEGER)
            if value is not None and isinstance(value.value, int):
                found.integers[inner[_ATTRIBUTE_NAME].text] = value.value
    return found


def _tensor(part: Field) -> tuple[str, list[int]]:
    """The name and the shape of an initializer."""
    name, shape = "", []
    for field in fields(part.message):
        if field.number == _DIMS:
            shape += numbers(field)
        elif field.number == _TENSOR_NAME:
            name = field.text
    return name, shape


def _sizes(node: _Node, shape: list[int]) -> tuple[int, int] | None:
    """How many inputs and outputs a product with a weight of that shape has."""
    if node.kind == "MatMulNBits":
        return node.integers["K"], node.integers["N"]
    if len(shape) != 2:
        return None
    return (shape[1], shape[0]) if node.integers.get("transB") else (shape[0], shape[1])
