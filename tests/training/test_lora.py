from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from luthier.errors import AdapterError, RequestError, TrainingError
from luthier.music.adapters.file import read_adapter
from luthier.music.training.merge_check import _velocity
from luthier.training.config import TrainConfig, config_from, read_config
from luthier.training.lora import add_adapter, load_adapter, save_adapter
from tiny import tiny_model

Make = Callable[..., TrainConfig]


def disturb(parameters: list[tuple[str, nn.Parameter]]) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, value in parameters:
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))


@pytest.fixture
def adapter(tmp_path: Path, config: Make) -> Path:
    """An adapter that changes the tiny model, saved."""
    transformer = tiny_model().transformer
    disturb(add_adapter(transformer, config()))
    (tmp_path / "adapter").mkdir()
    save_adapter(transformer, tmp_path / "adapter", "tiny")
    torch.save(_velocity(transformer), tmp_path / "velocity.pt")
    return tmp_path / "adapter"


def test_a_fresh_adapter_changes_nothing_and_only_it_is_trained(config: Make) -> None:
    transformer = tiny_model().transformer
    before = _velocity(transformer)
    parameters = add_adapter(transformer, config())
    assert torch.equal(_velocity(transformer), before)
    assert all("lora_" in name for name, _ in parameters)
    assert len(parameters) == 2 * 2 * 4 * 2  # layers, attentions, projections, matrices
    trained = sum(p.numel() for p in transformer.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for _, p in parameters)


def test_peft_itself_loads_it(adapter: Path) -> None:
    expected = torch.load(adapter.parent / "velocity.pt", weights_only=True)
    wrapped = PeftModel.from_pretrained(tiny_model().transformer, str(adapter))
    torch.testing.assert_close(_velocity(wrapped.base_model.model), expected, rtol=0, atol=1e-5)
    mine = tiny_model().transformer
    load_adapter(mine, adapter)
    assert torch.equal(_velocity(mine), expected)


def test_diffusers_loads_it(adapter: Path) -> None:
    expected = torch.load(adapter.parent / "velocity.pt", weights_only=True)
    transformer = tiny_model().transformer
    name = "adapter_model.safetensors"
    transformer.load_lora_adapter(str(adapter), weight_name=name, prefix="base_model.model")
    found = _velocity(transformer)
    assert not torch.equal(found, _velocity(tiny_model().transformer))
    torch.testing.assert_close(found, expected)


def test_the_file_is_as_peft_names_things(adapter: Path) -> None:
    names = load_file(adapter / "adapter_model.safetensors").keys()
    assert "base_model.model.layers.0.cross_attn.to_out.0.lora_B.weight" in names
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["target_modules"] == ["to_k", "to_out.0", "to_q", "to_v"]
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 8.0, True)


def test_the_perceptrons_too(config: Make) -> None:
    parameters = add_adapter(tiny_model().transformer, config(train_mlp=True))
    assert any(".mlp.down_proj." in name for name, _ in parameters)


def test_a_target_that_is_not_there(config: Make) -> None:
    with pytest.raises(TrainingError, match=r"'to_z', but .* it has .*down_proj, gate_proj"):
        add_adapter(tiny_model().transformer, config(target_modules=("to_q", "to_z")))


def test_damaged_adapters_are_refused(adapter: Path, tmp_path: Path) -> None:
    transformer = tiny_model().transformer
    with pytest.raises(AdapterError, match="does not exist"):
        load_adapter(transformer, tmp_path / "none")
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = min(tensors)
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, weights)
    with pytest.raises(AdapterError, match="no numbers"):
        load_adapter(transformer, adapter)
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(AdapterError, match="damaged"):
        load_adapter(transformer, adapter)
    weights.unlink()
    with pytest.raises(AdapterError, match="is missing"):
        load_adapter(transformer, adapter)
    save_file(tensors, weights)
    (adapter / "adapter_config.json").write_text('{"peft_type": "LOHA"}')
    with pytest.raises(AdapterError, match="peft_type is LOHA"):
        load_adapter(transformer, adapter)


def test_settings_are_checked_in_sentences(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="rank is 0: input should be greater than or equal"):
        config_from({"rank": 0})
    with pytest.raises(RequestError, match="no training setting 'epochs': there are adapter, rank"):
        config_from({"epochs": 3})
    path = tmp_path / "lora.json"
    path.write_text('{"r": 256, "lora_alpha": 32, "use_rslora": true}')
    settings = config_from(read_config(path))
    assert (settings.rank, settings.alpha) == (256, 32)
    path.write_text("[1]")
    with pytest.raises(RequestError, match="one JSON object"):
        read_config(path)


def test_the_default_learning_rate_follows_the_width() -> None:
    assert config_from({}).peak_rate(2048) == pytest.approx(1e-4)
    assert config_from({}).peak_rate(256) == pytest.approx(8e-4)
    assert config_from({"learning_rate": 0.5}).peak_rate(256) == 0.5


def test_layers_may_have_ranks_and_alphas_of_their_own(tmp_path: Path, config: Make) -> None:
    transformer = tiny_model().transformer
    settings = config(
        train_mlp=True,
        rank_pattern=("cross_attn.q_proj:7", "mlp.up_proj:1"),
        alpha_pattern={"layers.1.self_attn.o_proj": 2},
    )
    shapes = {name: tuple(value.shape) for name, value in add_adapter(transformer, settings)}
    assert shapes["layers.0.cross_attn.to_q.lora_A.weight"][0] == 7
    assert shapes["layers.1.mlp.up_proj.lora_B.weight"][1] == 1
    assert shapes["layers.1.self_attn.to_q.lora_A.weight"][0] == 4
    save_adapter(transformer, tmp_path, "tiny")
    found = read_adapter(tmp_path).layers
    scales = {
        name: found[f"layers.1.self_attn.{name}"].strength.scale for name in ("to_q", "to_out.0")
    }
    assert scales == {"to_q": 8 / 4**0.5, "to_out.0": 2 / 4**0.5}
    assert config(rank_pattern={"to_q": 3}) == config(rank_pattern=("to_q:3",))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rank_pattern": ("to_q",)}, "rank_pattern|'to_q': each is the end of a layer's name"),
        ({"rank_pattern": ("to_q:2.5",)}, "a whole number from above 0"),
        ({"rank_pattern": ("to_q:0",)}, "from above 0 to 1024"),
        ({"alpha_pattern": ("to_.*:2",)}, "each is the end of a layer's name"),
        ({"rank_pattern": ("to_q:2",), "adapter": "full"}, "are of adapters"),
    ],
)
def test_patterns_of_layers_are_checked(changes: dict[str, object], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        config_from(changes)


def test_a_pattern_that_matches_no_adapted_layer(config: Make) -> None:
    with pytest.raises(TrainingError, match=r"names 'mlp.up_proj', but no layer with an adapter"):
        add_adapter(tiny_model().transformer, config(rank_pattern=("mlp.up_proj:2",)))
