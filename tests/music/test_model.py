"""A model folder: saved and loaded it is the same; altered or incomplete it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from luthier.errors import ModelError, PathError
from luthier.music.torch.model import load_model, save_model
from tiny import make_tiny_model, tiny_model


def test_round_trip(tmp_path: Path) -> None:
    original = tiny_model()
    save_model(original, tmp_path / "model")
    again = load_model(tmp_path / "model")
    for name, module in original.modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, again.modules()[name].state_dict()[key]), (name, key)
    assert again.spec == original.spec
    text = "# Caption\ncalm piano"
    assert again.tokenizer.encode(text).ids == original.tokenizer.encode(text).ids
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["_class_name"] == "AceStepPipeline"


def test_half_precision_takes_half_the_room_and_loads_as_float32(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(model, tmp_path / "full")
    save_model(model, tmp_path / "half", dtype=torch.float16)
    name = "transformer/diffusion_pytorch_model.safetensors"
    sizes = [(tmp_path / kind / name).stat().st_size for kind in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    half = load_model(tmp_path / "half")
    assert half.transformer.dtype == torch.float32
    # Saving must not touch the model that is saved.
    assert model.transformer.dtype == torch.float32


@pytest.mark.parametrize("name", ["transformer/config.json", "tokenizer/tokenizer.json"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = make_tiny_model(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_model(folder)


def test_altered_file_is_named(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="corrupted"):
        load_model(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"luthier\.json"):
        load_model(tmp_path)
    with pytest.raises(PathError, match="does not exist"):
        load_model(tmp_path / "nowhere")
