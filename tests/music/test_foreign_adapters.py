"""Files of other trainers, one of each spelling: played, merged and evaluated alike, or refused."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.cli.main import main
from luthier.errors import AdapterError, LuthierError
from luthier.files import write_json
from luthier.music.adapters.file import read_adapter
from luthier.music.evaluation.checkpoint_player import open_player
from luthier.music.playing.adapters import AdapterShelf, check_fit, feeds_of, open_adapter
from luthier.music.request import request_from
from luthier.music.request_lora import Lora
from luthier.music.torch.graphs import Graph, graphs_of
from luthier.music.torch.model import load_model, save_model
from luthier.music.training.merge_check import _velocity
from luthier.runtime.adaptable import AdaptableGraph
from luthier.training.lora import load_adapter
from luthier.training.merge import merge, plan_merge
from luthier.training.merge_adapters import Weighted
from other_programs import linear_weights, original, with_weights
from other_programs import velocity as velocity64
from tiny import tiny_model
from tiny_adapters import velocity, write_denoiser

RANK, ALPHA = 3, 6.0
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(tiny_model(), folder)
    return folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path]:
    made = denoiser(tiny_model())
    return made, write_denoiser(made, tmp_path_factory.mktemp("onnx") / "dit_decoder.onnx")


def denoiser(made: Any) -> Graph:
    return graphs_of(made, components=["transformer"])[0]


@torch.no_grad()
def by_torch(graph: Graph) -> Any:
    return graph.module(**graph.inputs).numpy()


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layers(*parts: str) -> dict[str, torch.Tensor]:
    """Weights of the tiny denoiser's layers by diffusers' name."""
    found = linear_weights(tiny_model().transformer)
    kept = {n.removesuffix(".weight"): w for n, w in found.items() if n.startswith("layers.")}
    return {n: w for n, w in kept.items() if not parts or n.endswith(parts)}


def low_rank() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {
        name: (
            drawn(RANK, weight.shape[1], seed=2 * i),
            drawn(weight.shape[0], RANK, seed=2 * i + 1),
        )
        for i, (name, weight) in enumerate(layers().items())
    }


def pairs(name: Callable[[str], str], down: str, up: str, **more: Any) -> Tensors:
    """A file of pairs whose layers are called `name(layer)`; `alpha` adds one a layer."""
    found: Tensors = {}
    for layer, (a, b) in low_rank().items():
        found[f"{name(layer)}{down}"], found[f"{name(layer)}{up}"] = a.clone(), b.clone()
        if "alpha" in more:
            found[f"{name(layer)}.alpha"] = more["alpha"].clone()
    return found


def theirs(layer: str) -> str:
    return original(f"{layer}.weight").removesuffix(".weight")


def flat(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + theirs(layer).replace(".", "_")


def dotted(prefix: str, rename: Callable[[str], str] = theirs) -> Callable[[str], str]:
    return lambda layer: prefix + rename(layer)


AB, DOWN_UP = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
F32, F16, WHOLE = torch.tensor(ALPHA), torch.tensor(ALPHA).half(), torch.tensor(int(ALPHA))
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj"]}
# What is in the folder → the scale that it means.
FOREIGN: dict[str, tuple[Callable[[], Tensors], dict[str, Any] | None, float]] = {
    "peft": (lambda: pairs(dotted("base_model.model.", str), *AB), CONFIG, 2),
    "peft-default": (
        lambda: pairs(
            dotted("base_model.model.", str), ".lora_A.default.weight", ".lora_B.default.weight"
        ),
        CONFIG,
        2,
    ),
    "acestep": (lambda: pairs(dotted("base_model.model."), *AB), CONFIG, 2),
    "acestep-decoder": (lambda: pairs(dotted("base_model.model.decoder."), *AB), CONFIG, 2),
    "acestep-rslora": (
        lambda: pairs(dotted("base_model.model."), *AB),
        CONFIG | {"use_rslora": True},
        ALPHA / RANK**0.5,
    ),
    "acestep-expression": (
        lambda: pairs(dotted("base_model.model."), *AB),
        CONFIG | {"lora_alpha": 1, "alpha_pattern": {r"layers\.\d+\..*_proj": ALPHA}},
        2,
    ),
    "diffusers-no-alpha": (lambda: pairs(dotted("transformer.", str), *AB), None, 1),
    "diffusers-old": (
        lambda: pairs(dotted("transformer.", str), ".lora.down.weight", ".lora.up.weight"),
        None,
        1,
    ),
    "comfyui": (lambda: pairs(dotted("diffusion_model.decoder."), *AB, alpha=F32), None, 2),
    "comfyui-no-decoder": (lambda: pairs(dotted("diffusion_model."), *DOWN_UP, alpha=F32), None, 2),
    "comfyui-no-alpha": (lambda: pairs(dotted("diffusion_model.decoder."), *AB), None, 1),
    "comfyui-official": (lambda: pairs(dotted("base_model.model."), *AB, alpha=F32), None, 2),
    "comfyui-bare": (lambda: pairs(dotted(""), *AB, alpha=F32.reshape(1)), None, 2),
    "kohya": (lambda: pairs(flat("lora_unet_decoder_"), *DOWN_UP, alpha=WHOLE), None, 2),
    "kohya-no-alpha": (lambda: pairs(flat("lora_unet_"), *DOWN_UP), None, 1),
    "kohya-diffusers": (
        lambda: pairs(lambda n: "lora_unet_" + n.replace(".", "_"), *DOWN_UP, alpha=F16),
        None,
        2,
    ),
    "lycoris": (lambda: pairs(flat("lycoris_"), *DOWN_UP, alpha=F32), None, 2),
}


def write(folder: Path, tensors: Tensors, config: dict[str, Any] | None, name: str) -> Path:
    """As a trainer leaves it; the folder, or the file where there is only one."""
    folder.mkdir(exist_ok=True)
    if config is None:
        save_file(tensors, folder / f"{name}.safetensors")
        return folder / f"{name}.safetensors"
    save_file(tensors, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", config)
    return folder


@pytest.mark.parametrize("kind", FOREIGN)
def test_every_reader_hears_the_same(
    tmp_path: Path, model: Path, graph: tuple[Graph, Path], kind: str
) -> None:
    tensors, config, scale = FOREIGN[kind]
    place = write(tmp_path / "a", tensors(), config, "style")
    base, pair = tiny_model().transformer, low_rank()
    wanted = {
        f"{name}.weight": weight + scale * (pair[name][1].double() @ pair[name][0].double())
        for name, weight in layers().items()
    }
    expected = velocity64(with_weights(base, wanted))
    size = float(expected.square().mean().sqrt())

    tuned = copy.deepcopy(base)
    load_adapter(tuned, place)
    found = velocity64(tuned.double().eval())
    assert float((found - expected).abs().max()) <= 1e-6 * size

    report = merge(model, [Weighted(place)], tmp_path / "merged", verify=True)
    assert len(report.plan.changed) == len(wanted)
    merged = load_model(tmp_path / "merged")
    found = velocity64(copy.deepcopy(merged.transformer).double().eval())
    assert float((found - expected).abs().max()) <= 1e-6 * size

    drawn_graph, path = graph
    linears = AdaptableGraph(path.read_bytes(), path).linears
    played = velocity(drawn_graph, path, feeds_of(chosen(place), linears, "tiny"))
    by_merged = by_torch(denoiser(replace(tiny_model(), transformer=merged.transformer)))
    np.testing.assert_allclose(played, by_merged, atol=1e-4)
    assert np.abs(played - by_torch(drawn_graph)).max() > 1e-2


def chosen(place: Path) -> Any:
    return AdapterShelf().chosen([Lora(path=place)])


def kronecker(dora: str = "", *, whole: bool = False) -> tuple[Tensors, Tensors]:
    """LoKr as LyCORIS saves it; the file, and the weights that it means."""
    tensors: Tensors = {}
    wanted: Tensors = {}
    for i, (name, weight) in enumerate(layers("to_q", "up_proj").items()):
        stem = flat("lycoris_")(name)
        out, inner = weight.shape
        w1 = drawn(4, 4, seed=3 * i)
        a, b = drawn(out // 4, 2, seed=3 * i + 1), drawn(2, inner // 4, seed=3 * i + 2)
        tensors[f"{stem}.lokr_w1"] = w1
        if whole:
            tensors[f"{stem}.lokr_w2"] = a @ b
        else:
            tensors[f"{stem}.lokr_w2_a"], tensors[f"{stem}.lokr_w2_b"] = a, b
        tensors[f"{stem}.alpha"] = torch.tensor(5.0)
        # LyCORIS: alpha/rank counts where a factor is a product, and nothing where both are whole.
        delta = (1.0 if whole else 2.5) * torch.kron(w1.double(), a.double() @ b.double())
        changed = weight + delta
        if dora:
            axis = 1 if dora == "rows" else 0
            lengths = 1 + 0.2 * drawn(*weight.norm(dim=axis, keepdim=True).shape, seed=i)
            tensors[f"{stem}.dora_scale"] = lengths
            changed = changed * lengths / changed.norm(dim=axis, keepdim=True)
        wanted[f"{name}.weight"] = changed
    return tensors, wanted


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("dora", ["", "rows", "columns"])
def test_lokr_of_lycoris_with_and_without_dora(
    tmp_path: Path, model: Path, dora: str, whole: bool
) -> None:
    tensors, wanted = kronecker(dora, whole=whole)
    place = write(tmp_path / "a", tensors, None, "lokr_weights")
    base = tiny_model().transformer
    expected = velocity64(with_weights(base, wanted))
    size = float(expected.square().mean().sqrt())
    tuned = copy.deepcopy(base)
    load_adapter(tuned, place)
    found = velocity64(tuned.double().eval())
    assert float((found - expected).abs().max()) <= 2e-6 * size
    for weight in (1.0, -0.5):
        out = tmp_path / f"merged{weight}"
        report = merge(model, [Weighted(place, weight)], out, verify=True)
        assert report.check is not None
        assert report.check.difference <= 1e-5 < 0.001 < report.check.effect
    found = velocity64(load_model(tmp_path / "merged1.0").transformer.double().eval())
    assert float((found - expected).abs().max()) <= 2e-6 * size
    with pytest.raises(AdapterError, match=r"is a LoKr.* luthier merge"):
        open_adapter(place)


def test_adapters_of_several_spellings_are_merged_together(tmp_path: Path, model: Path) -> None:
    chosen = [
        Weighted(write(tmp_path / kind, FOREIGN[kind][0](), FOREIGN[kind][1], "style"), weight)
        for kind, weight in (("kohya", 0.5), ("acestep-decoder", -0.75), ("comfyui-official", 1.0))
    ]
    tensors, _ = kronecker("columns")
    chosen.append(Weighted(write(tmp_path / "lokr", tensors, None, "style"), 0.3))
    report = merge(model, chosen, tmp_path / "merged", verify=True)
    assert report.check is not None
    assert report.check.difference <= 1e-5 < 0.001 < report.check.effect
    assert [one.method for one in report.plan.adapters] == [*["LoRA"] * 3, "LoKr with DoRA"]
    # The first three are one adapter, of strength 2 each.
    both = merge(model, chosen[:2], tmp_path / "two")
    single = merge(model, [chosen[2]._replace(weight=-0.25)], tmp_path / "one")
    assert len(both.plan.changed) == len(single.plan.changed)
    a, b = (load_model(tmp_path / name).transformer for name in ("two", "one"))
    torch.testing.assert_close(_velocity(a), _velocity(b), atol=1e-5, rtol=1e-5)


def test_the_cli_plays_merges_shows_and_converts_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from luthier.music.mini import torch_folder

    weights = linear_weights(load_model(torch_folder()).transformer)
    tensors: Tensors = {}
    for i, (name, weight) in enumerate(weights.items()):
        if name.endswith("self_attn.to_q.weight"):
            stem = flat("lora_unet_decoder_")(name.removesuffix(".weight"))
            tensors[f"{stem}.lora_down.weight"] = drawn(2, weight.shape[1], seed=i)
            tensors[f"{stem}.lora_up.weight"] = drawn(weight.shape[0], 2, seed=i + 1)
    place = write(tmp_path / "a", tensors, None, "style")
    common = ["generate", "piano", "--duration", "1", "--steps", "1", "--seed", "1", "-q"]
    for index, lora in enumerate((place, f"{place}:0.5", tmp_path / "a")):
        assert main([*common, "--lora", str(lora), "--out", str(tmp_path / f"{index}.wav")]) == 0
    sounds = [(tmp_path / f"{index}.wav").read_bytes() for index in range(3)]
    assert sounds[0] != sounds[1]
    # The folder of one file is that file: the samples are the same, the names in the tags are not.
    assert sounds[0][-2000:] == sounds[2][-2000:]
    assert main(["trace", str(tmp_path / "0.wav")]) == 0
    assert "style.safetensors" in capsys.readouterr().out
    merged = ["merge", "--base-model", "mini", "--adapter", f"{place}:0.5", "--verify", "-q"]
    assert main([*merged, "--output-dir", str(tmp_path / "merged")]) == 0
    assert main(["adapter", "show", str(place)]) == 0
    assert "LoRA of rank 2" in capsys.readouterr().out
    out = tmp_path / "for-acestep"
    words = ["adapter", "convert", str(place), str(out), "--to", "acestep"]
    assert main([*words, "--dry-run"]) == 0
    assert not out.exists()
    assert main([*words, "--json"]) == 0
    assert '"difference": ' in capsys.readouterr().out
    assert read_adapter(out).spelling == "acestep"
    assert main(["adapter", "show", str(tmp_path / "0.wav")]) == 2
    assert main(["generate", "x", "--lora", str(tmp_path / "none.safetensors"), "-q"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_evaluation_plays_a_file_as_its_merged_model(tmp_path: Path, model: Path) -> None:
    tensors, config, _ = FOREIGN["comfyui"]
    place = write(tmp_path / "a", tensors(), config, "style")
    merge(model, [Weighted(place)], tmp_path / "merged")
    wanted = request_from({"prompt": "calm", "duration_s": 1, "seed": 3, "steps": 2})
    one = open_player(place, str(model)).pipeline.generate(wanted)
    other = open_player(tmp_path / "merged").pipeline.generate(wanted)
    np.testing.assert_allclose(one.latents, other.latents, atol=1e-4)
    assert open_player(place, str(model)).identity != open_player(model).identity


def test_weights_behind_links_as_the_hub_s_cache_lays_them(tmp_path: Path, model: Path) -> None:
    tensors, config, _ = FOREIGN["acestep"]
    folder = write(tmp_path / "a", tensors(), config, "")
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:064x}")
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / f"{number:064x}", snapshot))
    single = tmp_path / "hub" / "snapshots" / "style.safetensors"
    single.symlink_to(os.path.relpath(blobs / f"{1:064x}", single.parent))
    assert open_adapter(snapshot).facts.method == "LoRA"
    assert len(plan_merge(model, [Weighted(snapshot)], tmp_path / "out").changed) == len(low_rank())
    assert open_adapter(single).facts.name == "style"
    tuned = tiny_model().transformer
    load_adapter(tuned, single)
    assert not torch.equal(_velocity(tuned), _velocity(tiny_model().transformer))


def refused(model: Path, graph: tuple[Graph, Path], place: Path) -> list[str]:
    """What playing, merging and evaluating say of an adapter that none of them can take."""
    said = []
    linears = AdaptableGraph(graph[1].read_bytes(), graph[1]).linears
    readers: list[Callable[[], object]] = [
        lambda: check_fit(open_adapter(place).facts, linears, "tiny"),
        lambda: plan_merge(model, [Weighted(place)], place.parent / "out"),
        lambda: load_adapter(tiny_model().transformer, place),
    ]
    for read in readers:
        with pytest.raises(AdapterError) as caught:
            read()
        assert caught.value.exit_code == 2
        said.append(str(caught.value))
    return said


def test_incomplete_files_name_what_is_missing(
    tmp_path: Path, model: Path, graph: tuple[Graph, Path]
) -> None:
    gone = {
        "comfyui": "diffusion_model.decoder.layers.1.mlp.up_proj.lora_B.weight",
        "acestep": "base_model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "kohya": "lora_unet_decoder_layers_0_cross_attn_o_proj.lora_down.weight",
        "diffusers-old": "transformer.layers.0.cross_attn.to_out.0.lora.up.weight",
    }
    for kind, name in gone.items():
        tensors, config, _ = FOREIGN[kind]
        kept = tensors()
        del kept[name]
        place = write(tmp_path / kind, kept, config, "style")
        assert all(f"{name} is missing" in said for said in refused(model, graph, place))
    tensors_, _ = kronecker()
    del tensors_["lycoris_layers_0_mlp_up_proj.lokr_w2_b"]
    place = write(tmp_path / "lokr", tensors_, None, "style")
    said = refused(model, graph, place)
    assert all("lycoris_layers_0_mlp_up_proj.lokr_w2_b is missing" in one for one in said)


def test_files_that_match_no_layer_or_only_some_are_never_a_success(
    tmp_path: Path, model: Path, graph: tuple[Graph, Path]
) -> None:
    a, b = drawn(2, 32, seed=0), drawn(96, 2, seed=1)
    fused = {"lora_down.weight": a, "lora_up.weight": b}
    none = {f"lora_unet_input_blocks_1_1_proj_in.{k}": v.clone() for k, v in fused.items()}
    qkv = {f"diffusion_model.decoder.layers.0.self_attn.qkv.{k}": v for k, v in fused.items()}
    flat_qkv = {f"lora_unet_decoder_layers_0_self_attn_qkv_proj.{k}": v for k, v in fused.items()}
    half = FOREIGN["comfyui"][0]() | qkv
    deep = {k.replace("layers.1.", "layers.31."): v for k, v in FOREIGN["comfyui"][0]().items()}
    for index, (tensors, told) in enumerate(
        [
            (none, "input_blocks_1_1_proj_in"),
            (qkv, "layers.0.self_attn.qkv"),
            (flat_qkv, "layers.0.self_attn.qkv_proj"),
            (half, "layers.0.self_attn.qkv"),
            (deep, "layers.31."),
        ]
    ):
        place = write(tmp_path / str(index), tensors, None, "style")
        assert all(told in said for said in refused(model, graph, place))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"text_encoder.layers.0.weight": drawn(2, 2, seed=0)}, "also holds"),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.lora_B.bias": F32}, "also holds"),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.hada_w1_a": F32}, "also holds"),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.lokr_t2": F32}, "convolution"),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.lokr_w1": F32}, "two kinds of matrices"),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.dora_scale": F32}, "magnitudes"),
        ({"diffusion_model.layers.0.mlp.up_proj.lora_A.weight": F32}, "twice"),
        (
            {
                f"diffusion_model.layers.0.mlp.up_proj.{end}": value
                for end, value in (
                    ("lora_A.weight", drawn(3, 32, seed=0)),
                    ("lora_B.weight", drawn(64, 3, seed=0)),
                )
            },
            "twice",
        ),
        ({f"{'decoder.' * 100}layers.0.mlp.up_proj.lora_A.weight": F32}, "also holds"),
        (
            {
                f"diffusion_model.decoder.layers.0.mlp.up_proj.lora_{role}.weight": value
                for role, value in (("A", torch.zeros(0, 32)), ("B", torch.zeros(64, 0)))
            },
            "do not go together",
        ),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.alpha": torch.tensor(0.0)}, "above 0"),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.alpha": torch.ones(2)}, "above 0"),
        ({"diffusion_model.decoder.layers.0.mlp.up_proj.alpha": torch.tensor(torch.nan)}, "above"),
    ],
)
def test_what_is_no_plain_adapter_is_refused_by_all(
    tmp_path: Path, model: Path, graph: tuple[Graph, Path], change: Tensors, told: str
) -> None:
    place = write(tmp_path / "a", FOREIGN["comfyui"][0]() | change, None, "style")
    assert all(told in said for said in refused(model, graph, place))


def test_places_that_hold_no_single_adapter(
    tmp_path: Path, model: Path, graph: tuple[Graph, Path]
) -> None:
    tensors, config, _ = FOREIGN["acestep"]
    folder = write(tmp_path / "peft", tensors(), config, "")
    (folder / "adapter_config.json").unlink()
    assert all("adapter_config.json is missing" in said for said in refused(model, graph, folder))
    two = tmp_path / "two"
    for name in ("a", "b"):
        write(two, FOREIGN["kohya"][0](), None, name)
    assert all("name the one that is meant" in said for said in refused(model, graph, two))
    for name, told in (("x.bin", "pickled"), ("x.gguf", "ends with .safetensors")):
        (two / name).write_bytes(b"x")
        assert all(told in said for said in refused(model, graph, two / name))
    said = refused(model, graph, tmp_path / ("x" * 300))
    assert all("cannot be read: File name too long" in one for one in said)
    said = refused(model, graph, tmp_path / "none.safetensors")
    assert all("does not exist" in one for one in said)


def test_two_strengths_that_differ_are_refused_and_equal_ones_are_taken(
    tmp_path: Path, model: Path, graph: tuple[Graph, Path]
) -> None:
    config = CONFIG | {"lora_alpha": 12}
    tensors = pairs(dotted("base_model.model."), *AB, alpha=F32)
    place = write(tmp_path / "a", tensors, config, "")
    assert all("counts 2, and the configuration says 4" in s for s in refused(model, graph, place))
    write(tmp_path / "a", tensors, CONFIG, "")
    assert read_adapter(place).layers["layers.0.mlp.up_proj"].strength.scale == 2


def test_converted_back_a_foreign_file_keeps_its_tensors(tmp_path: Path) -> None:
    from luthier.music.adapters.convert import convert

    place = write(tmp_path / "a", FOREIGN["kohya"][0](), None, "style")
    convert(place, "comfyui", tmp_path / "c.safetensors")
    convert(tmp_path / "c.safetensors", "kohya", tmp_path / "k.safetensors")
    before, after = load_file(place), load_file(tmp_path / "k.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(value.float(), after[name]) for name, value in before.items())


def test_errors_are_of_the_one_kind() -> None:
    assert issubclass(AdapterError, LuthierError)
    assert AdapterError.exit_code == 2
