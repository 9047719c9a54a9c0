"""Base model + LoRA adapter → a model of its own, in the same layout: it plays without adapter.

W' = W + scale·B·A (Hu et al., 2021), with scale = alpha/rank, or alpha/√rank with rsLoRA
(Kalajdzievski, 2023). The model is never instantiated: tensors go from file to file.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from luthier.errors import LuthierError, ModelError, PathError, StorageError, TrainingError
from luthier.files import atomic_folder, read_json, write_json, write_text
from luthier.music.model import MANIFEST_NAME, verify_files, write_manifest
from luthier.music.spec import SPEC_NAME, load_spec
from luthier.progress import SILENT, Display
from luthier.provenance import input_record, write_run
from luthier.training.lora import AdapterError, read_adapter_config, read_adapter_weights
from luthier.training.tensor_file import read_header, rewrite, type_of

Storage = Literal["exact", "base"]
_COMPONENT = "transformer"
_NOT_COPIED = (MANIFEST_NAME, "run.json", "README.md")


class MergeError(TrainingError):
    """Writing the merged model failed, or it does not compute what base + adapter compute."""

    exit_code = 3


@dataclass(frozen=True)
class MergeReport:
    """What a merge did."""

    output_dir: Path
    merged_tensors: int
    rank: int
    scaling: float  # what B·A was multiplied by, `scale` included
    size_bytes: int
    max_abs_difference: float | None  # of the velocity against base + adapter; None: not verified
    tolerance: float | None  # that difference allowed

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"output_dir": str(self.output_dir)}


@dataclass(frozen=True)
class Update:
    """What is added to one weight: factor · B @ A."""

    down: Tensor  # A (rank, inputs)
    up: Tensor  # B (outputs, rank)
    factor: float

    def added_to(self, weight: Tensor) -> Tensor:
        """The merged weight, computed in float32."""
        return weight.float() + self.factor * (self.up.float() @ self.down.float())


def merge(
    base_dir: Path,
    adapter_dir: Path,
    output_dir: Path,
    *,
    scale: float = 1.0,
    verify: bool = False,
    storage: Storage = "exact",
    display: Display = SILENT,
) -> MergeReport:
    """Write the merged model folder, whole or not at all.

    Args:
        base_dir: a model folder; checked against its manifest first.
        adapter_dir: a PEFT LoRA adapter, e.g. a checkpoint of `train`.
        output_dir: replaced when it is a model folder; anything else there is refused.
        scale: strength of the adapter; 1 is as trained.
        verify: load both and compare what they compute.
        storage: "exact" keeps merged tensors in float32 where the base has half precision, so that
            nothing of a fine adapter is rounded away; "base" stores them as the base does.

    Raises:
        ModelError: the base model is missing or damaged (exit code 1).
        AdapterError: the adapter is missing, damaged or of another model (2).
        MergeError: the result cannot be written, or differs too much (3).
    """
    if not base_dir.is_dir():
        raise ModelError(f"the base model {base_dir} does not exist, or is not a folder.")
    spec = load_spec(base_dir)
    verify_files(base_dir)
    updates = read_updates(adapter_dir, scale)
    _check_fits(updates, base_dir, adapter_dir)
    _refuse_output(output_dir, base_dir, adapter_dir)
    report: dict[str, Any] = {"max_abs_difference": None, "tolerance": None}
    try:
        with atomic_folder(output_dir) as folder, display.task("merge", len(updates)) as task:
            _copy_rest(base_dir, folder)
            for shard in _shards(base_dir):
                _merge_shard(shard, folder / _COMPONENT / shard.name, updates, storage)
                task.advance(sum(1 for name in read_header(shard) if name in updates))
            _settle_index(folder / _COMPONENT)
            _write_card(folder / "README.md", output_dir.name, spec.name, adapter_dir, scale)
            write_manifest(folder)
            if verify:
                from luthier.training.merge_check import compare

                check = compare(base_dir, adapter_dir, folder, scale, storage)
                report = {"max_abs_difference": check.difference, "tolerance": check.tolerance}
                if not check.difference <= check.tolerance:
                    raise MergeError(
                        f"the merged model differs from base + adapter by {check.difference:.2g}, "
                        f"more than {check.tolerance:.2g}: nothing was written."
                    )
            _write_record(folder, output_dir, base_dir, adapter_dir, scale, storage)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except (StorageError, PathError) as error:
        raise MergeError(f"merging failed: {error}") from error
    first = next(iter(updates.values()))
    return MergeReport(
        output_dir=output_dir,
        merged_tensors=len(updates),
        rank=max(update.down.shape[0] for update in updates.values()),
        scaling=first.factor,
        size_bytes=size,
        **report,
    )


def read_updates(adapter_dir: Path, scale: float = 1.0) -> dict[str, Update]:
    """What an adapter adds, by the name of the weight that it is added to."""
    config = read_adapter_config(adapter_dir)
    weights = read_adapter_weights(adapter_dir)
    if config.get("use_dora"):
        raise AdapterError(f"{adapter_dir} is a DoRA adapter: only LoRA and rsLoRA can be merged.")
    updates = {}
    for name in sorted(weights):
        module, _, kind = name.partition(".lora_A.")
        if not kind:
            continue
        up = weights.pop(f"{module}.lora_B.weight", None)
        down = weights.pop(name)
        if up is None or down.ndim != 2 or up.shape[1:] != down.shape[:1]:
            raise AdapterError(f"{adapter_dir}: the two matrices of {module} do not go together.")
        factor = scale * _scaling(config, module, down.shape[0])
        updates[f"{module}.weight"] = Update(down, up, factor)
    if weights or not updates:
        found = f"it also holds {min(weights)}" if weights else "it holds no LoRA matrices"
        raise AdapterError(f"{adapter_dir} cannot be merged: {found}.")
    return updates


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    patterns = config.get("alpha_pattern") or {}
    named = [
        value for key, value in patterns.items() if module == key or module.endswith("." + key)
    ]
    alpha = float(named[0] if named else config.get("lora_alpha", rank))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _shards(base_dir: Path) -> list[Path]:
    return sorted((base_dir / _COMPONENT).glob("*.safetensors"))


def _check_fits(updates: Mapping[str, Update], base_dir: Path, adapter_dir: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in _shards(base_dir):
        for name, record in read_header(shard).items():
            if type_of(record) is not None:
                shapes[name] = tuple(record["shape"])
    if not shapes:
        raise ModelError(f"{base_dir / _COMPONENT} has no weights in safetensors.")
    for name, update in updates.items():
        wanted = (update.up.shape[0], update.down.shape[1])
        if shapes.get(name) != wanted:
            found = f"has the shape {shapes[name]}" if name in shapes else "does not exist"
            raise AdapterError(
                f"{adapter_dir} was made for another model: it changes {name} of shape {wanted}, "
                f"which {found} in {base_dir}."
            )


def _refuse_output(output_dir: Path, *inputs: Path) -> None:
    """Replacing a folder is only right where it is a model, and neither of those that are read."""
    for source in inputs:
        if output_dir.resolve() in (source.resolve(), *source.resolve().parents):
            raise MergeError(f"{output_dir} holds {source}, which is read: choose another folder.")
    foreign = output_dir.is_dir() and not (output_dir / SPEC_NAME).is_file()
    if foreign and any(output_dir.iterdir()):
        raise MergeError(
            f"{output_dir} holds other files and would be replaced: choose an empty or new folder."
        )


def _copy_rest(base_dir: Path, folder: Path) -> None:
    for path in sorted(p for p in base_dir.rglob("*") if p.is_file()):
        place = path.relative_to(base_dir)
        weights = place.parts[0] == _COMPONENT and path.suffix == ".safetensors"
        if weights or place.as_posix() in _NOT_COPIED:
            continue
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / place)
    (folder / _COMPONENT).mkdir(exist_ok=True)


def _merge_shard(
    source: Path, target: Path, updates: Mapping[str, Update], storage: Storage
) -> None:
    def change(name: str, value: Tensor) -> Tensor:
        if name not in updates:
            return value
        merged = updates[name].added_to(value)
        if not torch.isfinite(merged).all():
            raise MergeError(f"the merged {name} holds values that are no numbers (NaN).")
        return merged

    def stored(name: str, kind: torch.dtype) -> torch.dtype:
        return torch.float32 if name in updates and storage == "exact" else kind

    rewrite(source, target, change, stored)


def _settle_index(folder: Path) -> None:
    """A sharded model's index says how many bytes there are: that may have changed."""
    for path in folder.glob("*.index.json"):
        index = read_json(path)
        index["metadata"]["total_size"] = sum(
            end - start
            for shard in folder.glob("*.safetensors")
            for start, end in (r["data_offsets"] for r in read_header(shard).values())
        )
        write_json(path, index)


def _write_card(path: Path, name: str, base: str, adapter_dir: Path, scale: float) -> None:
    licences = ", ".join(_licences(adapter_dir)) or "not recorded"
    write_text(
        path,
        f"# {name}\n\n"
        f"The music model `{base}` with the LoRA adapter `{adapter_dir.name}` merged into its "
        f"denoiser at strength {scale:g}.\n\n"
        f"- licences of the music that the adapter was trained on: {licences}\n"
        "- everything that it was made from, by sha256: `run.json`; `luthier trace` walks it back\n"
        "\nPlay it:\n\n```\n"
        f"luthier export {name} --out {name}-onnx\n"
        f'luthier generate "calm piano" --model {name}-onnx --out song.wav\n```\n',
    )


def _write_record(
    folder: Path, output: Path, base: Path, adapter: Path, scale: float, storage: Storage
) -> None:
    write_run(
        folder,
        stage="merge",
        inputs=[input_record(base), input_record(adapter)],
        config={"scale": scale, "storage": storage},
        licences=[*_licences(base), *_licences(adapter)],
        name=output.name,
    )


def _licences(folder: Path) -> list[str]:
    try:
        return list(read_json(folder / "run.json").get("licences", []))
    except (LuthierError, AttributeError):
        return []
