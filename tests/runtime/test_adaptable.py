"""Low-rank additions in graphs of every precision: (x·A)·B beside each linear layer."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import ModelError
from luthier.export.graph_file import skeleton
from luthier.export.graph_writer import write_graph
from luthier.export.lowering import Lowered
from luthier.export.weights import ModuleWeights, Renamed
from luthier.music.export.passes.select import optimise
from luthier.music.mini import onnx_folder
from luthier.music.torch.graphs import Graph, graphs_of
from luthier.runtime.adaptable import AdaptableGraph, input_names
from luthier.runtime.pool import SessionPool
from luthier.runtime.session import Graphs, open_session
from luthier.runtime.wire import WireError, block, fields, whole
from tiny import tiny_model
from tiny_adapters import write_denoiser

KINDS: dict[str, Lowered] = {
    "fp32": Lowered("fp32"),
    "fp16": Lowered("fp16"),
    "int8": Lowered("int8"),
    "int8 in blocks": Lowered("int8", "weight-only"),
    "int4": Lowered("int4"),
}
LAYERS = 2 * (2 * 4 + 3) + 6 + 1  # attention twice and a perceptron, times, and the condition


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graphs_of(tiny_model(), components=["transformer"])[0]


@pytest.fixture(scope="module")
def files(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny denoiser in every precision; the last one with its weights beside it."""
    traced = optimise(skeleton(graph, opset=21), "dit_decoder")
    weights = Renamed(ModuleWeights(graph.module.part), "part.")
    folder = tmp_path_factory.mktemp("graphs")
    found = {}
    for kind, plan in {**KINDS, "beside": Lowered("int8")}.items():
        proto = onnx.ModelProto()
        proto.CopyFrom(traced)
        found[kind] = folder / f"{kind}.onnx"
        write_graph(proto, weights, found[kind], plan, 0 if kind == "beside" else 2**20)
    return found


def velocity(graph: Graph, path: Path, rank: int | None) -> Any:
    """Of the file as it is (None), or with matrices of a rank in every layer."""
    feeds: dict[str, Any] = {name: value.numpy() for name, value in graph.inputs.items()}
    adaptable = AdaptableGraph(path.read_bytes(), path)
    if rank is None:
        return open_session(path).run(["vt"], feeds)[0]
    draw = np.random.default_rng(1)
    for name, linear in adaptable.linears.items():
        down, up = input_names(name)
        feeds[down] = 0.2 * draw.standard_normal((linear.inputs, rank), dtype=np.float32)
        feeds[up] = 0.2 * draw.standard_normal((rank, linear.outputs), dtype=np.float32)
    return open_session(path, graph=adaptable.with_inputs(adaptable.linears)).run(["vt"], feeds)[0]


@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8", "beside"])
def test_rank_zero_changes_no_bit_and_another_rank_does(
    graph: Graph, files: dict[str, Path], kind: str
) -> None:
    plain = velocity(graph, files[kind], None)
    np.testing.assert_array_equal(velocity(graph, files[kind], 0), plain)
    assert np.abs(velocity(graph, files[kind], 2) - plain).max() > 0.01


@pytest.mark.parametrize("kind", ["int8 in blocks", "int4"])
def test_products_in_blocks_take_additions_too(
    graph: Graph, files: dict[str, Path], kind: str
) -> None:
    # Their kernels take in a bias that follows, which rounds otherwise than an addition.
    plain = velocity(graph, files[kind], None)
    np.testing.assert_allclose(velocity(graph, files[kind], 0), plain, atol=0.03)
    assert np.abs(velocity(graph, files[kind], 2) - plain).max() > 0.1


@pytest.mark.parametrize("kind", [*KINDS, "beside"])
def test_every_linear_layer_is_found_with_its_sizes(
    graph: Graph, files: dict[str, Path], kind: str
) -> None:
    linears = AdaptableGraph(files[kind].read_bytes(), files[kind]).linears
    layers = dict(graph.module.part.named_modules())
    for name, linear in linears.items():
        assert (linear.outputs, linear.inputs) == tuple(layers[name].weight.shape)
    assert len(linears) == LAYERS


def test_layers_that_share_their_weight_take_no_adapter(tmp_path: Path) -> None:
    model = tiny_model()
    first, second = (block.self_attn for block in model.transformer.layers)
    second.to_q.weight.data = first.to_q.weight.data.clone()
    path = write_denoiser(graphs_of(model, components=["transformer"])[0], tmp_path / "x.onnx")
    linears = AdaptableGraph(path.read_bytes(), path).linears
    assert not [name for name in linears if name.endswith("self_attn.to_q")]
    assert len(linears) == LAYERS - 2


def test_the_built_in_model_takes_adapters() -> None:
    linears = Graphs(onnx_folder(), 1).linears("dit_decoder")
    assert (linears["layers.0.mlp.up_proj"].outputs, len(linears)) == (512, 73)


@pytest.mark.parametrize("kind", [*KINDS, "beside"])
def test_what_is_made_is_a_valid_graph(files: dict[str, Path], kind: str) -> None:
    adaptable = AdaptableGraph(files[kind].read_bytes(), files[kind])
    made = adaptable.with_inputs(adaptable.linears)
    path = files[kind].with_name("made.onnx")
    path.write_bytes(made)
    onnx.checker.check_model(str(path))


def test_layers_have_a_session_of_their_own_until_release() -> None:
    graphs = Graphs(onnx_folder(), 1, pool=SessionPool())
    one = {name: np.zeros((2, 2), np.float32) for name in input_names("layers.0.mlp.up_proj")}
    other = {name: np.zeros((2, 2), np.float32) for name in input_names("layers.1.mlp.up_proj")}
    graphs.placed("dit_decoder", one)
    size = graphs.pool.open_bytes
    graphs.placed("dit_decoder", one)
    assert graphs.pool.open_bytes == size > 0
    graphs.placed("dit_decoder", one | other)
    assert graphs.pool.open_bytes == 2 * size
    graphs.release("dit_decoder")
    assert graphs.pool.open_bytes == 0


def test_fields_come_back_as_they_were_written() -> None:
    message = block(1, "layer") + whole(2, 300) + block(3, block(1, b"\x00\xff"))
    found = list(fields(memoryview(message)))
    assert [(f.number, f.value if isinstance(f.value, int) else bytes(f.value)) for f in found] == [
        (1, b"layer"),
        (2, 300),
        (3, b"\x0a\x02\x00\xff"),
    ]
    assert b"".join(f.raw for f in found) == message


@given(st.binary(max_size=64))
def test_any_bytes_are_fields_or_an_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        assert b"".join(field.raw for field in fields(memoryview(data))) == data


def test_a_damaged_graph_is_refused_or_read_but_nothing_breaks(files: dict[str, Path]) -> None:
    path, draw, readable = files["beside"], np.random.default_rng(0), 0
    for _ in range(60):
        data = bytearray(path.read_bytes())
        for place in draw.integers(0, len(data), 3):
            data[place] ^= int(draw.integers(1, 256))
        with contextlib.suppress(ModelError):
            adaptable = AdaptableGraph(bytes(data), path)
            adaptable.with_inputs(adaptable.linears)
            readable += 1
    assert readable < 60
    with pytest.raises(ModelError, match="cannot be read"):
        AdaptableGraph(path.read_bytes()[:-1], path)
