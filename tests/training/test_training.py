from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_features import constants_of, features

from luthier.errors import ModelError, PathError, RequestError, TrainingError
from luthier.music.torch.model import load_model, save_model
from luthier.music.torch.model_folder import open_model
from luthier.music.training.batches import training_example
from luthier.provenance import trace
from luthier.training.checkpoint import Origin, read_checkpoint
from luthier.training.config import TrainConfig
from luthier.training.lora import load_adapter
from luthier.training.metrics import read_metrics
from luthier.training.run import device_of, train
from luthier.training.trainer import Material, Trainer
from tiny import tiny_model

Make = Callable[..., TrainConfig]
Sources = tuple[Path, Path, Path]


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(folder / "metrics.jsonl")]


def test_training_lowers_the_loss(tmp_path: Path, sources: Sources, config: Make) -> None:
    model, dataset, cache = sources
    settings = config(
        max_steps=80, batch_size=8, save_every=40, learning_rate=0.02, rank=16, train_mlp=True
    )
    result = train(model, dataset, tmp_path / "run", settings, cache_dir=cache)
    curve = losses(tmp_path / "run")
    assert len(curve) == 80
    assert sum(curve[-10:]) / 10 < 0.6 * sum(curve[:3]) / 3
    rows = read_metrics(result.metrics)
    assert rows[-1]["validation_loss"] < rows[0]["loss"]
    assert result.validation_loss == rows[-1]["validation_loss"]
    assert all(row["learning_rate"] > 0 and row["gradient_norm"] > 0 for row in rows)


def test_the_base_model_is_not_touched(tmp_path: Path, sources: Sources, config: Make) -> None:
    model, dataset, cache = sources
    before = (model / "manifest.json").read_bytes()
    train(model, dataset, tmp_path / "run", config(max_steps=2), cache_dir=cache)
    assert (model / "manifest.json").read_bytes() == before
    load_model(model)  # checks every file


