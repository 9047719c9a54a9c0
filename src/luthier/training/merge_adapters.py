"""Adapters to merge: checked on disk, matrix by matrix, before anything is written.

PEFT's format, as `luthier train` and ACE-Step's own trainers save it, and the full weights of
`luthier train --adapter full`. Nothing is kept in memory but where the matrices lie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft.utils.other import get_pattern_key

from luthier.errors import LuthierError, ModelError
from luthier.files import read_json
from luthier.music.model import MANIFEST_NAME, verify_files
from luthier.music.original_layout import diffusers_name
from luthier.training.checkpoint import STATE_NAME, find_checkpoints
from luthier.training.lora import PREFIX, WEIGHTS_NAME, AdapterError, read_adapter_config
from luthier.training.merge_change import FULL, Change
from luthier.training.run_folder import CHECKPOINTS
from luthier.training.tensor_file import Record, read_header
from luthier.training.trained import FULL_WEIGHTS

_ROLES = re.compile(
    r"(?P<module>.+)\.(?P<role>lora_[AB]|lora_magnitude_vector|lokr_w[12](?:_[ab])?)(?:\.weight)?"
)
# These take part of the base weights into the adapter, so that base + adapter is not their sum.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")


class Weighted(NamedTuple):
    """An adapter's folder and its strength; 1 is as trained."""

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
    folder, weight = chosen
    if not math.isfinite(weight):
        raise AdapterError(f"the weight of {folder} is {weight}: it must be a finite number.")
    _refuse_run(folder)
    # A model has such a file too, but is no checkpoint.
    full = (folder / FULL_WEIGHTS).is_file() and not (folder / "model_index.json").is_file()
    config = {} if full else read_adapter_config(folder)
    if (folder / MANIFEST_NAME).is_file():
        try:
            verify_files(folder)
        except LuthierError as error:
            raise AdapterError(f"the LoRA checkpoint {folder} is torn: {error}") from error
    records = _finite_records(folder / (FULL_WEIGHTS if full else WEIGHTS_NAME))
    if full:
        changes = {name: Change({FULL: record}, weight) for name, record in records.items()}
        method = "full"
    else:
        changes = dict(_changes(folder, config, records, weight))
        method = _method(config)
    if not changes:
        raise AdapterError(f"{folder} cannot be merged: it holds no matrices of an adapter.")
    rank = max(change.rank for change in changes.values()) or int(config.get("r", 0))
    name, identity = _trained_on(folder)
    return Adapter(folder, weight, method, rank, changes, name, identity)


def native_name(name: str) -> str:
    """A weight's name in diffusers; trainers of the original layout say q_proj and so on."""
    try:
        found = diffusers_name("decoder." + name.removeprefix("decoder."))
    except ModelError:
        return name
    return found[1] if found else name


def _refuse_run(folder: Path) -> None:
    found = find_checkpoints(folder / CHECKPOINTS) or find_checkpoints(folder)
    if found:
        raise AdapterError(f"{folder} is a training run: name one of its checkpoints, {found[-1]}.")


def _finite_records(path: Path) -> dict[str, Record]:
    if not path.is_file():
        raise AdapterError(f"{path.parent} is not a LoRA adapter: {path.name} is missing.")
    try:
        records = read_header(path)
        for name, record in records.items():
            if not torch.isfinite(record.read()).all():
                raise AdapterError(
                    f"{path} holds values that are no numbers (NaN or infinite) in {name}: the "
                    "training diverged. Take an earlier checkpoint."
                )
    except ModelError as error:
        raise AdapterError(f"the LoRA checkpoint is damaged: {error}") from error
    return records


def _changes(
    folder: Path, config: Mapping[str, Any], records: Mapping[str, Record], weight: float
) -> Iterator[tuple[str, Change]]:
    modules: dict[str, dict[str, Record]] = {}
    for name, record in records.items():
        match = _ROLES.fullmatch(name.removeprefix(PREFIX))
        if match is None:
            raise AdapterError(
                f"{folder} cannot be merged: it also holds {name}. Matrices of LoRA, DoRA and LoKr "
                "of linear layers can be merged."
            )
        modules.setdefault(match["module"], {})[match["role"]] = record
    _refuse_config(folder, config)
    for module, tensors in modules.items():
        rank = _refuse_incomplete(folder, config, module, tensors)
        yield (
            native_name(f"{module}.weight"),
            Change(tensors, weight * _scaling(config, module, rank)),
        )


