"""`train`: a data set and a base model → adapters in checkpoints, resumable."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.errors import TrainingError
from luthier.files import existing_folder
from luthier.lock import sole_user
from luthier.music.dataset.build import load_manifest, load_rows
from luthier.music.torch.model import verify_model
from luthier.music.torch.model_folder import ModelFolder, open_model
from luthier.music.training.batches import Constants
from luthier.music.training.feature_cache import cache_features, load_features
from luthier.music.training.feature_encoder import Encoder
from luthier.music.training.previews import Player
from luthier.music.training.task_mix import task_weights
from luthier.music.training.track_checks import refuse_unlicensed
from luthier.progress import SILENT, Display
from luthier.provenance import input_record, write_run
from luthier.training.checkpoint import (
    Checkpoint,
    Origin,
    best_of,
    checkpoint_at,
    find_checkpoints,
    newest_valid,
    remove_leftovers,
)
from luthier.training.config import CHANGEABLE, TrainConfig, config_from
from luthier.training.monitor import Monitor, RunMonitor
from luthier.training.optimizer import require_optimizer
from luthier.training.processes import Processes, join_processes, leave_processes
from luthier.training.run_folder import CHECKPOINTS, METRICS_NAME, STAGE, check_run_folder
from luthier.training.trainer import Material, Outcome, Trainer, computes_in_bf16


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
    """Train an adapter; checkpoints go to `output_dir/checkpoints/epoch=E-step=N_lora/`.

    Under `accelerate launch` every process calls this; the first one writes.

    Args:
        model_dir: the base model, a torch model folder in any layout that `open_model` knows.
        dataset_dir: as `build_dataset` wrote it.
        output_dir: of the run; customarily exps/logs/{name}.
        config: how; on resuming only what `CHANGEABLE` names may differ from before.
        resume: True goes on from the newest whole checkpoint (from the start when there is none),
            a number from the checkpoint of that step; False refuses a folder with checkpoints.
        cache_dir: for latents and prompts; shared by the runs beside `output_dir` when not given.

    Raises:
        TrainingError: nothing to train on, a damaged checkpoint, another run, the loss is a NaN.
        OutputError: `output_dir` holds what a run would write over, or is read.
        ModelError, DatasetError, PathError, StorageError: see the message.
    """
    started = time.monotonic()
    existing_folder(dataset_dir, "data set")
    existing_folder(model_dir, "model folder")
    check_run_folder(output_dir, [model_dir, dataset_dir])
    processes = join_processes(on_cpu=config.device == "cpu")
    display = display if processes.is_first else SILENT
    with sole_user(output_dir) if processes.is_first else nullcontext():
        try:
            run = _Run(model_dir, dataset_dir, output_dir, config, processes, display)
            outcome, parameters = run.train(resume, cache_dir or output_dir.parent / ".features")
        finally:
            leave_processes(processes)
    return TrainResult(
        folder=output_dir,
        checkpoint=outcome.checkpoint,
        best=best_of(output_dir / CHECKPOINTS, config.measure),
        metrics=output_dir / METRICS_NAME,
        step=outcome.step,
        loss=outcome.loss,
        validation_loss=outcome.validation_loss,
        trained_parameters=parameters,
        seconds=round(time.monotonic() - started, 1),
        stopped_by=outcome.stopped_by,
    )


class _Run:
    """One call of `train`, whose folder is held."""

    def __init__(
        self,
        model_dir: Path,
        dataset_dir: Path,
        output_dir: Path,
        config: TrainConfig,
        processes: Processes,
        display: Display,
    ) -> None:
        self.dataset_dir, self.output_dir, self.config = dataset_dir, output_dir, config
        self.processes, self.display = processes, display
        self.checkpoints = output_dir / CHECKPOINTS
        self.model = open_model(model_dir)
        self.device = device_of(config, processes.local_index)

    def train(self, resume: bool | int, cache_dir: Path) -> tuple[Outcome, int]:
        """Encode, train, and say how it ended and how many numbers were trained."""
        config, display = self.config, self.display
        if self.processes.is_first:
            remove_leftovers(self.checkpoints)
        self.processes.wait()
        start = starting_point(self.checkpoints, resume, display)
        for note in config.notes:
            display.say(note)
        verify_model(self.model)
        require_optimizer(config)
        _check_licences(self.dataset_dir)
        origin = _origin(self.model, self.dataset_dir)
        if start is not None:
            _check_same_run(start, origin, config, self.processes, display)
        material = self._material(cache_dir)
        transformer, constants = self._kept()
        trainer = Trainer(
            transformer, material, constants, config, origin, self.checkpoints, self.processes
        )
        monitor = Monitor()
        if self.processes.is_first:
            _write_record(self.output_dir, origin, config)
            tracks = material.validation or material.train
            player = Player(self.model, tracks, constants, config, self.device)
            monitor = RunMonitor(self.output_dir, config, player, display)
        outcome = trainer.run(start, self.output_dir / METRICS_NAME, display, monitor)
        self.processes.wait()
        return outcome, trainer.trained_parameters

    def _material(self, cache_dir: Path) -> Material:
        if not self.processes.is_first:
            self.processes.wait()  # the first one encodes, the others find it done
        encoder = Encoder(self.model, self.device)
        train_entries, validation = (
            load_features(
                cache_features(
                    self.dataset_dir,
                    split,
                    encoder,
                    cache_dir,
                    crop_s=self.config.crop_s,
                    tasks=tuple(task_weights(self.config.tasks)),
                    display=self.display,
                )
            )
            for split in ("train", "validation")
        )
        if self.processes.is_first:
            self.processes.wait()
        if not train_entries:
            raise TrainingError(
                f"{self.dataset_dir} has no tracks in its train split: there is nothing to train "
                "on."
            )
        repeat_count = int(load_manifest(self.dataset_dir).get("repeat_count", 1))
        return Material(train_entries, validation, repeat_count)

    def _kept(self) -> tuple[Any, Constants]:
        """The denoiser on its device, and what batches need of the rest."""
        encoder = self.model.part("condition_encoder")
        null = encoder.null_condition_emb.detach().clone()
        constants = Constants(self.model.spec, encoder.silence_latent.detach().clone(), null)
        del encoder
        # What is frozen needs no more digits than the arithmetic; what is trained stays float32.
        half = computes_in_bf16(self.config, self.device) and self.config.adapter != "full"
        dtype = torch.bfloat16 if half else torch.float32
        return self.model.part("transformer", dtype).to(self.device), constants


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


def device_of(config: TrainConfig, local_index: int = 0) -> torch.device:
    """The device of a run; `TrainingError` when it is not there.

    Args:
        config: of the run.
        local_index: which of this machine's processes asks: each has a GPU of its own.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if config.device in ("auto", "cuda") and cuda:
        return torch.device("cuda", local_index % torch.cuda.device_count())
    if config.device == "auto":
        return torch.device("cpu")
    wanted = torch.device(config.device)
    there = {"cpu": True, "cuda": cuda, "mps": mps}
    if not there[wanted.type] or (wanted.index or 0) >= max(1, torch.cuda.device_count()):
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise TrainingError(f"the device {config.device} is not there: found {found}.")
    return wanted


