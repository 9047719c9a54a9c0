"""Base model + adapters → a model of its own: it plays without adapter, in luthier and diffusers.

W' = W + Σ what each adapter adds, computed in float32. The model is never instantiated: tensors go
from file to file, so memory holds one layer's, however large the model is.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from luthier.errors import (
    AdapterError,
    ModelError,
    OutputError,
    PathError,
    StorageError,
    TrainingError,
)
from luthier.music.torch.model import verify_model, write_manifest
from luthier.music.torch.model_folder import ModelFolder, open_model
from luthier.music.training.merge_check import Check, compare
from luthier.output_folder import check_output, output_folder, stage_of
from luthier.progress import SILENT, Display
from luthier.training.merge_adapters import Adapter, Weighted, open_adapter
from luthier.training.merge_base import (
    DENOISER,
    Shard,
    rest_of,
    shards_of,
    with_dtype,
    write_index,
    write_rest,
)
from luthier.training.merge_card import write_card, write_record
from luthier.training.tensor_file import Slot, write_tensors

STAGE = "merge"  # in the record of what this module writes
Storage = Literal["base", "exact"]
_NAMED = 3  # how many tensors that do not fit are named
_SPARE = 2**24  # bytes of disk for cards, configurations and manifest


class MergeError(TrainingError):
    """Writing the merged model failed, or it does not compute what base + adapters compute."""

    exit_code = 3


@dataclass(frozen=True)
class MergePlan:
    """What a merge will do; everything was checked but the model's arithmetic."""

    base: ModelFolder
    adapters: tuple[Adapter, ...]
    output_dir: Path
    shards: tuple[Shard, ...]
    storage: Storage
    changed: frozenset[str]  # names of the weights that change
    size_bytes: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "base_model": str(self.base.folder),
            "layout": self.base.layout,
            "output_dir": str(self.output_dir),
            "adapters": [adapter.as_dict() for adapter in self.adapters],
            "storage": self.storage,
            "merged_tensors": len(self.changed),
            "tensors": sum(len(shard.slots) for shard in self.shards),
            "size_bytes": self.size_bytes,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class MergeReport:
    """What a merge did."""

    plan: MergePlan
    size_bytes: int
    rounded_away: int  # tensors of which rounding to the base's type took most of the change
    check: Check | None  # None: not verified

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        told = {"size_bytes": self.size_bytes, "rounded_away": self.rounded_away}
        return self.plan.as_dict() | told | {"verify": self.check and asdict(self.check)}


def plan_merge(
    base_dir: Path,
    adapters: Sequence[Weighted],
    output_dir: Path,
    *,
    storage: Storage = "base",
    overwrite: bool = False,
) -> MergePlan:
    """Check all that can be checked before writing; arguments and errors are those of `merge`."""
    refuse_output(output_dir, [base_dir, *(a.folder for a in adapters)], overwrite)
    base = open_model(base_dir)
    shards = shards_of(base)
    if not adapters:
        raise AdapterError("there is no adapter to merge.")
    opened = tuple(open_adapter(adapter) for adapter in adapters)
    for adapter in opened:
        _check_fits(adapter, base, shards)
    changed = frozenset(name for adapter in opened for name in adapter.changes)
    if storage == "exact":
        exact = dict.fromkeys(changed, "F32")
        shards = [with_dtype(s, exact) if s.component == DENOISER else s for s in shards]
    size = sum(shard.size for shard in shards)
    size += sum(path.stat().st_size for path in rest_of(base).values())
    _refuse_disk(output_dir, size)
    notes = tuple(note for adapter in opened if (note := _stranger(adapter, base)))
    return MergePlan(base, opened, output_dir, tuple(shards), storage, changed, size, notes)


def merge(
    base_dir: Path,
    adapters: Sequence[Weighted],
    output_dir: Path,
    *,
    storage: Storage = "base",
    verify: bool = False,
    overwrite: bool = False,
    display: Display = SILENT,
) -> MergeReport:
    """Write the merged model folder, whole or not at all.

    Args:
        base_dir: a model folder in any layout that `open_model` knows; one with a manifest is
            checked against it. The original layout of ACE-Step 1.5 becomes diffusers'.
        adapters: of any spelling (LoRA, rsLoRA, DoRA, LoKr) or full checkpoints, with strengths.
        output_dir: a new or empty folder, outside of what is read.
        storage: "base" keeps every tensor's type; "exact" keeps those that change in float32, so
            that nothing of a fine adapter is rounded away.
        verify: load base and result and compare what they compute; needs memory for the denoiser.
        overwrite: replace `output_dir` where it is a merged model.

    Raises:
        ModelError, PathError: the base model is missing or damaged (exit code 1).
        AdapterError: an adapter is missing, damaged or of another model (2).
        MergeError: the result cannot be written, or differs too much (3).
    """
    plan = plan_merge(base_dir, adapters, output_dir, storage=storage, overwrite=overwrite)
    for note in plan.notes:
        display.say(note)
    verify_model(plan.base)
    try:
        read = [plan.base.folder, *(adapter.folder for adapter in plan.adapters)]
        with (
            output_folder(output_dir, STAGE, read) as folder,
            display.task("merge", len(plan.shards)) as task,
        ):
            write_rest(plan.base, folder)
            writer = _Writer(plan)
            for shard in plan.shards:
                writer.write(shard, folder)
                task.advance(note=f"{shard.component}/{shard.name}")
            write_index(folder, plan.shards)
            check = _verified(plan, folder) if verify else None
            write_card(folder, plan.base, plan.adapters, output_dir.name, check)
            write_manifest(folder)
            write_record(folder, plan.base, plan.adapters, plan.as_dict(), check)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except (StorageError, PathError) as error:
        raise MergeError(f"merging failed: {error}") from error
    return MergeReport(plan, size, writer.rounded_away, check)


