"""Adapters while playing: the same music as from a model that they were merged into."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import tiny_ace
from luthier.cli.main import main
from luthier.errors import AdapterError
from luthier.music.export.export import export_model
from luthier.music.mini import onnx_folder, torch_folder
from luthier.music.playing.adapters import AdapterShelf, feeds_of
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import request_from
from luthier.music.request_lora import Lora
from luthier.music.torch.graphs import Graph, graphs_of
from luthier.music.torch.model import load_model, save_model
from luthier.music.torch.model_folder import open_model
from luthier.provenance import trace
from luthier.runtime.adaptable import AdaptableGraph
from luthier.runtime.pool import SessionPool
from luthier.training.merge import merge
from luthier.training.merge_adapters import Weighted
from tiny import tiny_model
from tiny_adapters import ATTENTION, MLP, trained, velocity, write_adapter, write_denoiser

SHORT: dict[str, Any] = {"prompt": "calm piano", "duration_s": 1, "steps": 2, "seed": 3}
MOST_RMS = 1e-4


def denoiser(model: Any) -> Graph:
    return graphs_of(model, components=["transformer"])[0]


def tiny_ace_step(folder: Path) -> Any:
    made = tiny_ace.parts(turbo=False)
    return replace(tiny_model(), transformer=made["transformer"])


def mini(_: Path) -> Any:
    return load_model(torch_folder())


def rms(difference: Any) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))


@torch.no_grad()
def by_torch(graph: Graph) -> Any:
    return graph.module(**graph.inputs).numpy()


def by_graph(path: Path, graph: Graph, *asked: Lora) -> Any:
    linears = AdaptableGraph(path.read_bytes(), path).linears
    return velocity(graph, path, feeds_of(AdapterShelf().chosen(asked), linears, "tiny"))


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda _: tiny_model(), {"use_rslora": False}),
        (lambda _: tiny_model(), {"train_mlp": True}),
        (tiny_ace_step, {"train_mlp": True}),
        (mini, {"train_mlp": True}),
    ],
    ids=["tiny", "tiny-rslora-mlp", "tiny-ace-step", "mini"],
)
def test_base_and_adapter_play_what_training_heard(
    tmp_path: Path, make: Callable[[Path], Any], settings: dict[str, Any]
) -> None:
    model = make(tmp_path)
    folder, tuned = trained(model.transformer, tmp_path / "lofi", **settings)
    graph = denoiser(model)
    path = write_denoiser(graph, tmp_path / "dit_decoder.onnx")
    expected = by_torch(denoiser(replace(model, transformer=tuned)))
    assert rms(by_graph(path, graph, Lora(path=folder)) - expected) <= MOST_RMS
    assert rms(by_torch(graph) - expected) > 50 * MOST_RMS


def test_beside_an_8_bit_model_an_adapter_loses_less_than_merged_into_it(tmp_path: Path) -> None:
    model = tiny_model()
    folder, tuned = trained(model.transformer, tmp_path / "lofi", train_mlp=True)
    expected = by_torch(denoiser(replace(model, transformer=tuned)))
    graph = denoiser(model)
    played = by_graph(
        write_denoiser(graph, tmp_path / "base.onnx", "int8"), graph, Lora(path=folder)
    )
    for part in tuned.modules():
        if hasattr(part, "merge"):
            part.merge()
    for name, part in dict(tuned.named_modules()).items():
        if hasattr(part, "base_layer"):
            tuned.set_submodule(name, part.base_layer)
    merged_graph = denoiser(replace(model, transformer=tuned))
    merged = velocity(merged_graph, write_denoiser(merged_graph, tmp_path / "merged.onnx", "int8"))
    assert rms(by_torch(merged_graph) - expected) <= MOST_RMS
    assert rms(played - expected) <= 1.2 * rms(merged - expected)


@pytest.fixture(scope="module")
def pipeline() -> MusicPipeline:
    return MusicPipeline(onnx_folder(), 1, pool=SessionPool())


@pytest.fixture(scope="module")
def adapters(pipeline: MusicPipeline, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, linears = tmp_path_factory.mktemp("adapters"), pipeline.graphs.linears("dit_decoder")
    settings: list[dict[str, Any]] = [{}, {"targets": MLP, "rank": 5, "use_rslora": True}]
    return [
        write_adapter(folder / name, dict(linears), seed=i, size=0.1, **more)
        for i, (name, more) in enumerate(zip(("lofi", "jazz"), settings, strict=True))
    ]


def played(pipeline: MusicPipeline, *lora: Any, **more: Any) -> Any:
    made = pipeline.generate(request_from(SHORT | {"lora": list(lora)} | more))
    made.sound.read()
    return made.latents


def test_strength_zero_plays_as_without(pipeline: MusicPipeline, adapters: list[Path]) -> None:
    plain = played(pipeline)
    np.testing.assert_array_equal(played(pipeline, {"path": adapters[0], "scale": 0}), plain)
    weak, strong = (played(pipeline, f"{adapters[0]}:{s}") for s in (0.01, 1))
    assert 0 < rms(weak - plain) < 0.2 * rms(strong - plain)


def test_an_adapter_plays_alike_each_time_and_leaves_no_trace(
    pipeline: MusicPipeline, adapters: list[Path]
) -> None:
    plain, one = played(pipeline), played(pipeline, adapters[0])
    np.testing.assert_array_equal(played(pipeline), plain)
    np.testing.assert_array_equal(played(pipeline, adapters[0]), one)


def test_several_adapters_add_up_in_any_order(
    pipeline: MusicPipeline, adapters: list[Path]
) -> None:
    both = played(pipeline, f"{adapters[0]}:0.5", adapters[1])
    other = played(pipeline, adapters[1], f"{adapters[0]}:0.5")
    one = played(pipeline, f"{adapters[0]}:0.5")
    assert rms(both - other) < 0.1 * rms(both - one)


def test_pieces_with_and_without_adapters_are_made_in_one_go(
    pipeline: MusicPipeline, adapters: list[Path]
) -> None:
    requests = [request_from(SHORT | {"lora": lora}) for lora in ([], [adapters[0]], [])]
    found = []
    for made in pipeline.generate_many(requests):
        made.sound.read()
        found.append(made.latents)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], played(pipeline, adapters[0]))


def test_an_adapter_of_another_model_is_refused_before_anything_is_played(
    pipeline: MusicPipeline, tmp_path: Path
) -> None:
    folder, _ = trained(tiny_model().transformer, tmp_path / "other")
    with pytest.raises(AdapterError, match=r"does not fit mini: layers\.0.* has 32 inputs"):
        pipeline.adapted(request_from(SHORT | {"lora": folder}))


def test_the_command_plays_and_records_what_it_played(
    adapters: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.flac"
    words = ["calm piano", "--duration", "1", "--steps", "2", "--seed", "3", "--out", str(out)]
    lofi, jazz = map(str, adapters)
    assert main(["generate", *words, "--lora", lofi, "--lora-scale", "0.5", "--lora", jazz]) == 0
    assert "trained on tiny, and is played with mini" in capsys.readouterr().err
    record = json.loads((tmp_path / "x.flac.run.json").read_text())
    rows = record["config"]["request"]["lora"]
    assert [(Path(row["path"]).name, row["scale"]) for row in rows] == [("lofi", 0.5), ("jazz", 1)]
    assert rows[0]["sha256"] == AdapterShelf().get(adapters[0]).facts.sha256
    assert {"lofi", "jazz"} <= {
        step.path.parent.name for step in trace(out) if step.state == "same"
    }
    with av.open(str(out)) as file:
        tags = {name.lower(): value for name, value in file.metadata.items()}
    assert tags["lora"].startswith(f"lofi, scale 0.5, sha256 {rows[0]['sha256']}; jazz")
    assert "with lofi:0.5 jazz:1, seed 3" in tags["comment"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lora", "nowhere"], "nowhere does not exist"),
        (["--lora", "nowhere", "--lora-scale", "11"], "less than or equal to 10"),
        (["--lora", "nowhere", "--lora-scale", "much"], "a valid number"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "x", *words, "--out", str(tmp_path / "x.wav")]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_scale_needs_its_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "x", "--lora-scale", "1", "--lora", "nowhere"])
    assert "belongs behind the --lora" in capsys.readouterr().err


@pytest.mark.slow
def test_an_adapter_plays_as_the_model_that_it_was_merged_into(tmp_path: Path) -> None:
    adapter, _ = trained(
        open_model(torch_folder()).part("transformer"), tmp_path / "lofi", train_mlp=True
    )
    # In float32: merged weights that are rounded to the package's float16 are a model of their own.
    save_model(load_model(torch_folder()), tmp_path / "base")
    merge(tmp_path / "base", [Weighted(adapter, 0.5)], tmp_path / "merged")
    base = MusicPipeline(export_model(tmp_path / "base", tmp_path / "base-onnx").folder, 1)
    merged = MusicPipeline(export_model(tmp_path / "merged", tmp_path / "merged-onnx").folder, 1)
    found, expected = played(base, f"{adapter}:0.5"), played(merged)
    assert rms(found - expected) <= MOST_RMS
    assert rms(played(base) - expected) > 50 * MOST_RMS


def test_the_layers_that_training_adapts_are_all_adaptable(pipeline: MusicPipeline) -> None:
    linears = pipeline.graphs.linears("dit_decoder")
    for name, part in open_model(torch_folder()).part("transformer").named_modules():
        if name.endswith((*ATTENTION, *MLP)):
            assert (linears[name].outputs, linears[name].inputs) == tuple(part.weight.shape)
