"""Adapters to merge: checked on disk, matrix by matrix, before anything is written.

What `music.adapter_file` reads, and the full weights of `luthier train --adapter full`. Nothing is
kept in memory but where the matrices lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from luthier.errors import AdapterError, LuthierError, ModelError
from luthier.files import read_json
from luthier.music.adapters.file import StoredAdapter, read_adapter
from luthier.music.adapters.place import home_of
from luthier.music.torch.model import MANIFEST_NAME, verify_files
from luthier.training.checkpoint import STATE_NAME, find_checkpoints
from luthier.training.merge_change import AdaptedLayer, Change, WholeWeight
from luthier.training.run_folder import CHECKPOINTS
from luthier.training.tensor_file import Record, read_header
from luthier.training.weights_io import FULL_WEIGHTS


class Weighted(NamedTuple):
    """An adapter's folder or file and its strength; 1 is as trained."""

    folder: Path
    weight: float = 1.0


@dataclass(frozen=True)
class Adapter:
    """An adapter that was checked: whole, finite, complete."""

    folder: Path
    weight: float
    method: str  # LoRA, rsLoRA, DoRA, LoKr, full
    rank: int  # the largest; 0 of full weights
    changes: Mapping[str, Change]  # by the name of the weight, with diffusers' names
    model_name: str  # that it was trained on, where that is recorded
    model_identity: str
    stored: StoredAdapter | None  # None of full weights

    def as_dict(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "path": str(self.folder),
            "weight": self.weight,
            "method": self.method,
            "rank": self.rank,
            "tensors": len(self.changes),
        }


def open_adapter(chosen: Weighted) -> Adapter:
    """Check an adapter and find out what it changes.

    Raises:
        AdapterError: it is missing, torn, damaged, not finite, incomplete or of another kind.
    """
    place, weight = chosen
    if not math.isfinite(weight):
        raise AdapterError(f"the weight of {place} is {weight}: it must be a finite number.")
    try:
        _refuse_run(place)
        # A model has such a file too, but is no checkpoint.
        full = (place / FULL_WEIGHTS).is_file() and not (place / "model_index.json").is_file()
    except OSError as error:
        raise AdapterError(f"the adapter {place} cannot be read: {error.strerror}.") from error
    if full:
        return _full(place, weight)
    stored = read_adapter(place)
    changes = {f"{name}.weight": AdaptedLayer(it, weight) for name, it in stored.layers.items()}
    name, identity = _trained_on(home_of(place))
    return Adapter(place, weight, stored.method, stored.rank, changes, name, identity, stored)


def _full(folder: Path, weight: float) -> Adapter:
    if (folder / MANIFEST_NAME).is_file():
        try:
            verify_files(folder)
        except LuthierError as error:
            raise AdapterError(f"the checkpoint {folder} is torn: {error}") from error
    records = _finite_records(folder / FULL_WEIGHTS)
    changes = {name: WholeWeight(record, weight) for name, record in records.items()}
    return Adapter(folder, weight, "full", 0, changes, *_trained_on(folder), None)


def _refuse_run(folder: Path) -> None:
    found = find_checkpoints(folder / CHECKPOINTS) or find_checkpoints(folder)
    if found:
        raise AdapterError(f"{folder} is a training run: name one of its checkpoints, {found[-1]}.")


def _finite_records(path: Path) -> dict[str, Record]:
    try:
        records = read_header(path)
        for name, record in records.items():
            if not torch.isfinite(record.read()).all():
                raise AdapterError(
                    f"{path} holds values that are no numbers (NaN or infinite) in {name}: the "
                    "training diverged. Take an earlier checkpoint."
                )
    except ModelError as error:
        raise AdapterError(f"the checkpoint is damaged: {error}") from error
    return records


def _trained_on(folder: Path) -> tuple[str, str]:
    """Name and identity of the model that a checkpoint of ours was trained on; else empty."""
    try:
        origin = read_json(folder / STATE_NAME)["origin"]
        return str(origin["model_name"]), str(origin["model_identity"])
    except (LuthierError, KeyError, TypeError):
        return "", ""
