"""Does a written graph hold its component's floor? Read from the file, not from what was meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from luthier.export.graph_file import GraphError
from luthier.export.precision import FLOORS, PRECISIONS, Precision
from luthier.music.torch.fourier import EXACT

_BITS = {
    TensorProto.FLOAT: 32,
    TensorProto.FLOAT16: 16,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
}
_PRECISION_OF: dict[int, Precision] = {32: "fp32", 16: "fp16", 8: "int8", 4: "int4"}


def lowest_precision(path: Path) -> Precision:
    """The coarsest precision of any matrix, kernel or table in a graph file."""
    graph = onnx.load(path, load_external_data=False).graph
    small = {
        node.input[1]: next(a.i for a in node.attribute if a.name == "bits")
        for node in graph.node
        if node.op_type == "MatMulNBits"
    }
    zeros = {name for node in graph.node if len(node.input) > 2 for name in node.input[2:]}
    lowest = 32
    for tensor in graph.initializer:
        if tensor.name in small:
            lowest = min(lowest, small[tensor.name])
        elif tensor.name not in zeros and tensor.data_type in _BITS and np.prod(tensor.dims) > 1:
            lowest = min(lowest, _BITS[tensor.data_type])
    return _PRECISION_OF[lowest]


def audit(path: Path, wanted: Precision) -> Precision:
    """What a graph file's precision is; raise `GraphError` when it is below floor or wish."""
    found = lowest_precision(path)
    component = path.stem
    floor = FLOORS[component]
    limit = min(PRECISIONS.index(floor), PRECISIONS.index(wanted))
    if PRECISIONS.index(found) > limit:
        raise GraphError(
            f"the graph {component} holds weights in {found}: it may not go below "
            f"{PRECISIONS[limit]}."
        )
    exact = [
        tensor.name
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if EXACT in tensor.name and tensor.data_type != TensorProto.FLOAT
    ]
    if exact:
        raise GraphError(f"the graph {component} holds a table that is not float32: {exact[0]}.")
    return found
