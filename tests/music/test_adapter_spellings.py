"""Adapters of `luthier train` in the hands of other programs, and every way between spellings."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AceStepPipeline
from peft import PeftModel

import tiny_ace
from luthier.errors import AdapterError, OutputError, RequestError
from luthier.files import read_json
from luthier.music.adapters.convert import convert, difference, plan_conversion
from luthier.music.adapters.file import read_adapter
from luthier.music.adapters.writer import FOLDERS, SPELLINGS
from luthier.training.lora import load_adapter
from other_programs import (
    folded,
    linear_weights,
    loaded_by_acestep,
    loaded_by_comfyui,
    loaded_by_lycoris,
    velocity,
    with_weights,
)
from tiny_adapters import trained

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"use_rslora": False},
    "rslora-mlp": {"train_mlp": True},
    "patterns": {
        "train_mlp": True,
        "rank_pattern": ("cross_attn.to_q:5", "mlp.up_proj:1", "layers.1.self_attn.v_proj:2"),
        "alpha_pattern": ("mlp.up_proj:7", "0.cross_attn.to_q:0.5"),
    },
    "one-layer": {"target_modules": ("cross_attn.to_q",)},
    "dora": {"use_dora": True, "train_mlp": True},
    "lokr": {"adapter": "lokr", "train_mlp": True, "rank": 2},
    "lokr-whole": {"adapter": "lokr", "rank": 64},
    "lokr-factor": {"adapter": "lokr", "rank": 1, "lokr_factor": 4},
}
NOT_HELD = {("dora", "comfyui"), ("dora", "kohya")} | {
    (kind, spelling)
    for kind in ("lokr", "lokr-whole", "lokr-factor")
    for spelling in ("diffusers", "kohya")
}
Trained = Callable[[str], tuple[Path, Any]]


@pytest.fixture(scope="module")
def base() -> Any:
    """A tiny denoiser of ACE-Step 1.5."""
    return tiny_ace.parts(turbo=True)["transformer"]


@pytest.fixture(scope="module")
def made(base: Any, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Adapters with random matrices, as `luthier train` saves them, and what was trained."""
    root, found = tmp_path_factory.mktemp("trained"), {}

    def get(kind: str) -> tuple[Path, Any]:
        if kind not in found:
            found[kind] = trained(base, root / kind, **KINDS[kind])
        return found[kind]

    return get


def same(base: Any, weights: dict[str, torch.Tensor], tuned: Any) -> None:
    """Other weights give the velocity of what was trained, which is not the base's."""
    wanted = folded(tuned)
    assert weights.keys() == wanted.keys()
    expected = velocity(with_weights(base, wanted))
    scale = float(expected.square().mean().sqrt())
    found = velocity(with_weights(base, weights))
    assert float((found - expected).abs().max()) <= 1e-6 * scale
    plain = velocity(with_weights(base, {}))
    assert float((expected - plain).abs().max()) > 1e-2 * scale


def place(spelling: str, folder: Path) -> Path:
    return folder if spelling in FOLDERS else folder.with_suffix(".safetensors")


def loaded(base: Any, spelling: str, written: Path) -> dict[str, torch.Tensor]:
    """The weights after the program that a spelling is for has read it."""
    if spelling == "peft":
        wrapped: Any = PeftModel.from_pretrained(copy.deepcopy(base), str(written))
        return folded(wrapped.base_model.model)
    if spelling == "acestep":
        return loaded_by_acestep(base, written)
    if spelling == "diffusers":
        pipeline = AceStepPipeline(
            **tiny_ace.parts(turbo=True) | {"transformer": copy.deepcopy(base)}
        )
        pipeline.load_lora_weights(written.parent, weight_name=written.name)
        return folded(pipeline.transformer)
    if spelling == "lycoris":
        return loaded_by_lycoris(base, written)
    weights, unused = loaded_by_comfyui(base, written)
    assert not unused
    return weights


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_train_has_full_effect_everywhere(
    base: Any, made: Trained, kind: str
) -> None:
    folder, tuned = made(kind)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {
        "peft": folder,
        "acestep": folder / "acestep",
        "diffusers": folder / "pytorch_lora_weights.safetensors",
        "comfyui": folder / "comfyui.safetensors",
    }
    for spelling, written in files.items():
        if (kind, spelling) in NOT_HELD:
            assert not written.exists()
            continue
        same(base, loaded(base, spelling, written), tuned)
    assert {"adapter_config.json", "acestep/adapter_config.json"} <= names


