"""A torch module → an ONNX graph in float32, tidied: constants folded, axes named by the contract.

The tracing exporter is the default: it takes a second a graph where torch.export takes half a
minute, and parity is checked at other lengths than the traced ones. `dynamo` is there for what
tracing cannot do.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import nn

from luthier.errors import ExportError
from luthier.music.attention import plain_attention
from luthier.music.fourier import Spectrum
from luthier.music.graphs import Graph

Exporter = Literal["trace", "dynamo"]

MINIMUM_OPSET = 18
# Folding a computed constant (a Fourier matrix) would store it: only small ones are worth that.
_FOLD_UP_TO = 4096
_SHARED_UP_TO = 2**24  # equal constants are stored once, up to this many elements


class GraphError(ExportError):
    """A graph could not be exported."""

    exit_code = 2


def to_onnx(graph: Graph, opset: int = MINIMUM_OPSET, exporter: Exporter = "trace") -> Any:
    """Export one graph as a float32 `onnx.ModelProto`; raise `GraphError` naming it otherwise."""
    try:
        with torch.no_grad(), plain_attention(graph.module), _tables_named(graph.module), _quiet():
            proto = _traced(graph, opset) if exporter == "trace" else _captured(graph, opset)
            return _tidied(proto, graph)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise GraphError(f"the graph {graph.name} could not be exported: {first}") from error


def _traced(graph: Graph, opset: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        # A file, not a buffer: beyond 2 GB the weights lie beside it.
        path = Path(folder) / f"{graph.name}.onnx"
        torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=opset,
            dynamic_axes=graph.axes,
            do_constant_folding=False,
            dynamo=False,
        )
        return onnx.load(path)


def _captured(graph: Graph, opset: int) -> Any:
    program = torch.onnx.export(
        graph.module,
        kwargs=graph.inputs,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        opset_version=opset,
        dynamic_shapes={name: graph.axes[name] for name in graph.inputs},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _tidied(proto: Any, graph: Graph) -> Any:
    model = onnx_ir.from_proto(proto)
    for _ in range(2):
        optimizer.fold_constants(
            model,
            # A transposed weight is a weight: fold it whatever its size, so that it can be
            # quantised.
            should_fold=lambda node: True if node.op_type == "Transpose" else None,
            output_size_limit=_FOLD_UP_TO,
            onnx_shape_inference=False,
        )
        for tidy in (
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            passes.DeduplicateInitializersPass(size_limit=_SHARED_UP_TO),
            passes.IdentityEliminationPass(),
            passes.CommonSubexpressionEliminationPass(),
            passes.RemoveUnusedNodesPass(),
        ):
            tidy(model)
    _shorten_names(model)
    proto = onnx_ir.to_proto(model)
    proto.doc_string = ""
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        for index, axis in graph.axes[value.name].items():
            value.type.tensor_type.shape.dim[index].dim_param = axis
    onnx.checker.check_model(proto)
    return proto


def _shorten_names(model: Any) -> None:
    """Number the nodes and what is between them: their paths are a good part of a small graph."""
    kept = {value.name for value in model.graph.outputs}
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
        for place, value in enumerate(node.outputs):
            if value.name and value.name not in kept:
                value.name = f"n{index}.{place}"


@contextmanager
def _tables_named(module: nn.Module) -> Iterator[None]:
    """Within the block the Fourier tables are state: tracing keeps the names of nothing else."""
    spectra = [part for part in module.modules() if isinstance(part, Spectrum)]
    tables = [(part, *table) for part in spectra for table in part.named_buffers()]
    try:
        for part, name, table in tables:
            part.register_buffer(name, table, persistent=True)
        yield
    finally:
        for part, name, table in tables:
            part.register_buffer(name, table, persistent=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks about themselves, which are not for the user to act on."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
