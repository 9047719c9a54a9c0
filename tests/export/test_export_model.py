from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from luthier.errors import ExportError, ModelError, OutputError, RequestError
from luthier.export.graph_file import GraphError, skeleton
from luthier.export.graph_writer import write_graph
from luthier.export.lowering import Lowered
from luthier.export.parity import ParityError, check, compare
from luthier.export.precision import FLOORS, precision_of
from luthier.export.weights import ModuleWeights
from luthier.music.export.export import export_model
from luthier.music.torch.attention import plain_attention
from luthier.music.torch.graphs import Graph, Lengths, graphs_of
from luthier.provenance import trace
from luthier.runtime.session import open_session
from tiny import (
    denoiser_inputs,
    diffusers_velocity,
    make_tiny_model,
    tiny_model,
    tiny_onnx,
    tiny_torch,
)

SHAPES = {
    "condition_encoder": (
        [
            *("text_hidden_states", "text_attention_mask"),
            *("lyric_hidden_states", "lyric_attention_mask"),
            *("refer_audio_acoustic_hidden_states_packed", "refer_audio_order_mask"),
            *("hidden_states", "attention_mask", "silence_latent", "src_latents", "chunk_masks"),
            *("is_covers", "precomputed_lm_hints_25hz"),
        ],
        ["encoder_hidden_states", "encoder_attention_mask", "context_latents"],
    ),
    "dit_decoder": (
        [
            *("hidden_states", "timestep", "timestep_r", "attention_mask"),
            *("encoder_hidden_states", "encoder_attention_mask", "context_latents"),
        ],
        ["vt"],
    ),
    "audio_tokenizer": (["hidden_states"], ["quantized", "indices"]),
    "audio_detokenizer": (["quantized"], ["lm_hints_25hz"]),
    "vae_decoder": (["latents"], ["audio"]),
    "vae_encoder": (["audio"], ["latents"]),
}


def graph(name: str, lengths: Lengths | None = None, seed: int = 3) -> Graph:
    return next(g for g in graphs_of(tiny_model(), lengths, seed) if g.name == name)


def run(name: str, feeds: dict[str, Any], precision: str = "fp32") -> dict[str, Any]:
    session = open_session(tiny_onnx(precision) / f"{name}.onnx")
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def feeds_of(example: Graph) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in example.inputs.items()}


def test_contract_names_every_input_and_output() -> None:
    contract = json.loads((tiny_onnx() / "io_contract_core.json").read_text())
    for name, (inputs, outputs) in SHAPES.items():
        assert contract["inputs"][name] == inputs
        assert contract["outputs"][name] == outputs
    assert contract["num_layers"] == 2
    embedding = json.loads((tiny_onnx() / "io_contract_qwen3_embedding_0p6.json").read_text())
    assert embedding["inputs"] == ["input_ids", "attention_mask"]
    assert embedding["outputs"] == ["last_hidden_state"]
    assert embedding["token_embedding_outputs"] == ["token_embeddings"]


def test_dtypes_and_axes() -> None:
    session = open_session(tiny_onnx() / "condition_encoder.onnx")
    kinds = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    assert kinds["is_covers"] == ("tensor(bool)", ["B"])
    assert kinds["refer_audio_order_mask"][0] == "tensor(int64)"
    assert kinds["src_latents"] == ("tensor(float)", ["B", "T", 8])
    outputs = {value.name: (value.type, value.shape) for value in session.get_outputs()}
    assert outputs["encoder_attention_mask"] == ("tensor(bool)", ["B", "T_enc"])
    velocity = open_session(tiny_onnx() / "dit_decoder.onnx").get_outputs()[0]
    assert (velocity.type, velocity.shape) == ("tensor(float)", ["B", "T", 8])