def test_the_original_names_are_targets_too(made: Trained) -> None:
    config = read_json(made("rslora-mlp")[0] / "acestep" / "adapter_config.json")
    attention = ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert config["target_modules"] == sorted([*attention, "gate_proj", "up_proj", "down_proj"])
    one = read_json(made("one-layer")[0] / "acestep" / "adapter_config.json")
    assert one["target_modules"] == [f"layers.{i}.cross_attn.q_proj" for i in range(2)]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_spelling_and_back_is_the_same_adapter(
    tmp_path: Path, base: Any, made: Trained, kind: str, spelling: str
) -> None:
    folder, tuned = made(kind)
    out = place(spelling, tmp_path / "there")
    if (kind, spelling) in NOT_HELD:
        with pytest.raises(AdapterError, match=r"(LoKr|DoRA).*: "):
            convert(folder, spelling, out)
        assert list(tmp_path.iterdir()) == []
        return
    done = convert(folder, spelling, out)
    assert done.difference is not None
    assert done.difference <= 1e-6
    same(base, loaded(base, spelling, out), tuned)
    back = tmp_path / "back"
    convert(out, "peft", back)
    same(base, loaded(base, "peft", back), tuned)
    assert difference(read_adapter(folder), read_adapter(back)) <= 1e-6
    mine = copy.deepcopy(base)
    load_adapter(mine, out)
    same(base, folded(mine), tuned)


def test_equal_tensors_give_equal_bytes(tmp_path: Path, made: Trained) -> None:
    folder, _ = made("patterns")
    for spelling in SPELLINGS:
        first, second = (place(spelling, tmp_path / f"{spelling}-{i}") for i in range(2))
        convert(folder, spelling, first)
        convert(convert(folder, "lycoris", tmp_path / "l.safetensors").output, spelling, second)
        files = ["adapter_model.safetensors", "adapter_config.json"] if first.is_dir() else [""]
        if spelling in ("peft", "acestep", "diffusers"):  # rsLoRA is told there, scaled elsewhere
            assert read_adapter(first).layers.keys() == read_adapter(second).layers.keys()
            second = place(spelling, tmp_path / f"{spelling}-again")
            convert(folder, spelling, second)
        for name in files:
            assert (first / name).read_bytes() == (second / name).read_bytes()


def test_what_is_not_ours_is_never_replaced(tmp_path: Path, made: Trained) -> None:
    folder, _ = made("lora")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.jpg").write_text("x")
    other = tmp_path / "other.safetensors"
    shutil.copy(folder / "comfyui.safetensors", other)
    before = other.read_bytes()
    for spelling, out, told in (
        ("peft", photos, r"not empty.*holds other files \(one.jpg\)"),
        ("comfyui", other, "is not what luthier wrote"),
        ("peft", folder, "which is read"),
        ("acestep", folder.parent, "which is read"),
        ("acestep", folder / "new", "lies in .*which is read"),
        ("kohya", folder / "new.safetensors", "lies in .*which is read"),
        ("peft", other, "is a file"),
        ("comfyui", photos, "ends with .safetensors"),
        ("comfyui", tmp_path / "x.bin", "ends with .safetensors"),
        ("gguf", tmp_path / "x", "there is no spelling 'gguf'"),
    ):
        with pytest.raises((RequestError, OutputError), match=told) as refused:
            convert(folder, spelling, out)
        assert refused.value.exit_code == 2
    assert (photos / "one.jpg").read_text() == "x"
    assert other.read_bytes() == before
    mine, file = tmp_path / "mine", tmp_path / "mine.safetensors"
    for _ in range(2):  # our own are replaced
        convert(folder, "peft", mine)
        convert(folder, "comfyui", file)
    (mine / "notes.txt").write_text("mine")
    file.write_bytes(before + b" ")
    for spelling, out, told in (
        ("peft", mine, "notes.txt lies in it: luthier did not write that"),
        ("comfyui", file, "is not what luthier wrote"),
    ):
        with pytest.raises(OutputError, match=told):
            plan_conversion(folder, spelling, out)


def test_a_conversion_leaves_its_record(tmp_path: Path, made: Trained) -> None:
    folder, _ = made("dora")
    convert(folder, "lycoris", tmp_path / "a.safetensors")
    record = json.loads((tmp_path / "a.safetensors.run.json").read_text())
    assert (record["stage"], record["config"]["to"]) == ("adapter", "lycoris")
    assert record["inputs"][0]["path"] == str(folder / "adapter_model.safetensors")
    assert record["config"]["method"] == "DoRA"


def test_the_weights_of_other_layers_stay(base: Any, made: Trained) -> None:
    weights, _ = loaded_by_comfyui(base, made("lora")[0] / "comfyui.safetensors")
    assert len(weights) == 16 < len(linear_weights(base))
