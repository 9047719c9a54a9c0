"""Adapters of every kind: trained, resumed, and read by peft and by diffusers' own pipeline."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AceStepPipeline
from peft import PeftModel
from safetensors.torch import load_file

from luthier.errors import RequestError, TrainingError
from luthier.music.torch.model_folder import open_model
from luthier.music.training.target_modules import translated
from luthier.training.config import TrainConfig, config_from
from luthier.training.metrics import read_metrics
from luthier.training.run import train
from luthier.training.weights_io import load_trained, prepare, save_trained
from tiny_ace import parts, write_diffusers, write_original

Make = Callable[..., TrainConfig]
Sources = tuple[Path, Path, Path]
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"use_rslora": False},
    "rslora": {},
    "dora": {"use_dora": True},
    "lokr": {"adapter": "lokr"},
    "full": {"adapter": "full", "learning_rate": 0.001},
}
V1 = ("speaker_embedder", "linear_q", "linear_k", "linear_v", "to_q", "to_k", "to_v", "to_out.0")


@torch.no_grad()
def velocity(transformer: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    channels = transformer.config.audio_acoustic_hidden_dim
    times = torch.tensor([0.6])
    return transformer.eval()(
        hidden_states=draw(1, 20, channels),
        timestep=times,
        timestep_r=times,
        encoder_hidden_states=draw(1, 7, 32),
        context_latents=draw(1, 20, 2 * channels),
    ).sample  # fmt: skip


def shaken(transformer: Any, config: TrainConfig) -> Any:
    """An adapter whose weights are as if trained."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for _, parameter in prepare(transformer, config):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return transformer


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_and_resumes_exactly(
    tmp_path: Path, sources: Sources, config: Make, kind: str
) -> None:
    model, dataset, cache = sources
    settings = config(max_steps=4, save_every=2, dropout=0.0, **KINDS[kind])
    whole = train(model, dataset, tmp_path / "whole", settings, cache_dir=cache)
    train(
        model, dataset, tmp_path / "parts",
        settings.model_copy(update={"max_steps": 4}), cache_dir=cache,
    )  # fmt: skip
    again = train(model, dataset, tmp_path / "parts", settings, resume=2, cache_dir=cache)
    losses = [[row["loss"] for row in read_metrics(run.metrics)] for run in (whole, again)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    base = open_model(model).part("transformer")
    tuned = open_model(model).part("transformer")
    load_trained(tuned, whole.checkpoint)
    assert not torch.equal(velocity(base), velocity(tuned))
    for path in whole.checkpoint.rglob("*.safetensors"):
        twin = load_file(again.checkpoint / path.relative_to(whole.checkpoint))
        assert all(torch.equal(value, twin[name]) for name, value in load_file(path).items())


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "lokr"])
@pytest.mark.parametrize("turbo", [True, False], ids=["turbo", "base"])
def test_peft_and_diffusers_read_what_is_saved(tmp_path: Path, kind: str, turbo: bool) -> None:
    made = parts(turbo=turbo)
    settings = config_from({"rank": 4, "alpha": 3.0, **KINDS[kind]})
    tuned = shaken(copy.deepcopy(made["transformer"]), settings)
    expected = velocity(tuned)
    assert not torch.allclose(expected, velocity(made["transformer"]))
    save_trained(tuned, tmp_path, "tiny", full=False)

    ours = copy.deepcopy(made["transformer"])
    load_trained(ours, tmp_path)
    torch.testing.assert_close(velocity(ours), expected)
    by_peft = PeftModel.from_pretrained(copy.deepcopy(made["transformer"]), str(tmp_path))
    torch.testing.assert_close(velocity(by_peft.base_model.model), expected)
    if kind == "lokr":
        assert not (tmp_path / "pytorch_lora_weights.safetensors").exists()
        return
    pipeline = AceStepPipeline(**made | {"transformer": copy.deepcopy(made["transformer"])})
    pipeline.load_lora_weights(tmp_path)
    torch.testing.assert_close(velocity(pipeline.transformer), expected)


