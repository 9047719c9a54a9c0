"""`train`: a data set and a base model → adapters in checkpoints, resumable."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.dataset.build import load_manifest
from luthier.errors import TrainingError
from luthier.files import existing_folder
from luthier.music.model import MusicModel, load_model
from luthier.progress import SILENT, Display
from luthier.provenance import input_record, write_run
from luthier.training.batches import Constants
from luthier.training.cache import cache_features, load_features, model_identity
from luthier.training.checkpoint import (
    CHECKPOINTS,
    Checkpoint,
    Origin,
    best_of,
    checkpoint_at,
    find_checkpoints,
    newest_valid,
    remove_leftovers,
)
from luthier.training.config import CHANGEABLE, TrainConfig, config_from
from luthier.training.lock import sole_user
from luthier.training.trainer import Material, Trainer

METRICS_NAME = "metrics.jsonl"


@dataclass(frozen=True)
class TrainResult:
    """What a training run left."""

    folder: Path
    checkpoint: Path  # the newest
    best: Path | None  # the one with the lowest validation loss, where there is validation
    metrics: Path  # the loss curve, a JSON object a line
    step: int  # optimiser steps done, in all
    loss: float | None  # mean of the last 20 steps; None when no step was left to do
    validation_loss: float | None
    trained_parameters: int
    seconds: float
    stopped_by: int  # the signal that ended the run early, or 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def train(
    model_dir: Path,
    dataset_dir: Path,
    output_dir: Path,
    config: TrainConfig,
    *,
    display: Display = SILENT,
    resume: bool | int = False,
    cache_dir: Path | None = None,
) -> TrainResult:
    """Train a LoRA adapter; checkpoints go to `output_dir/checkpoints/epoch=E-step=N_lora/`.

    Args:
        model_dir: the base model, a torch model folder.
        dataset_dir: as `build_dataset` wrote it.
        output_dir: of the run; customarily exps/logs/{name}.
        config: how; on resuming only what `CHANGEABLE` names may differ from before.
        resume: True goes on from the newest whole checkpoint (from the start when there is none),
            a number from the checkpoint of that step; False refuses a folder with checkpoints.
        cache_dir: for latents and prompts; shared by the runs beside `output_dir` when not given.

    Raises:
        TrainingError: nothing to train on, a damaged checkpoint, another run, the loss is a NaN.
        ModelError, DatasetError, PathError, StorageError: see the message.
    """
    started = time.monotonic()
    existing_folder(dataset_dir, "data set")
    existing_folder(model_dir, "model folder")
    with sole_user(output_dir):
        checkpoints = output_dir / CHECKPOINTS
        remove_leftovers(checkpoints)
        start = starting_point(checkpoints, resume, display)
        model = load_model(model_dir)
        origin = _origin(model_dir, model, dataset_dir)
        if start is not None:
            _check_same_run(start, origin, config, display)
        cache = cache_dir or output_dir.parent / ".features"
        material = _material(dataset_dir, model, model_dir, cache, config, display)
        transformer, constants = _kept(model, device_of(config))
        del model  # what only encodes is not needed any more
        trainer = Trainer(transformer, material, constants, config, origin, checkpoints)
        _write_record(output_dir, origin, config)
        outcome = trainer.run(start, output_dir / METRICS_NAME, display)
        return TrainResult(
            folder=output_dir,
            checkpoint=outcome.checkpoint,
            best=best_of(checkpoints),
            metrics=output_dir / METRICS_NAME,
            step=outcome.step,
            loss=outcome.loss,
            validation_loss=outcome.validation_loss,
            trained_parameters=trainer.trained_parameters,
            seconds=round(time.monotonic() - started, 1),
            stopped_by=outcome.stopped_by,
        )


def starting_point(checkpoints: Path, resume: bool | int, display: Display) -> Checkpoint | None:
    """The checkpoint to go on from; None for the beginning.

    Raises:
        TrainingError: none is whole, there is none of that step, or not resuming would overwrite.
    """
    # True is an int to Python: the kind has to be looked at first.
    if not isinstance(resume, bool):
        return checkpoint_at(checkpoints, resume)
    if resume:
        return newest_valid(checkpoints, display)
    found = find_checkpoints(checkpoints)
    if found:
        raise TrainingError(
            f"{checkpoints} holds {len(found)} checkpoints already, the newest {found[-1].name}: "
            "--resume goes on from there, another --exp-name starts anew."
        )
    return None


def saved_config(output_dir: Path, display: Display, resume: bool | int) -> Mapping[str, Any]:
    """The configuration of the checkpoint that `resume` would go on from, or nothing."""
    start = starting_point(output_dir / CHECKPOINTS, resume, display)
    return {} if start is None else start.state.config


def device_of(config: TrainConfig) -> torch.device:
    """The device of a run; `TrainingError` when it is not there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if config.device == "auto":
        return torch.device("cuda" if cuda else "cpu")
    wanted = torch.device(config.device)
    there = {"cpu": True, "cuda": cuda, "mps": mps}
    if not there[wanted.type] or (wanted.index or 0) >= max(1, torch.cuda.device_count()):
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise TrainingError(f"the device {config.device} is not there: found {found}.")
    return wanted


