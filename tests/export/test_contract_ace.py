"""The contract on the files of tiny random ACE-Step checkpoints: every name, type and axis.

A planner lies beside the base one, as the hub's downloader puts it: one folder then thinks and
plays.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from luthier.audio.decode import read_audio
from luthier.cli.main import main
from luthier.files import read_json
from luthier.music.export.export import ExportReport, export_model
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import MusicRequest
from luthier.runtime.contract import CONTRACT_VERSION
from luthier.runtime.manifest import verify_manifest
from luthier.runtime.session import Graphs, open_session
from tiny_ace import CHANNELS, TEXT, parts, write_diffusers, write_original
from tiny_lm import make_tiny_lm

C, W, D = CHANNELS, TEXT, 32
FLOAT, WHOLE, FLAG = "tensor(float)", "tensor(int64)", "tensor(bool)"
# The denoiser's contract with 8 channels instead of 64 and narrow layers.
INPUTS: dict[str, dict[str, tuple[str, list[Any]]]] = {
    "condition_encoder": {
        "text_hidden_states": (FLOAT, ["B", "T_text", W]),
        "text_attention_mask": (FLOAT, ["B", "T_text"]),
        "lyric_hidden_states": (FLOAT, ["B", "T_lyric", W]),
        "lyric_attention_mask": (FLOAT, ["B", "T_lyric"]),
        "refer_audio_acoustic_hidden_states_packed": (FLOAT, ["B", "timbre", C]),
        "refer_audio_order_mask": (WHOLE, ["B"]),
        "hidden_states": (FLOAT, ["B", "T", C]),
        "attention_mask": (FLOAT, ["B", "T"]),
        "silence_latent": (FLOAT, ["B", "T", C]),
        "src_latents": (FLOAT, ["B", "T", C]),
        "chunk_masks": (FLOAT, ["B", "T", C]),
        "is_covers": (FLAG, ["B"]),
        "precomputed_lm_hints_25hz": (FLOAT, ["B", "T", C]),
    },
    "dit_decoder": {
        "hidden_states": (FLOAT, ["B", "T", C]),
        "timestep": (FLOAT, ["B"]),
        "timestep_r": (FLOAT, ["B"]),
        "attention_mask": (FLOAT, ["B", "T"]),
        "encoder_hidden_states": (FLOAT, ["B", "T_enc", D]),
        "encoder_attention_mask": (FLOAT, ["B", "T_enc"]),
        "context_latents": (FLOAT, ["B", "T", 2 * C]),
    },
    "audio_tokenizer": {"hidden_states": (FLOAT, ["B", "T_25hz", C])},
    "audio_code_embedding": {"indices": (WHOLE, ["B", "T_5hz", 1])},
    "audio_detokenizer": {"quantized": (FLOAT, ["B", "T_5hz", D])},
    "vae_decoder": {"latents": (FLOAT, ["B", C, "T"])},
    "vae_encoder": {"audio": (FLOAT, ["B", 2, "samples"])},
    "qwen3_embedding_0p6": {
        "input_ids": (WHOLE, ["B", "T"]),
        "attention_mask": (WHOLE, ["B", "T"]),
    },
    "qwen3_token_embedding_0p6": {"input_ids": (WHOLE, ["B", "T"])},
}
OUTPUTS: dict[str, dict[str, tuple[str, list[Any]]]] = {
    "condition_encoder": {
        "encoder_hidden_states": (FLOAT, ["B", "T_enc", D]),
        "encoder_attention_mask": (FLAG, ["B", "T_enc"]),
        "context_latents": (FLOAT, ["B", "T", 2 * C]),
    },
    "dit_decoder": {"vt": (FLOAT, ["B", "T", C])},
    "audio_tokenizer": {
        "quantized": (FLOAT, ["B", "T_5hz", D]),
        "indices": (WHOLE, ["B", "T_5hz", 1]),
    },
    "audio_code_embedding": {"quantized": (FLOAT, ["B", "T_5hz", D])},
    "audio_detokenizer": {"lm_hints_25hz": (FLOAT, ["B", "T_25hz", C])},
    "vae_decoder": {"audio": (FLOAT, ["B", 2, "samples"])},
    "vae_encoder": {"latents": (FLOAT, ["B", C, "T"])},
    "qwen3_embedding_0p6": {"last_hidden_state": (FLOAT, ["B", "T", W])},
    "qwen3_token_embedding_0p6": {"token_embeddings": (FLOAT, ["B", "T", W])},
}
# (turbo, diffusers' layout, timbre frames); base is the original layout.
KINDS = {"turbo": (True, True, 1500), "base": (False, False, 40)}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ace")


@pytest.fixture(params=KINDS)
def exported(request: Any, work: Path) -> tuple[ExportReport, int]:
    return export_of(request.param, work), KINDS[request.param][2]


@pytest.fixture
def with_planner(work: Path) -> ExportReport:
    return export_of("base", work)


@functools.cache
def export_of(kind: str, work: Path) -> ExportReport:
    turbo, as_diffusers, _ = KINDS[kind]
    hub, made = work / kind, parts(turbo=turbo)
    if not as_diffusers:
        make_tiny_lm(hub / "acestep-5Hz-lm-0.6B")
    model = (write_diffusers if as_diffusers else write_original)(hub, made)
    return export_model(model, work / f"{kind}-onnx", verify=True)


def described(values: Any) -> dict[str, tuple[str, list[Any]]]:
    return {value.name: (value.type, value.shape) for value in values}


def named(
    expected: dict[str, tuple[str, list[Any]]], timbre: int
) -> dict[str, tuple[str, list[Any]]]:
    """With the frames of timbre that the model has."""
    return {
        name: (kind, [timbre if axis == "timbre" else axis for axis in axes])
        for name, (kind, axes) in expected.items()
    }


def test_every_name_type_and_axis(exported: tuple[ExportReport, int]) -> None:
    report, timbre = exported
    assert {graph.name for graph in report.graphs} == INPUTS.keys()
    for name, inputs in INPUTS.items():
        session = open_session(report.folder / f"{name}.onnx")
        assert described(session.get_inputs()) == named(inputs, timbre), name
        assert described(session.get_outputs()) == OUTPUTS[name], name


def test_the_contract_is_what_the_files_say(exported: tuple[ExportReport, int]) -> None:
    folder = exported[0].folder
    core = json.loads((folder / "io_contract_core.json").read_text())
    assert core["contract_version"] == CONTRACT_VERSION
    for name in core["inputs"]:
        graph = onnx.load(folder / core["paths"][name]).graph
        assert core["inputs"][name] == [value.name for value in graph.input]
        assert core["outputs"][name] == [value.name for value in graph.output]
    assert core["num_layers"] == 2
    embedding = json.loads((folder / "io_contract_qwen3_embedding_0p6.json").read_text())
    assert embedding["path"] == "qwen3_embedding_0p6.onnx"
    assert embedding["contract_version"] == CONTRACT_VERSION
    models = json.loads((folder / "manifest.json").read_text())["models"]
    listed = {path for group in models.values() for path in group}
    assert all(entry["batch_independent"] for group in models.values() for entry in group.values())
    assert listed == {path.name for path in folder.glob("*.onnx")}


def test_parity_is_measured_and_written(exported: tuple[ExportReport, int]) -> None:
    report = exported[0]
    core = json.loads((report.folder / "manifest.json").read_text())["models"]["core"]
    for graph in report.graphs:
        assert graph.parity is not None
        assert graph.parity.rmse <= 5e-4
        assert graph.parity.max_abs <= 1e-1
    assert core["dit_decoder.onnx"]["parity"]["rmse"] <= 5e-4


def test_the_runtime_plays_what_the_contract_names(exported: tuple[ExportReport, int]) -> None:
    report = exported[0]
    made = MusicPipeline(report.folder, threads=1).generate(
        MusicRequest(prompt="calm piano", duration_s=1.0, steps=2, seed=1)
    )
    assert made.audio.shape == (2, 6400)
    assert np.isfinite(made.audio).all()


def test_no_promised_input_is_idle(exported: tuple[ExportReport, int]) -> None:
    """Changing a mask or any other input of the denoiser changes what comes out."""
    graphs = Graphs(exported[0].folder, threads=1)
    draw = np.random.default_rng(0)
    sizes = {"B": 1, "T": 20, "T_enc": 6}
    feeds: dict[str, Any] = {}
    for name, (_, axes) in INPUTS["dit_decoder"].items():
        shape = [sizes.get(axis, axis) for axis in axes]
        random = draw.standard_normal(shape).astype(np.float32)
        feeds[name] = np.ones(shape, np.float32) if "mask" in name else random
    plain = graphs.run("dit_decoder", feeds)["vt"]
    for name, value in feeds.items():
        changed = value.copy()
        # Two places, because a token of the denoiser is two frames.
        changed.reshape(-1)[-2:] = 0.0 if "mask" in name else value.reshape(-1)[-2:] + 1
        other = graphs.run("dit_decoder", feeds | {name: changed})["vt"]
        assert np.abs(other - plain).max() > 1e-6, name


def test_a_planner_beside_the_checkpoint_comes_along(with_planner: ExportReport) -> None:
    (planner,) = with_planner.planners
    assert (planner.tag, planner.precision) == ("lm_0p6", "fp32")
    assert max(parity.max_abs for parity in planner.parity.values()) < 1e-3
    folder = with_planner.folder
    models = read_json(folder / "manifest.json")["models"]
    assert list(models) == ["core", "qwen3_embedding_0p6", "lm_0p6"]
    assert list(models["lm_0p6"]) == ["lm_0p6_prefill.onnx", "lm_0p6_decode.onnx"]
    contract = read_json(folder / "io_contract_lm_0p6.json")
    assert (contract["contract_version"], contract["variant"]) == (CONTRACT_VERSION, "0.6B")
    verify_manifest(folder)


def test_one_folder_plans_and_plays_the_plan(
    with_planner: ExportReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["--model", str(with_planner.folder), "--seed", "3", "--threads", "1"]
    said = ["--bpm", "90", "--key", "Am", "--time-signature", "3", "--duration", "10"]
    assert main(["plan", "calm piano", *same, *said]) == 0
    plan = yaml.safe_load(capsys.readouterr().out)
    out = str(tmp_path / "x.wav")
    words = ["generate", "calm piano", *same, *said, "--steps", "2", "--out", out, "-q"]
    assert main([*words, "--thinking"]) == 0
    audio, rate = read_audio(tmp_path / "x.wav")
    assert audio.shape[1] == 10 * rate
    record = read_json(next(tmp_path.glob("*.json")))
    assert record["config"]["request"]["audio_codes"] == plan["codes"]
    assert len(plan["codes"]) == 50


def test_weight_norm_is_folded(exported: tuple[ExportReport, int]) -> None:
    for name in ("vae_decoder", "vae_encoder"):
        graph = onnx.load(exported[0].folder / f"{name}.onnx").graph
        assert not [t.name for t in graph.initializer if t.name.endswith(("_g", "_v"))]
        assert "ReduceL2" not in {node.op_type for node in graph.node}