@pytest.mark.parametrize(
    "lengths", [Lengths(1, 3, 2, 1), Lengths(2, 40, 9, 7), Lengths(3, 5, 8, 4)]
)
def test_every_graph_is_torch_at_any_length(lengths: Lengths) -> None:
    for example in graphs_of(tiny_model(), lengths, seed=5):
        parity = compare(example, tiny_onnx() / f"{example.name}.onnx")
        check(example, parity, "fp32")
        if not example.free_phase:
            assert parity.rmse < 2e-5, example.name


def test_the_denoiser_is_diffusers_own() -> None:
    given = denoiser_inputs(frames=60, tokens=12)
    names, _ = SHAPES["dit_decoder"]
    feeds = {name: tensor.numpy() for name, tensor in zip(names, given.values(), strict=True)}
    expected = diffusers_velocity(tiny_model(), given)
    assert run("dit_decoder", feeds)["vt"] == pytest.approx(expected.numpy(), abs=2e-5)


def test_the_condition_encoder_is_diffusers_own() -> None:
    example = graph("condition_encoder", Lengths(1, 12, 6, 3))
    names = list(example.inputs)[:6]
    inputs = {name: example.inputs[name] for name in names}
    with torch.no_grad():
        tokens, mask = tiny_model().condition_encoder(**inputs)
    found = run("condition_encoder", feeds_of(example))
    assert found["encoder_hidden_states"] == pytest.approx(tokens.numpy(), abs=2e-5)
    assert np.array_equal(found["encoder_attention_mask"], mask.numpy())


def test_masked_tokens_and_frames_have_no_influence() -> None:
    example = graph("dit_decoder", Lengths(1, 10, 4, 2))
    feeds = feeds_of(example)
    feeds["encoder_attention_mask"] = np.ones((1, 10), np.float32)
    feeds["encoder_attention_mask"][0, 7:] = 0
    feeds["attention_mask"] = feeds["attention_mask"].copy()
    feeds["attention_mask"][0, 30:] = 0
    first = run("dit_decoder", feeds)["vt"]
    feeds["encoder_hidden_states"] = feeds["encoder_hidden_states"].copy()
    feeds["encoder_hidden_states"][0, 7:] += 5
    feeds["hidden_states"] = feeds["hidden_states"].copy()
    feeds["hidden_states"][0, 30:] += 5
    second = run("dit_decoder", feeds)["vt"]
    assert second[0, :30] == pytest.approx(first[0, :30], abs=1e-5)
    feeds["encoder_attention_mask"][:] = 1
    assert np.abs(run("dit_decoder", feeds)["vt"][0, :30] - first[0, :30]).max() > 1e-4


def test_context_follows_covers_and_masks() -> None:
    example = graph("condition_encoder", Lengths(2, 4, 3, 2))
    feeds = feeds_of(example)
    feeds["attention_mask"] = feeds["attention_mask"].copy()
    feeds["attention_mask"][1, 35:] = 0
    context = run("condition_encoder", feeds)["context_latents"]
    assert np.array_equal(context[0, :, :8], feeds["precomputed_lm_hints_25hz"][0])
    assert np.array_equal(context[1, :35, :8], feeds["src_latents"][1, :35])
    assert np.array_equal(context[1, 35:, :8], feeds["silence_latent"][1, 35:])
    assert np.array_equal(context[:, :, 8:], feeds["chunk_masks"])


def test_padding_moves_behind_what_is_valid() -> None:
    example = graph("condition_encoder", Lengths(2, 7, 5, 1))
    found = run("condition_encoder", feeds_of(example))["encoder_attention_mask"]
    assert found[0].tolist() == [True] * 13
    assert found[1].tolist() == [True] * 9 + [False] * 4


def test_int8_is_smaller_and_close() -> None:
    small, large = (tiny_onnx(p) / "dit_decoder.onnx" for p in ("int8", "fp32"))
    assert small.stat().st_size < 0.6 * large.stat().st_size
    parity = compare(graph("dit_decoder"), small)
    assert parity.snr_db > 25
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert "MatMulInteger" in kinds