class _Writer:
    """Writes the shards of a plan, and counts what rounding swallowed."""

    def __init__(self, plan: MergePlan) -> None:
        self.plan = plan
        self.rounded_away = 0

    def write(self, shard: Shard, folder: Path) -> None:
        (folder / shard.component).mkdir(exist_ok=True)
        change = self._merged if shard.component == DENOISER else _finite
        write_tensors(folder / shard.component / shard.name, shard.slots, change)

    def _merged(self, slot: Slot, value: Tensor) -> Tensor:
        _finite(slot, value)
        changes = [a.changes[slot.name] for a in self.plan.adapters if slot.name in a.changes]
        if not changes:
            return value
        # Each adapter is relative to the base, not to what came before it.
        weight = value.float()
        total = changes[0].delta(weight)
        for change in changes[1:]:
            total += change.delta(weight)
        stored = (weight + total).to(torch.float32 if slot.dtype == "F32" else value.dtype)
        if not torch.isfinite(stored).all():
            raise MergeError(
                f"the merged {slot.name} is too large for {slot.dtype}: take less of the adapter, "
                "or store what changes exactly (float32)."
            )
        lost = (stored.float() - weight).sub_(total)
        self.rounded_away += bool(lost.norm() > total.norm() / 2)
        return stored


def _finite(slot: Slot, value: Tensor) -> Tensor:
    if not torch.isfinite(value).all():
        raise ModelError(
            f"the base model holds values that are no numbers (NaN or infinite) in {slot.name}: it "
            "is damaged. Get it again."
        )
    return value


def _verified(plan: MergePlan, folder: Path) -> Check:
    check = compare(plan.base, plan.adapters, folder)
    if not check.passed:
        raise MergeError(f"{check.sentence} Nothing was written.")
    return check


def _check_fits(adapter: Adapter, base: ModelFolder, shards: Sequence[Shard]) -> None:
    slots = {slot.name: slot for s in shards if s.component == DENOISER for slot in s.slots}
    wrong = []
    for name, change in adapter.changes.items():
        found = tuple(slots[name].source.shape) if name in slots else None
        if found != change.shape:
            there = f"has the shape {found}" if found else "does not exist"
            wrong.append(f"{name} of shape {change.shape} {there}")
        elif adapter.method != "full" and slots[name].dtype not in ("F64", "F32", "F16", "BF16"):
            raise ModelError(
                f"{base.folder} is quantised: {name} is stored as {slots[name].dtype}. Merge into "
                "the model that it was made from."
            )
    if wrong:
        more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise AdapterError(
            f"{adapter.folder} was made for another model than {base.folder}: in the latter, "
            f"{'; '.join(wrong[:_NAMED])}{more}."
        )


def _stranger(adapter: Adapter, base: ModelFolder) -> str:
    """A note where an adapter fits, but was trained on other weights, e.g. on base for turbo."""
    if not adapter.model_identity or adapter.model_identity == base.identity:
        return ""
    return (
        f"{adapter.folder} was trained on other weights ({adapter.model_name}) than those of "
        f"{base.folder}: it fits, but may sound different."
    )


def refuse_output(output_dir: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    """Raise `MergeError` where the result may not go to `output_dir`; before any work."""
    try:
        check_output(output_dir, STAGE, inputs)
        if not overwrite and stage_of(output_dir) == STAGE:
            raise OutputError(
                f"{output_dir} exists and is not empty: choose another folder or --overwrite it."
            )
    except PathError as error:
        raise MergeError(str(error)) from error


def _refuse_disk(output_dir: Path, size: int) -> None:
    place = output_dir.resolve()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK):
        raise MergeError(f"{output_dir} cannot be written: {_why_not(place)}.")
    free = shutil.disk_usage(place).free
    if free < size + _SPARE:
        raise MergeError(
            f"the disk is full: the merged model needs {math.ceil(size / 1e6)} MB, but {place} has "
            f"only {free // 10**6} MB free. Free some space, or choose another output folder."
        )


def _why_not(place: Path) -> str:
    # Permission bits do not bind root: what root cannot write is read-only.
    read_only = bool(os.statvfs(place).f_flag & os.ST_RDONLY)
    return os.strerror(errno.EROFS if read_only else errno.EACCES)
