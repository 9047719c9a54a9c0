"""A transformer's attention and rotary positions, where they are known, in fewer operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from luthier.export.passes.builder import CONTRIB, Builder
from luthier.export.passes.values import Values, names_read
from luthier.music.export.passes.attention import AttentionWriter
from luthier.music.export.passes.attention_pattern import AttentionReader
from luthier.music.export.passes.rotary import rotated, rotation


def linear_memory(proto: Any) -> Any:
    """The graph with what is known rewritten; as it is where no attention is known."""
    values, build = Values(proto.graph), Builder()
    reader, writer = AttentionReader(values), AttentionWriter(build)
    new: dict[str, list[Any]] = {}

    def put(result: str, write: Callable[..., None], *arguments: Any) -> None:
        build.nodes = []
        write(*arguments)
        build.nodes[-1].output[0] = result
        new[result] = build.nodes

    for node in proto.graph.node:
        if node.op_type == "Softmax" and (layer := reader.attention(node)):
            put(layer.end.output[0], writer.write, layer)
    if not new:
        return proto
    for node in proto.graph.node:
        if node.op_type == "Add" and (turn := rotation(values, node)):
            put(node.output[0], rotated, build, turn)
    return _rewritten(proto, new, build.constants)


def _rewritten(proto: Any, new: dict[str, list[Any]], constants: list[Any]) -> Any:
    """A copy with other nodes for some values, and only with what its outputs need."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    nodes = [part for node in graph.node for part in new.get(node.output[0], [node])]
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= names_read(node)
    tensors = [t for t in (*graph.initializer, *constants) if t.name in wanted]
    for field, values in (("node", kept[::-1]), ("initializer", tensors)):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(values)
    if CONTRIB not in {entry.domain for entry in made.opset_import}:
        made.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
    onnx.checker.check_model(made)
    return made
