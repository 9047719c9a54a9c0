"""A torch module → the skeleton of an ONNX graph: its weights are inputs, named but without values.

The tracing exporter is the default: it takes a second a graph where torch.export takes half a
minute, and parity is checked at other lengths than the traced ones. `dynamo` is there for what
tracing cannot do.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import onnx
import onnx_ir
import torch
from onnx import version_converter
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import nn

from luthier.errors import ExportError
from luthier.files import temporary_folder
from luthier.music.torch.attention import plain_attention
from luthier.music.torch.fourier import Spectrum
from luthier.music.torch.graphs import Graph

Exporter = Literal["trace", "dynamo"]

WEIGHTS = "part."  # what the names of weights begin with: the attribute of `cuts._Cut`
_TRACED_OPSETS = range(17, 21)  # what the tracing exporter writes
_IR_VERSION = 10  # the newest that ONNX Runtime 1.20 reads
# Folding a computed constant (a Fourier matrix) would store it: only small ones are worth that.
_FOLD_UP_TO = 4096


class GraphError(ExportError):
    """A graph could not be exported."""

    exit_code = 2


def skeleton(graph: Graph, opset: int = 18, exporter: Exporter = "trace") -> Any:
    """Export one graph as an `onnx.ModelProto` whose weights are further inputs.

    Args:
        graph: its module's weights may be hollow: only their shapes are looked at.
        opset: 17 to 21.

    Raises:
        GraphError: it cannot be exported, and why.
    """
    first = min(max(opset, _TRACED_OPSETS.start), _TRACED_OPSETS.stop - 1)
    try:
        with torch.no_grad(), plain_attention(graph.module), _tables_named(graph.module), _quiet():
            ir = _traced(graph, first) if exporter == "trace" else _captured(graph, first)
            proto = _tidied(ir, graph)
            if opset != first:
                proto = version_converter.convert_version(proto, opset)
        proto.ir_version = min(proto.ir_version, _IR_VERSION)
        onnx.checker.check_model(proto)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        told = str(error).strip().splitlines()
        raise GraphError(
            f"the graph {graph.name} could not be exported: {told[0] if told else repr(error)}"
        ) from error
    return proto


def _traced(graph: Graph, opset: int) -> Any:
    with temporary_folder() as folder:
        path = folder / f"{graph.name}.onnx"
        torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=opset,
            dynamic_axes=graph.axes,
            do_constant_folding=False,
            export_params=False,
            dynamo=False,
        )
        return onnx_ir.from_proto(onnx.load(path))


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
    model = program.model
    for name, value in list(model.graph.initializers.items()):
        if name.startswith(WEIGHTS):
            del model.graph.initializers[name]
            value.const_value = None
            model.graph.inputs.append(value)
    return model


def _tidied(model: Any, graph: Graph) -> Any:
    for _ in range(2):
        optimizer.fold_constants(model, output_size_limit=_FOLD_UP_TO, onnx_shape_inference=False)
        for tidy in (
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            passes.DeduplicateInitializersPass(),
            passes.IdentityEliminationPass(),
            passes.CommonSubexpressionEliminationPass(),
            passes.RemoveUnusedNodesPass(),
        ):
            tidy(model)
    _shorten_names(model)
    proto = onnx_ir.to_proto(model)
    proto.doc_string = ""
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    named = {value.name: value for value in (*proto.graph.input, *proto.graph.output)}
    for name, axes in graph.axes.items():
        if name not in named:
            raise ValueError(f"{name} is not used: the contract promises it")
        for index, axis in axes.items():
            named[name].type.tensor_type.shape.dim[index].dim_param = axis
        for index, length in graph.fixed.get(name, {}).items():
            named[name].type.tensor_type.shape.dim[index].dim_value = length
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