def _check_same_run(
    start: Checkpoint, origin: Origin, config: TrainConfig, processes: Processes, display: Display
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
    if before.batches != config.accumulate * processes.count:
        raise TrainingError(
            f"{name} was trained with {before.batches} batches in a step, over all processes, and "
            f"now there would be {config.accumulate * processes.count}: start as many processes "
            "as before, or take another --exp-name."
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


def _check_licences(dataset_dir: Path) -> None:
    rows = [row for split in ("train", "validation") for row in load_rows(dataset_dir, split)]
    refuse_unlicensed(rows, load_manifest(dataset_dir).get("licences", ()))


def _origin(model: ModelFolder, dataset_dir: Path) -> Origin:
    manifest = load_manifest(dataset_dir)
    own = model.layout == "luthier"
    record = input_record(model.folder, None if own else model.identity)
    return Origin(
        model_name=model.spec.name,
        model_identity=model.identity,
        dataset_hash=str(manifest["hash"]),
        inputs=(record, input_record(dataset_dir)),
        licences=tuple(manifest.get("licences", ())),
    )


def _write_record(output_dir: Path, origin: Origin, config: TrainConfig) -> None:
    write_run(
        output_dir,
        stage=STAGE,
        inputs=origin.inputs,
        config=config.model_dump(mode="json"),
        seeds={"train": config.seed},
        licences=origin.licences,
    )