def test_floors_are_held_in_the_written_files() -> None:
    for name in ("vae_decoder", "vae_encoder", "audio_tokenizer"):
        kinds = {
            t.data_type for t in onnx.load(tiny_onnx("int8") / f"{name}.onnx").graph.initializer
        }
        assert TensorProto.FLOAT16 in kinds
        assert not kinds & {TensorProto.INT8, TensorProto.UINT8}
        assert precision_of(name, "int8") == FLOORS[name] == "fp16"
    assert precision_of("dit_decoder", "int8") == "int8"
    assert precision_of("vae_decoder", "fp32") == "fp32"


def test_tables_stay_exact_and_single() -> None:
    initializers = onnx.load(tiny_onnx("int8") / "vae_decoder.onnx").graph.initializer
    tables = [t for t in initializers if "exact_" in t.name]
    assert tables
    assert {t.data_type for t in tables} == {TensorProto.FLOAT}
    large = [(tuple(t.dims), t.raw_data) for t in initializers if np.prod(t.dims) > 100]
    assert len(set(large)) == len(large)


def test_manifest_and_run_tell_what_was_made() -> None:
    manifest = json.loads((tiny_onnx("int8") / "manifest.json").read_text())
    assert manifest["precision"] == "int8"
    entry = manifest["models"]["core"]["vae_decoder.onnx"]
    assert entry["precision"] == "fp16"
    assert entry["external_files"] == []
    rows = trace(tiny_onnx("int8"))
    assert rows[0][2]["stage"] == "export"
    assert rows[0][2]["artefact"] == "int8"
    assert rows[1][1] == tiny_torch().resolve()


@pytest.mark.slow
def test_dynamo_gives_the_same_graph(tmp_path: Path) -> None:
    example = graph("audio_detokenizer")
    proto = skeleton(example, exporter="dynamo")
    write_graph(proto, ModuleWeights(example.module), tmp_path / "graph.onnx", Lowered("fp32"))
    other = graph("audio_detokenizer", Lengths(3, 3, 3, 5))
    assert compare(other, tmp_path / "graph.onnx").rmse < 1e-5


def test_attention_is_given_back() -> None:
    transformer = tiny_model().transformer
    attention = transformer.layers[0].self_attn
    before = attention.processor
    with plain_attention(transformer):
        assert attention.processor is not before
    assert attention.processor is before


def test_a_wrong_graph_is_refused(tmp_path: Path) -> None:
    example = graph("audio_detokenizer")
    proto = onnx.load(tiny_onnx() / "audio_detokenizer.onnx")
    weight = max(proto.graph.initializer, key=lambda t: len(t.raw_data))
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(proto, tmp_path / "graph.onnx")
    with pytest.raises(ParityError, match="differs from the model") as caught:
        check(example, compare(example, tmp_path / "graph.onnx"), "fp32")
    assert caught.value.exit_code == 3
    assert isinstance(caught.value, ExportError)


def test_what_cannot_be_exported_is_named() -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ torch.ones(99, 1)

    broken = Graph("broken", Broken(), {"x": torch.ones(1, 2)}, ("y",), {"x": {}, "y": {}})
    with pytest.raises(GraphError, match="the graph broken could not be exported") as caught:
        skeleton(broken)
    assert caught.value.exit_code == 2


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_tiny_model(tmp_path / "torch")
    monkeypatch.setattr("luthier.music.export.export.precision_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_model(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["torch"]


def test_bad_requests_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="precision is 'int2': choose fp32, fp16, int8, int4"):
        export_model(tmp_path, tmp_path / "out", precision="int2")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="opset is 11: choose 17 to 21"):
        export_model(tmp_path, tmp_path / "out", opset=11)
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError):
        export_model(tmp_path / "model", tmp_path / "out")
    with pytest.raises(OutputError, match="lies in"):
        export_model(tmp_path, tmp_path / "out")
