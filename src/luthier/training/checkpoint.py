"""Checkpoints: a folder each, whole or absent, with all that an exact resume needs and no pickle.

`epoch=E-step=N_lora/` holds the adapter in PEFT's format (of full fine-tuning the denoiser in
diffusers'), `optimizer.safetensors` (its state; with a running mean also the weights themselves,
for the adapter is the mean then), `state.json` (step, configuration, what it was trained from, how
good it is), `manifest.json` (sha256 of each file) and `run.json`. The learning rate, the place in
the data and every random number follow from step and seed, so they need no saving.
"""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised

from luthier.errors import LuthierError, OutputError, TrainingError
from luthier.files import is_temporary, read_json, write_json
from luthier.music.torch.model import verify_files, write_manifest
from luthier.output_folder import check_output, foreign_files, output_folder
from luthier.progress import Display
from luthier.provenance import write_run
from luthier.training.lora import copy_weights
from luthier.training.optimizer import RunningMean, optimizer_tensors, put_back
from luthier.training.run_folder import EVALUATION_NAME, STAGE
from luthier.training.weights_io import Parameters, read_trained, save_trained

OPTIMIZER_NAME, STATE_NAME = "optimizer.safetensors", "state.json"
_NAME = re.compile(r"epoch=(\d+)-step=(\d+)_lora")
_WEIGHT = "weight@"  # before the name of a weight of which the adapter holds the running mean


@dataclass(frozen=True)
class Origin:
    """What a run is trained from: the same for all its checkpoints."""

    model_name: str
    model_identity: str  # sha256 of the model's manifest
    dataset_hash: str
    inputs: tuple[dict[str, str], ...]  # provenance records of model and data set
    licences: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """Where a run was when it was saved."""

    step: int  # optimiser steps done
    epoch: int  # passes over the data done
    config: dict[str, Any]
    origin: Origin
    validation_loss: float | None
    threads: int  # of torch: another number may round sums differently
    loss: float | None = None  # mean of the last training steps
    batches: int = 1  # in a step, over all processes

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"epoch={self.epoch}-step={self.step}_lora"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was checked: complete and unaltered."""

    folder: Path
    state: State


@dataclass(frozen=True)
class Live:
    """What of a running training goes into a checkpoint and comes back out of it."""

    transformer: Any
    parameters: Parameters
    optimizer: torch.optim.Optimizer
    mean: RunningMean


def save_checkpoint(folder: Path, state: State, live: Live) -> Path:
    """Write one checkpoint below `folder`, atomically; return where.

    One of that name, which a run that began again earlier meets, is replaced; where something else
    lies in it, it steps aside under another name.
    """
    path = folder / state.name
    full = state.config.get("adapter") == "full"
    _step_aside(path)
    with output_folder(path, STAGE, extra=[EVALUATION_NAME]) as temporary:
        with live.mean.in_use():
            save_trained(live.transformer, temporary, state.origin.model_name, full=full)
        tensors = optimizer_tensors(live.optimizer, live.parameters)
        if live.mean.mean:
            tensors |= {
                _WEIGHT + name: parameter.detach().cpu().contiguous()
                for name, parameter in live.parameters
            }
        (temporary / OPTIMIZER_NAME).write_bytes(serialised(tensors))
        write_json(temporary / STATE_NAME, asdict(state))
        write_manifest(temporary)
        write_run(
            temporary,
            stage=STAGE,
            inputs=state.origin.inputs,
            config=state.config,
            seeds={"train": state.config["seed"]},
            licences=state.origin.licences,
            name=path.name,
        )
    return path


def _step_aside(path: Path) -> None:
    try:
        check_output(path, STAGE, extra=[EVALUATION_NAME])
    except OutputError:
        path.rename(path.with_name(f"{path.name}.kept-{uuid4().hex[:8]}"))


def restore(checkpoint: Checkpoint, live: Live) -> None:
    """Put a checkpoint's weights and optimiser state back, exactly."""
    weights = read_trained(checkpoint.folder)
    try:
        saved = load_file(checkpoint.folder / OPTIMIZER_NAME)
    except SafetensorError as error:
        raise TrainingError(f"{checkpoint.folder / OPTIMIZER_NAME} is damaged: {error}") from error
    live.mean.restart(weights)
    raw = {k.removeprefix(_WEIGHT): v for k, v in saved.items() if k.startswith(_WEIGHT)}
    copy_weights(live.parameters, raw or weights, checkpoint.folder)
    moments = {name: value for name, value in saved.items() if not name.startswith(_WEIGHT)}
    put_back(live.optimizer, live.parameters, moments)


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints below `folder` by step, oldest first; valid or not."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise TrainingError(f"{path} is not named like a checkpoint, epoch=E-step=N_lora.")
    return int(match[2])