def test_a_checkpoint_says_where_it_came_from(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    model, dataset, cache = sources
    result = train(model, dataset, tmp_path / "run", config(max_steps=4), cache_dir=cache)
    assert result.checkpoint.name == "epoch=1-step=4_lora"  # 8 crops of 3 tracks taken twice
    state = read_checkpoint(result.checkpoint).state
    assert state.config["seed"] == 42
    assert state.origin.model_name == "tiny"
    record = json.loads((result.checkpoint / "run.json").read_text())
    assert record["artefact"] == result.checkpoint.name
    assert record["licences"] == ["CC0-1.0"]
    back = {step.path for step in trace(result.checkpoint)}
    assert {model.resolve(), dataset.resolve()} <= back
    transformer = load_model(model).transformer
    load_adapter(transformer, result.checkpoint)


def trainer(sources: Sources, config: TrainConfig, folder: Path) -> Trainer:
    model, dataset, cache = sources
    entries, validation = (
        features(dataset, model, cache, split, crop_s=config.crop_s)
        for split in ("train", "validation")
    )
    constants = constants_of(model)
    origin = Origin("tiny", "m", "d", (), ())
    return Trainer(
        open_model(model).part("transformer"),
        Material(entries, validation, 1),
        constants,
        config,
        origin,
        folder,
    )


def gradients(made: Trainer) -> list[torch.Tensor]:
    return [p.grad.clone() for _, p in made.parameters if p.grad is not None]


def test_accumulating_is_a_larger_batch(tmp_path: Path, sources: Sources, config: Make) -> None:
    # Whole tracks of one length: then the mean over batches is the mean over all frames.
    options: dict[str, Any] = {"crop_start": "first", "crop_s": 0.5, "gradient_clip": 1e6}
    once = trainer(sources, config(batch_size=4, **options), tmp_path)
    twice = trainer(sources, config(batch_size=2, accumulate=2, **options), tmp_path)
    whole = training_example(once.material.train, once.constants, once.config, 0)
    halves = [
        training_example(twice.material.train, twice.constants, twice.config, 0, micro)
        for micro in range(2)
    ]
    # The same tracks in the same order; the noise is another one.
    music = torch.cat([half.batch.music for half in halves])
    assert torch.equal(whole.batch.music, music)
    for example in (whole, *halves):
        example.noise.zero_()
        example.times.fill_(0.5)
        example.batch.encoder_states.zero_()
    once._loss(whole).backward()
    for half in halves:
        (twice._loss(half) / 2).backward()
    for a, b in zip(gradients(once), gradients(twice), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_computes_the_same(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    rows = []
    for on in (False, True):
        made = trainer(sources, config(gradient_checkpointing=on, dropout=0.2), tmp_path)
        rows.append([made._train_step() for _ in range(3)])
    for plain, recomputed in zip(*rows, strict=True):
        assert recomputed["loss"] == pytest.approx(plain["loss"], rel=1e-5)
        assert recomputed["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=1e-4)


def test_bf16_trains_too(tmp_path: Path, sources: Sources, config: Make) -> None:
    exact, rough = (
        trainer(sources, config(precision=p), tmp_path)._train_step()["loss"]
        for p in ("float32", "bf16")
    )
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05)


def test_a_loss_that_is_no_number_stops_with_advice(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    model, dataset, cache = sources
    folder = tmp_path / "run"
    # Perceptrons multiply: what is huge becomes infinite there.
    settings = config(learning_rate=1.0, alpha=1e16, train_mlp=True, gradient_clip=1e30)
    settings = settings.model_copy(update={"save_every": 1})
    with pytest.raises(TrainingError, match="is not a number") as caught:
        train(model, dataset, folder, settings, cache_dir=cache)
    assert "The last good checkpoint is" in str(caught.value)
    assert "--learning-rate" in str(caught.value)
    rows = read_metrics(folder / "metrics.jsonl")
    assert rows
    assert str(len(rows) + 1) in str(caught.value)


def test_a_broken_base_model_is_told_apart(tmp_path: Path, sources: Sources, config: Make) -> None:
    broken = tiny_model()
    with torch.no_grad():
        broken.transformer.proj_out_conv.bias.fill_(torch.nan)
    save_model(broken, tmp_path / "broken")
    with pytest.raises(
        TrainingError, match=r"step 1 is not a number\. No checkpoint was saved yet"
    ):
        train(tmp_path / "broken", sources[1], tmp_path / "run", config(), cache_dir=sources[2])


def test_nothing_to_train_on(tmp_path: Path, sources: Sources, config: Make) -> None:
    from luthier.music.dataset.build import load_rows
    from tiny_tracks import make_dataset

    dataset = make_dataset(tmp_path)
    for row in load_rows(dataset, "train"):
        Path(row["filename"]).unlink()
    with pytest.raises(TrainingError, match="none of the 3 tracks") as caught:
        train(sources[0], dataset, tmp_path / "run", config())
    assert caught.value.exit_code != 0


def test_paths_that_are_not_there(tmp_path: Path, sources: Sources, config: Make) -> None:
    model, dataset, _ = sources
    with pytest.raises(PathError, match=r"data set .* does not exist"):
        train(model, tmp_path / "none", tmp_path / "run", config())
    assert not (tmp_path / "run").exists()
    with pytest.raises(PathError, match=r"model folder .* does not exist"):
        train(tmp_path / "none", dataset, tmp_path / "run", config())
    (tmp_path / "file").write_text("x")
    with pytest.raises(PathError, match="is a file"):
        train(model, dataset, tmp_path / "file", config())


def test_a_corrupted_model_is_refused(tmp_path: Path, sources: Sources, config: Make) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(sources[0], model)
    weights = model / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match="corrupted"):
        train(model, sources[1], tmp_path / "run", config())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path, sources: Sources, config: Make) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(PathError, match="cannot be written"):
        train(*sources[:2], tmp_path / "locked" / "run", config())


def test_devices(config: Make) -> None:
    assert device_of(config(device="cpu")) == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="device cuda is not there: found cpu"):
            device_of(config(device="cuda"))
    with pytest.raises(RequestError, match="device is 'tpu'"):
        config(device="tpu")
