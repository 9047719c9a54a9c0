"""A skeleton and its weights → a graph file that is checked; large weights lie in one beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import load_external_data_for_model

from luthier.export.graph_file import GraphError
from luthier.export.lm_weights import WeightFile
from luthier.export.lowering import Lowered, Lowering
from luthier.export.weights import Weights
from luthier.files import temporary_folder

# A graph file ends at 2 GiB by protobuf's limit; but it is also parsed as a whole, in memory, where
# a file beside it is mapped. Hence the weights of graphs well below the limit lie outside, too.
INSIDE_UP_TO = 2**26
_PROTOBUF_LIMIT = 2**31 - 2**20


def filled(proto: Any, weights: Weights, plan: Lowered) -> Any:
    """A skeleton with its weights inside, in memory: for graphs below protobuf's 2 GiB."""
    with temporary_folder() as folder:
        path = folder / "graph.onnx"
        write_graph(proto, weights, path, plan, inside_up_to=_PROTOBUF_LIMIT)
        return onnx.load(path)


def write_graph(
    proto: Any, weights: Weights, path: Path, plan: Lowered, inside_up_to: int = INSIDE_UP_TO
) -> int:
    """Write a skeleton with its weights to `path`, and to `<path>.data` when they are large.

    Returns:
        Bytes written.

    Raises:
        GraphError: what was written is no valid graph.
        ModelError: a weight is missing or damaged.
    """
    beside = path.with_name(f"{path.name}.data")
    with beside.open("wb") as stream:
        Lowering(proto, weights, WeightFile(stream, beside.name), plan).apply()
        size = stream.tell()
    if size <= inside_up_to:
        load_external_data_for_model(proto, str(path.parent))
        beside.unlink()
    path.write_bytes(proto.SerializeToString())
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise GraphError(f"the graph {path.stem} is not valid as written: {error}") from error
    return sum(p.stat().st_size for p in (path, beside) if p.exists())