def test_a_run_on_the_original_layout_plays_in_diffusers_pipeline(
    tmp_path: Path, dataset_dir: Path, config: Make
) -> None:
    made = parts(turbo=True)
    original = write_original(tmp_path / "hub", made)
    diffusers = write_diffusers(tmp_path / "diffusers", made)
    settings = config(max_steps=2, save_every=2, tasks=("text2music", "repaint", "cover"))
    results = [
        train(folder, dataset_dir, tmp_path / name, settings, cache_dir=tmp_path / f"{name}-cache")
        for folder, name in ((original, "a"), (diffusers, "b"))
    ]
    first, second = (read_metrics(result.metrics) for result in results)
    for a, b in zip(first, second, strict=True):
        # Silence for the timbre is of another length there: nearly the same, not the same.
        assert a["loss"] == pytest.approx(b["loss"], rel=0.05)
    record = json.loads((results[0].checkpoint / "run.json").read_text())
    assert record["inputs"][0]["path"] == str(original.resolve())
    resumed = train(
        original, dataset_dir, tmp_path / "a", settings.model_copy(update={"max_steps": 3}),
        resume=True, cache_dir=tmp_path / "a-cache",
    )  # fmt: skip
    assert resumed.step == 3
    pipeline = AceStepPipeline.from_pretrained(diffusers)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(resumed.checkpoint)
    audio = pipeline(
        prompt="calm piano", audio_duration=1.0, num_inference_steps=2, output_type="pt",
        generator=torch.Generator().manual_seed(0),
    ).audios  # fmt: skip
    assert torch.isfinite(audio).all()
    assert float(audio.abs().max()) > 0


def test_v1_names_are_translated_or_named() -> None:
    assert translated(V1) == (("to_k", "to_out.0", "to_q", "to_v"), V1[:4])
    assert translated(("q_proj", "o_proj", "up_proj"))[0] == ("to_out.0", "to_q", "up_proj")
    settings = config_from({"r": 256, "lora_alpha": 32, "target_modules": V1})
    (note,) = settings.notes
    assert "counterpart in the lyric encoder, the timbre encoder of ACE-Step 1.5" in note
    with pytest.raises(RequestError, match=r"names only linear_q, speaker_embedder, and linear_q"):
        config_from({"target_modules": ("linear_q", "speaker_embedder")})


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(RequestError, match="DoRA is a kind of LoRA"):
        config_from({"adapter": "lokr", "use_dora": True})
    with pytest.raises(RequestError, match=r"tasks names 'remix': there are text2music"):
        config_from({"tasks": ("remix",)})
    with pytest.raises(RequestError, match=r"weight -1: it must be above 0"):
        config_from({"tasks": ("cover:-1",)})
    assert config_from({"adapter": "full"}).peak_rate(2048) == pytest.approx(1e-5)


def test_a_missing_library_is_a_sentence(tmp_path: Path, sources: Sources, config: Make) -> None:
    from importlib.util import find_spec

    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(TrainingError, match="needs bitsandbytes, which is not installed: run"):
        train(*sources[:2], tmp_path / "run", config(optimizer="adamw8bit"), cache_dir=sources[2])


def test_frozen_weights_are_held_in_half_precision(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    half, exact = (
        train(*sources[:2], tmp_path / p, config(max_steps=6, precision=p), cache_dir=sources[2])
        for p in ("bf16", "float32")
    )
    weights = load_file(half.checkpoint / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert half.loss == pytest.approx(exact.loss, rel=0.05)


def test_a_running_mean_is_what_the_checkpoint_holds(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    plain, mean = (
        train(*sources[:2], tmp_path / str(ema), config(max_steps=6, ema=ema), cache_dir=sources[2])
        for ema in (0.0, 0.9)
    )
    losses = [[row["loss"] for row in read_metrics(run.metrics)] for run in (plain, mean)]
    assert losses[0] == losses[1]  # the mean changes nothing about the training
    a, b = (load_file(run.checkpoint / "adapter_model.safetensors") for run in (plain, mean))
    raw = load_file(mean.checkpoint / "optimizer.safetensors")
    for name, value in a.items():
        assert torch.equal(raw["weight@" + name.removeprefix("base_model.model.")], value)
    assert any(not torch.equal(a[name], b[name]) for name in a)