def read_checkpoint(path: Path) -> Checkpoint:
    """Check every file of a checkpoint and read its state; `TrainingError` says what is wrong."""
    try:
        verify_files(path)
        values = read_json(path / STATE_NAME)
        return Checkpoint(path, State(**values | {"origin": Origin(**values["origin"])}))
    except (LuthierError, KeyError, TypeError) as error:
        raise TrainingError(f"the checkpoint {path.name} cannot be used: {error}") from error


def newest_valid(folder: Path, display: Display) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named and passed over.

    Raises:
        TrainingError: there are checkpoints, but none is whole.
    """
    paths = find_checkpoints(folder)
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except TrainingError as error:
            display.say(f"passed over: {error}")
    if paths:
        raise TrainingError(
            f"none of the {len(paths)} checkpoints in {folder} is whole. "
            "Train under another name, or delete them to start again."
        )
    return None


def checkpoint_at(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of one step; `TrainingError` lists those that there are."""
    paths = find_checkpoints(folder)
    for path in paths:
        if step_of(path) == step:
            return read_checkpoint(path)
    steps = ", ".join(str(step_of(p)) for p in paths) or "none"
    raise TrainingError(f"{folder} has no checkpoint of step {step}: there are {steps}.")


def retire(folder: Path, keep: int, measure: str = "validation_loss") -> None:
    """Delete all but the newest checkpoint and the `keep` best ones.

    What was not measured comes after what was, the newer before the older. A folder in which
    something else lies than what was saved stays.
    """
    paths = find_checkpoints(folder)
    ranked = sorted(paths, key=lambda path: _rank(path, measure))
    kept = {*paths[-1:], *ranked[:keep]}
    for path in paths:
        if path not in kept and not foreign_files(path, [EVALUATION_NAME]):
            # Out of the way first: a process that dies here leaves no half checkpoint.
            hidden = path.with_name(f".{path.name}.tmp")
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def best_of(folder: Path, measure: str = "validation_loss") -> Path | None:
    """The checkpoint with the lowest `measure`, where that was measured."""
    measured = [path for path in find_checkpoints(folder) if _measured(path, measure) is not None]
    return min(measured, key=lambda path: _rank(path, measure), default=None)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed runs left half-written. Only the one run that holds the folder may."""
    if folder.is_dir():
        for path in folder.iterdir():
            retired = path.name.startswith(".") and _NAME.fullmatch(path.name[1:-4])
            unfinished = is_temporary(path.name) and path.name.startswith(".epoch=")
            if path.is_dir() and ((retired and path.suffix == ".tmp") or unfinished):
                shutil.rmtree(path, ignore_errors=True)


def _rank(path: Path, measure: str) -> tuple[float, int]:
    value = _measured(path, measure)
    return (float("inf") if value is None else value), -step_of(path)


def _measured(path: Path, measure: str) -> float | None:
    name = EVALUATION_NAME if measure == "fad_score" else STATE_NAME
    try:
        value = read_json(path / name)[measure]
    except (LuthierError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