def _refuse_config(folder: Path, config: Mapping[str, Any]) -> None:
    alpha = "alpha" if config["peft_type"] == "LOKR" else "lora_alpha"
    for name in ("r", alpha):
        value = config.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            found = "is missing" if value is None else f"is {value!r}"
            raise AdapterError(
                f"{folder}/adapter_config.json: {name} {found}, but rank and alpha (numbers above "
                "0) say how strong the adapter is. Write in what it was trained with."
            )
    initial = str(config.get("init_lora_weights", ""))
    if initial.lower().startswith(_CHANGES_BASE):
        raise AdapterError(
            f"{folder} was initialised by {initial}, which changes the base weights too: convert "
            "it to a plain LoRA first (peft: save_pretrained with "
            "path_initial_model_for_weight_conversion)."
        )


def _refuse_incomplete(
    folder: Path, config: Mapping[str, Any], module: str, tensors: Mapping[str, Record]
) -> int:
    """Check that a module's matrices are all there and go together; return its rank."""
    patterns = config.get("rank_pattern") or {}
    rank = int(patterns.get(get_pattern_key(list(patterns), module), config["r"]))
    if config["peft_type"] == "LOKR":
        whole = all(
            role in tensors or {f"{role}_a", f"{role}_b"} <= tensors.keys()
            for role in ("lokr_w1", "lokr_w2")
        )
        pairs = [(f"{role}_a", f"{role}_b") for role in ("lokr_w1", "lokr_w2")]
        inner = [(tensors[a], tensors[b]) for a, b in pairs if a in tensors and b in tensors]
    else:
        wanted = {"lora_A", "lora_B"} | (
            {"lora_magnitude_vector"} if config.get("use_dora") else set()
        )
        whole = wanted == tensors.keys()
        inner = [(tensors["lora_B"], tensors["lora_A"])] if whole else []
    if not whole or any(len(r.shape) != 2 for r in tensors.values() if r is not _length(tensors)):
        raise AdapterError(
            f"{folder}: the matrices of {module} do not go together: {_told(tensors)}."
        )
    for up, down in inner:
        if not up.shape[1] == down.shape[0] == rank:
            raise AdapterError(
                f"{folder}: the matrices of {module} do not go together: {_told(tensors)}, but the "
                f"configuration says rank {rank}."
            )
    length = _length(tensors)
    if length is not None and length.shape != tensors["lora_B"].shape[:1]:
        raise AdapterError(f"{folder}: the magnitudes of {module} are not one a row.")
    return rank


def _length(tensors: Mapping[str, Record]) -> Record | None:
    return tensors.get("lora_magnitude_vector")


def _told(tensors: Mapping[str, Record]) -> str:
    return ", ".join(f"{role} {record.shape}" for role, record in sorted(tensors.items()))


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    lokr = config["peft_type"] == "LOKR"
    patterns = config.get("alpha_pattern") or {}
    default = config["alpha" if lokr else "lora_alpha"]
    alpha = float(patterns.get(get_pattern_key(list(patterns), module), default))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") and not lokr else rank)


def _method(config: Mapping[str, Any]) -> str:
    if config["peft_type"] == "LOKR":
        return "LoKr"
    if config.get("use_dora"):
        return "DoRA"
    return "rsLoRA" if config.get("use_rslora") else "LoRA"


def _trained_on(folder: Path) -> tuple[str, str]:
    """Name and identity of the model that a checkpoint of ours was trained on; else empty."""
    try:
        origin = read_json(folder / STATE_NAME)["origin"]
        return str(origin["model_name"]), str(origin["model_identity"])
    except (LuthierError, KeyError, TypeError):
        return "", ""
