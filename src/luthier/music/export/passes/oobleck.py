"""Oobleck's layers in the order (batch, time, channel), where they are products of matrices.

ONNX Runtime computes convolutions over (batch, channel, time), as torch writes them.
"""

from __future__ import annotations

from typing import Any

import onnx

from luthier.export.passes.builder import Builder
from luthier.export.passes.layers import Layer, Reader, Snake, Unit
from luthier.export.passes.resample import as_it_is, is_narrow, is_upsampling, narrowed, upsampled
from luthier.export.passes.values import names_read
from luthier.music.export.passes.residual import fits, residual
from luthier.music.export.passes.snake import snake
from luthier.music.export.passes.stretches import in_stretches, split


def faster(proto: Any) -> Any:
    """The graph with the layers that follow its input rewritten; as it is when they are unknown."""
    graph = proto.graph
    reader = Reader(graph)
    layers, end = reader.layers(graph.input[0].name)
    units = [layer for layer in layers if isinstance(layer, Unit)]
    if not units or not all(fits(unit) for unit in units):
        return proto
    build = Builder()
    x = build.op("Transpose", graph.input[0].name, perm=[0, 2, 1])
    place = split(layers)
    for layer in layers[:place]:
        x = _emit(build, layer, x)
    if place < len(layers):
        x = in_stretches(build, layers[place:], x, _emit)
    build.op("Transpose", x, perm=[0, 2, 1])
    build.nodes[-1].output[0] = end
    return _joined(proto, reader, build, end)


def _emit(build: Builder, layer: Layer, x: str) -> str:
    match layer:
        case Unit():
            return residual(build, layer, x)
        case Snake():
            return snake(build, layer, x)
        case _ if is_upsampling(layer):
            return upsampled(build, layer, x)
        case _ if is_narrow(layer):
            return narrowed(build, layer, x)
        case _:
            return as_it_is(build, layer, x)


def _joined(proto: Any, reader: Reader, build: Builder, end: str) -> Any:
    """What the weights need, the new nodes up to the value `end`, then what follows it."""
    old = proto.graph
    wanted = {value.name for value in old.output}
    wanted |= {name for node in build.nodes for name in names_read(node)}
    before: list[Any] = []
    after: list[Any] = []
    for node in reversed(old.node):
        if end not in node.output and wanted & set(node.output):
            wanted |= set(node.input)
            (before if reader.is_constant(node) else after).append(node)
    nodes = before[::-1] + build.nodes + after[::-1]
    constants = [t for t in old.initializer if t.name in wanted] + build.constants
    graph = onnx.helper.make_graph(nodes, old.name, list(old.input), list(old.output), constants)
    made = onnx.helper.make_model(
        graph, opset_imports=list(proto.opset_import), ir_version=proto.ir_version
    )
    onnx.helper.set_model_props(made, {p.key: p.value for p in proto.metadata_props})
    onnx.checker.check_model(made)
    return made
