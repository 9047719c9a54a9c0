"""Checkpoints: a folder each, whole or absent, with all that an exact resume needs and no pickle.

`epoch=E-step=N_lora/` holds the adapter in PEFT's format, `optimizer.safetensors` (both moments),
`state.json` (step, configuration, what it was trained from, validation loss), `manifest.json`
(sha256 of each file) and `run.json`. The learning rate, the place in the data and every random
number follow from step and seed, so they need no saving.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import nn

from luthier.errors import LuthierError, TrainingError
from luthier.files import atomic_folder, read_json, write_json
from luthier.music.model import verify_files, write_manifest
from luthier.progress import Display
from luthier.provenance import write_run
from luthier.training.lora import copy_weights, read_adapter_weights, save_adapter

CHECKPOINTS = "checkpoints"  # the folder of them, in that of a run
OPTIMIZER_NAME, STATE_NAME = "optimizer.safetensors", "state.json"
_NAME = re.compile(r"epoch=(\d+)-step=(\d+)_lora")
_MOMENTS = ("exp_avg", "exp_avg_sq")


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

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"epoch={self.epoch}-step={self.step}_lora"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was checked: complete and unaltered."""

    folder: Path
    state: State


def save_checkpoint(
    folder: Path,
    state: State,
    transformer: nn.Module,
    optimizer: torch.optim.AdamW,
    parameters: Sequence[tuple[str, nn.Parameter]],
) -> Path:
    """Write one checkpoint below `folder`, atomically; return where."""
    path = folder / state.name
    with atomic_folder(path) as temporary:
        save_adapter(transformer, temporary, state.origin.model_name)
        moments = {
            f"{moment}.{name}": optimizer.state[parameter][moment].cpu().contiguous()
            for name, parameter in parameters
            for moment in _MOMENTS
        }
        (temporary / OPTIMIZER_NAME).write_bytes(serialised(moments))
        write_json(temporary / STATE_NAME, asdict(state))
        write_manifest(temporary)
        write_run(
            temporary,
            stage="train",
            inputs=state.origin.inputs,
            config=state.config,
            seeds={"train": state.config["seed"]},
            licences=state.origin.licences,
            name=path.name,
        )
    return path


def restore(
    checkpoint: Checkpoint,
    optimizer: torch.optim.AdamW,
    parameters: list[tuple[str, nn.Parameter]],
) -> None:
    """Put a checkpoint's weights and moments back, exactly."""
    copy_weights(parameters, read_adapter_weights(checkpoint.folder), checkpoint.folder)
    moments = load_file(checkpoint.folder / OPTIMIZER_NAME)
    for name, parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.tensor(float(checkpoint.state.step)),
            **{
                moment: moments[f"{moment}.{name}"].to(parameter.device).clone()
                for moment in _MOMENTS
            },
        }


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


def retire(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and the one with the lowest validation loss."""
    paths = find_checkpoints(folder)
    losses = {path: loss for path in paths if (loss := _validation_loss(path)) is not None}
    kept = {*paths[-keep:], *([min(losses, key=lambda p: losses[p])] if losses else [])}
    for path in paths:
        if path not in kept:
            # Out of the way first: a process that dies here leaves no half checkpoint.
            hidden = path.with_name(f".{path.name}.tmp")
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def best_of(folder: Path) -> Path | None:
    """The checkpoint with the lowest validation loss, where that was measured."""
    paths = find_checkpoints(folder)
    losses = {path: loss for path in paths if (loss := _validation_loss(path)) is not None}
    return min(losses, key=lambda p: losses[p], default=None)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed runs left half-written. Only the one run that holds the folder may."""
    if folder.is_dir():
        for path in folder.glob(".*.tmp*"):
            shutil.rmtree(path, ignore_errors=True)


def _validation_loss(path: Path) -> float | None:
    try:
        loss = read_json(path / STATE_NAME)["validation_loss"]
    except (LuthierError, KeyError, TypeError):
        return None
    return float(loss) if loss is not None else None