def _check_same_run(
    start: Checkpoint, origin: Origin, config: TrainConfig, display: Display
) -> None:
    before, name = start.state, start.folder.name
    if before.origin.model_identity != origin.model_identity:
        raise TrainingError(
            f"{name} was trained from the model {before.origin.model_name}, not from this "
            f"{origin.model_name}: give the same --model, or another --exp-name."
        )
    if before.origin.dataset_hash != origin.dataset_hash:
        raise TrainingError(
            f"the data set has changed since {name} was saved. Resume with the data set as it "
            "was, or train under another --exp-name."
        )
    saved, given = config_from(before.config).model_dump(), config.model_dump()
    differing = [key for key in saved if saved[key] != given[key]]
    fixed = [key for key in differing if key not in CHANGEABLE]
    if fixed:
        told = ", ".join(f"{key} was {saved[key]} and is {given[key]} now" for key in fixed)
        raise TrainingError(
            f"{name} cannot go on with other settings: {told}. Take another --exp-name; only "
            f"{', '.join(sorted(CHANGEABLE))} may change."
        )
    if "max_steps" in differing and config.schedule != "constant":
        display.say(
            f"max_steps was {saved['max_steps']} and is {config.max_steps} now: from here on the "
            "learning rate follows the schedule of the new length."
        )
    if before.threads != torch.get_num_threads():
        display.say(
            f"{name} was computed with {before.threads} threads, this run has "
            f"{torch.get_num_threads()}: the loss may differ in its last digits."
        )


def _origin(model_dir: Path, model: MusicModel, dataset_dir: Path) -> Origin:
    manifest = load_manifest(dataset_dir)
    return Origin(
        model_name=model.spec.name,
        model_identity=model_identity(model_dir),
        dataset_hash=str(manifest["hash"]),
        inputs=(input_record(model_dir), input_record(dataset_dir)),
        licences=tuple(manifest.get("licences", ())),
    )


def _material(
    dataset_dir: Path,
    model: MusicModel,
    model_dir: Path,
    cache_dir: Path,
    config: TrainConfig,
    display: Display,
) -> Material:
    identity = model_identity(model_dir)
    train_rows, validation_rows = (
        load_features(
            cache_features(
                dataset_dir,
                split,
                model,
                cache_dir,
                identity=identity,
                crop_s=config.crop_s,
                display=display,
            )
        )
        for split in ("train", "validation")
    )
    if not train_rows:
        raise TrainingError(
            f"{dataset_dir} has no tracks in its train split: there is nothing to train on."
        )
    repeat_count = int(load_manifest(dataset_dir).get("repeat_count", 1))
    return Material(train_rows, validation_rows, repeat_count)


def _kept(model: MusicModel, device: torch.device) -> tuple[Any, Constants]:
    """The denoiser on its device, and what batches need of the rest."""
    null = model.condition_encoder.null_condition_emb.detach().clone()
    constants = Constants(model.spec, model.silence.detach().clone(), null)
    return model.transformer.to(device), constants


def _write_record(output_dir: Path, origin: Origin, config: TrainConfig) -> None:
    write_run(
        output_dir,
        stage="train",
        inputs=origin.inputs,
        config=config.model_dump(mode="json"),
        seeds={"train": config.seed},
        licences=origin.licences,
    )
