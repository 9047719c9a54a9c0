"""A checkpoint that plays: as the exported graphs would, and only on its own base model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from luthier.errors import AdapterError, ModelError, PathError
from luthier.files import read_json, write_json
from luthier.music.evaluation.checkpoint_player import base_of, is_checkpoint, open_player
from luthier.music.request import request_from
from tiny import make_tiny_model, tiny_onnx, tiny_torch
from tiny_checkpoints import checkpoint, tiny_run

REQUEST = request_from({"prompt": "calm piano", "bpm": 84, "duration_s": 1, "seed": 3, "steps": 2})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return shutil.copytree(checkpoint(1), tmp_path / "epoch=0-step=1_lora")


def test_torch_plays_what_the_exported_graphs_play() -> None:
    graphs, model = open_player(tiny_onnx()), open_player(tiny_torch())
    first, second = graphs.pipeline.generate(REQUEST), model.pipeline.generate(REQUEST)
    np.testing.assert_allclose(first.latents, second.latents, atol=2e-3)
    assert first.audio.shape == second.audio.shape == (2, 8000)
    assert graphs.identity != model.identity


def test_a_checkpoint_finds_its_base_and_changes_what_it_plays() -> None:
    trained, base = open_player(checkpoint(2)), open_player(tiny_run() / "model")
    assert base_of(checkpoint(2), None) == tiny_run() / "model"
    assert trained.identity.startswith(base.identity)
    assert [Path(r["path"]).name for r in trained.inputs] == [checkpoint(2).name, "model"]
    first, second = trained.pipeline.generate(REQUEST), base.pipeline.generate(REQUEST)
    assert np.abs(first.latents - second.latents).max() > 1e-4
    again = open_player(checkpoint(2)).pipeline.generate(REQUEST)
    np.testing.assert_array_equal(first.audio, again.audio)
    assert open_player(checkpoint(1)).identity != trained.identity


def test_another_base_model_is_refused(tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="was trained on another model"):
        open_player(checkpoint(1), str(other))


def test_an_adapter_without_a_state_must_fit_by_shape(copy: Path, tmp_path: Path) -> None:
    """As other trainers write them: no record of the base model."""
    (copy / "state.json").unlink()
    (copy / "manifest.json").unlink()
    path = copy / "adapter_model.safetensors"
    save_file({n: v[:, :-1] if "lora_A" in n else v for n, v in load_file(path).items()}, path)
    with pytest.raises(AdapterError, match="does not fit this model"):
        open_player(copy, str(tiny_run() / "model"))


def test_values_that_are_no_numbers_are_refused(copy: Path) -> None:
    path = copy / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)][0, 0] = np.nan
    save_file(tensors, path)
    with pytest.raises(AdapterError, match="NaN") as caught:
        open_player(copy)
    assert caught.value.exit_code == 2
    tensors[min(tensors)][0, 0] = 1
    save_file(tensors, path)
    with pytest.raises(AdapterError, match=r"is torn: .*sha256"):
        open_player(copy)


def test_a_base_model_that_has_gone_is_a_sentence(copy: Path) -> None:
    state = read_json(copy / "state.json")
    for record in state["origin"]["inputs"]:
        record["path"] = "/nowhere/model"
    write_json(copy / "state.json", state)
    with pytest.raises(ModelError, match="--base-model"):
        open_player(copy)
    assert base_of(copy, "here") == Path("here")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    assert not is_checkpoint(tmp_path)
    with pytest.raises(PathError, match="is no checkpoint"):
        open_player(tmp_path)
