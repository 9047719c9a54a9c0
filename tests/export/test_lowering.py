"""What weights become in each precision, on one small graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from luthier.errors import ModelError
from luthier.export.audit import lowest_precision
from luthier.export.graph_file import skeleton
from luthier.export.graph_writer import write_graph
from luthier.export.lowering import Lowered
from luthier.export.quantise import by_block
from luthier.export.weights import ModuleWeights
from luthier.music.export.calibration import Activations
from luthier.music.export.contract import read_graph
from luthier.music.torch.graphs import Graph
from luthier.runtime.session import open_session

WIDTH = 64


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, WIDTH)
        self.mlp = nn.Linear(WIDTH, 48)
        self.self_attn = nn.ModuleDict({"to_q": nn.Linear(48, 48, bias=False)})


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part()

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.relu(self.part.mlp(self.part.table(ids)))
        result: Tensor = self.part.self_attn["to_q"](x)
        return result


def example() -> Graph:
    torch.manual_seed(0)
    ids = torch.arange(10)[None]
    axes = {"ids": {0: "B", 1: "T"}, "y": {0: "B", 1: "T"}}
    return Graph("dit_decoder", Cut().eval(), {"ids": ids}, ("y",), axes)


def written(path: Path, plan: Lowered, inside_up_to: int = 2**28) -> onnx.GraphProto:
    graph = example()
    write_graph(skeleton(graph), ModuleWeights(graph.module), path, plan, inside_up_to)
    return onnx.load(path, load_external_data=False).graph


def error_of(path: Path) -> float:
    """Root mean square error, as a share of the signal."""
    graph = example()
    ids = torch.arange(10, 20)[None]
    with torch.no_grad():
        expected = graph.module(ids).numpy()
    found = open_session(path).run(None, {"ids": ids.numpy()})[0]
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


@pytest.mark.parametrize(
    ("plan", "operators", "lowest", "most"),
    [
        (Lowered("fp32"), {"MatMul"}, "fp32", 1e-6),
        (Lowered("fp16"), {"MatMul", "Cast"}, "fp16", 1e-3),
        (Lowered("int8"), {"MatMulInteger", "DynamicQuantizeLinear"}, "int8", 0.03),
        (Lowered("int8", "weight-only"), {"MatMulNBits"}, "int8", 0.02),
        (Lowered("int4"), {"MatMulNBits", "MatMulInteger"}, "int4", 0.15),
    ],
)
def test_each_precision(
    plan: Lowered, operators: set[str], lowest: str, most: float, tmp_path: Path
) -> None:
    path = tmp_path / "dit_decoder.onnx"
    kinds = {node.op_type for node in written(path, plan).node}
    assert operators <= kinds
    assert lowest_precision(path) == lowest
    assert error_of(path) < most


def test_attention_keeps_eight_bits_in_int4(tmp_path: Path) -> None:
    graph = written(tmp_path / "g.onnx", Lowered("int4"))
    bits = {
        node.input[1]: next(a.i for a in node.attribute if a.name == "bits")
        for node in graph.node
        if node.op_type == "MatMulNBits"
    }
    assert bits == {"part.mlp.weight.int4": 4}
    assert any(t.name == "part.self_attn.to_q.weight.int8" for t in graph.initializer)


SEEN = {
    "part.mlp.weight": Activations(np.ones(WIDTH, np.float32), -4.0, 4.0),
    "part.self_attn.to_q.weight": Activations(np.ones(48, np.float32), 0.0, 4.0),
}


def test_static_int8_takes_the_calibrated_scale(tmp_path: Path) -> None:
    graph = written(tmp_path / "g.onnx", Lowered("int8", "static", SEEN))
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QuantizeLinear") == 2
    assert "DynamicQuantizeLinear" not in kinds
    assert error_of(tmp_path / "g.onnx") < 0.03


@pytest.mark.parametrize(
    ("plan", "independent"),
    [
        (Lowered("fp32"), True),
        (Lowered("fp16"), True),
        (Lowered("int8"), False),
        (Lowered("int8", "weight-only"), True),
        (Lowered("int8", "static", SEEN), True),
        (Lowered("int4"), False),
        (Lowered("int4", "weight-only"), True),
    ],
)
def test_the_file_tells_whether_an_item_depends_on_its_batch(
    plan: Lowered, independent: bool, tmp_path: Path
) -> None:
    path, graph = tmp_path / "g.onnx", example()
    with torch.no_grad():
        graph.module.part.table.weight[19] *= 50  # a loud neighbour
    write_graph(skeleton(graph), ModuleWeights(graph.module), path, plan)
    ids = np.stack([np.arange(10), np.full(10, 19)])
    session = open_session(path)
    alone, beside = (session.run(None, {"ids": some})[0][0] for some in (ids[:1], ids))
    assert (np.abs(beside - alone).max() < 1e-5) == independent
    assert read_graph(path).is_batch_independent == independent


def test_large_weights_lie_beside_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    graph = written(path, Lowered("fp32"), inside_up_to=0)
    places = {e.value for t in graph.initializer for e in t.external_data if e.key == "location"}
    assert places == {"g.onnx.data"}
    assert error_of(path) < 1e-6
    written(path, Lowered("fp32"))
    assert not (tmp_path / "g.onnx.data").exists()


def test_four_bits_follow_what_matters() -> None:
    """With known activations the error of the product falls, though that of the weights may not."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((32, 128)).astype(np.float32)
    spread = np.exp(2 * draw.standard_normal(128)).astype(np.float32)
    x = (draw.standard_normal((400, 128)) * spread).astype(np.float32)

    def product_error(importance: np.ndarray | None) -> float:
        packed, scale, zeros = by_block(weight, 4, importance)
        assert zeros is not None
        values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(32, -1, 32)
        zero = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(32, -1)[:, : scale.shape[1]]
        found = (values - zero[..., None].astype(np.float32)) * scale[..., None]
        return float(np.mean((x @ (found.reshape(32, 128) - weight).T) ** 2))

    assert product_error((x**2).mean(axis=0)) < 0.9 * product_error(None)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    graph, other = example(), example()
    other.module.part.mlp = nn.Linear(WIDTH, 47)
    with pytest.raises(ModelError, match=r"part\.mlp\.\w+ has the shape"):
        write_graph(
            skeleton(graph), ModuleWeights(other.module), tmp_path / "g.onnx", Lowered("fp32")
        )


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    graph = example()
    with torch.no_grad():
        graph.module.part.mlp.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"part\.mlp\.weight holds values that are no numbers"):
        write_graph(
            skeleton(graph), ModuleWeights(graph.module), tmp_path / "g.onnx", Lowered("int8")
        )
