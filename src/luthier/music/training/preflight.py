"""What a run would do and what would stop it, before anything long: `luthier train --dry-run`."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.errors import TrainingError
from luthier.music.dataset.build import load_manifest, load_rows
from luthier.music.torch.model_folder import CLASSES, ModelFolder, open_model
from luthier.music.training.estimate import (
    PresetFit,
    Size,
    checkpoint_bytes,
    memory_bytes,
    presets_that_fit,
    step_seconds,
)
from luthier.music.training.task_mix import task_weights
from luthier.music.training.track_checks import TrackReport, inspect_tracks, refuse_unlicensed
from luthier.progress import SILENT, Display
from luthier.training.config import TrainConfig
from luthier.training.memory import memory_of
from luthier.training.optimizer import require_optimizer
from luthier.training.run import device_of, starting_point
from luthier.training.run_folder import CHECKPOINTS
from luthier.training.trainer import computes_in_bf16
from luthier.training.weights_io import prepare

_FREE = 0.95  # share of free disk that a run may plan to fill


@dataclass(frozen=True)
class Preflight:
    """The plan of a run."""

    model: str
    layout: str
    device: str
    adapter: str
    train_tracks: int
    validation_tracks: int
    refused: tuple[str, ...]  # tracks that would be left out, with the reason
    doubts: tuple[str, ...]  # labels that do not fit what is heard
    notes: tuple[str, ...]
    trained_parameters: int
    learning_rate: float
    start_step: int
    max_steps: int
    epochs: float  # passes over the data, repetition counted
    checkpoints: str
    memory_gb: float
    device_memory_gb: float  # 0 unknown
    hours: float
    disk_gb: float
    free_gb: float
    presets: tuple[PresetFit, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """For people."""
        there = f" of {self.device_memory_gb:.1f} GB" if self.device_memory_gb else ""
        lines = [
            f"would train {self.trained_parameters:,} parameters of {self.model} ({self.adapter}, "
            f"{self.layout} layout) on {self.device}",
            f"  {self.train_tracks} tracks, {self.validation_tracks} more to validate with",
            f"  steps {self.start_step} to {self.max_steps}, {self.epochs:g} epochs, "
            f"learning rate {self.learning_rate:.2g}",
            f"  about {self.memory_gb:.1f} GB{there}, {self.hours:.2g} hours, "
            f"{self.disk_gb:.2f} GB of disk ({self.free_gb:.0f} GB free)",
            f"  checkpoints in {self.checkpoints}",
            *(f"  note: {note}" for note in self.notes),
            *(f"  left out: {reason}" for reason in self.refused),
            *(f"  doubtful label: {doubt}" for doubt in self.doubts),
            "  presets for this model (estimated memory):",
        ]
        for fit in self.presets:
            here = "fits this device" if fit.fits_here else ""
            named = "" if fit.fits_name else "more than its name"
            settings = " ".join(_flag(name, value) for name, value in fit.settings.items())
            remark = ", ".join(filter(None, (here, named)))
            lines.append(
                f"    {fit.name:>5}  {fit.memory_gb:6.1f} GB  {settings}  {remark}".rstrip()
            )
        return "\n".join(lines)


def preflight(
    model_dir: Path,
    dataset_dir: Path,
    output_dir: Path,
    config: TrainConfig,
    *,
    resume: bool | int,
    display: Display = SILENT,
) -> Preflight:
    """Check everything that can be checked without training; write nothing.

    Every track is read once, as training would.

    Raises:
        LicenceError: a track without a record that allows AI training.
        LuthierError: what else `train` would raise before it starts.
    """
    model = open_model(model_dir)
    start = starting_point(output_dir / CHECKPOINTS, resume, SILENT)
    manifest = load_manifest(dataset_dir)
    rows = {split: load_rows(dataset_dir, split) for split in ("train", "validation")}
    every = [*rows["train"], *rows["validation"]]
    refuse_unlicensed(every, manifest.get("licences", ()))
    device = device_of(config)
    tasks = tuple(task_weights(config.tasks))
    found = {s: inspect_tracks(rows[s], tasks, config.crop_s, display) for s in rows}
    usable = [track for track in found["train"] if not track.skipped]
    both = [*found["train"], *found["validation"]]
    refused = tuple(f"{t.key}: {t.skipped}" for t in both if t.skipped)
    if not usable:
        raise TrainingError(
            f"there is nothing to train on: of {len(rows['train'])} tracks in the train split of "
            f"{dataset_dir} none can be used. {' '.join(refused[:3])}"
        )
    size = _size(model, config, max(track.seconds for track in usable))
    half = computes_in_bf16(config, device)
    samples = len(rows["train"]) * int(manifest.get("repeat_count", 1))
    start_step = 0 if start is None else start.state.step
    seconds = step_seconds(size, config, device, half=half)
    seen = config.max_steps * config.batch_size * config.accumulate
    available = memory_of(device)
    disk, free = _disk(size, config, model, both), _free(output_dir)
    if disk > free * _FREE:
        raise TrainingError(
            f"the run needs about {disk / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are free: "
            "free some, or lower --rank, --keep or --samples."
        )
    return Preflight(
        model=model.spec.name,
        layout=model.layout,
        device=str(device),
        adapter=config.adapter,
        train_tracks=len(usable),
        validation_tracks=sum(1 for track in found["validation"] if not track.skipped),
        refused=refused,
        doubts=tuple(f"{t.key}: {doubt}" for t in both for doubt in t.warnings),
        notes=config.notes,
        trained_parameters=size.trained,
        learning_rate=config.peak_rate(size.width),
        start_step=start_step,
        max_steps=config.max_steps,
        epochs=round(seen / samples, 2),
        checkpoints=str(output_dir / CHECKPOINTS),
        memory_gb=round(memory_bytes(size, config, half=half) / 1e9, 3),
        device_memory_gb=round(available / 1e9, 1),
        hours=round(seconds * max(0, config.max_steps - start_step) / 3600, 6),
        disk_gb=round(disk / 1e9, 4),
        free_gb=round(free / 1e9, 1),
        presets=tuple(presets_that_fit(size, config, available, on_cpu=device.type == "cpu")),
    )


def _size(model: ModelFolder, config: TrainConfig, longest_s: float) -> Size:
    """Sizes of the denoiser and of what is trained, without memory for either."""
    with torch.device("meta"):
        transformer = CLASSES["transformer"].from_config(model.config("transformer"))
        parameters = sum(p.numel() for p in transformer.parameters())
        trained = prepare(transformer, config)
    require_optimizer(config)
    values, spec = transformer.config, model.spec
    frames = spec.frames(min(config.crop_s, longest_s))
    return Size(
        parameters=parameters,
        trained=sum(p.numel() for _, p in trained),
        layers=int(values.num_hidden_layers),
        width=int(values.hidden_size),
        inner=int(values.intermediate_size),
        tokens=-(-frames // spec.patch_size),
    )


def _disk(size: Size, config: TrainConfig, model: ModelFolder, tracks: list[TrackReport]) -> float:
    spec = model.spec
    sounds = 1 + ("cover" in task_weights(config.tasks))
    latents = sum(t.seconds for t in tracks) * spec.frames_per_second * spec.latent_channels * 4
    width = int(model.config("condition_encoder")["hidden_size"])
    prompts = len(tracks) * len(config.tasks) * 300 * width * 4  # some 300 tokens each
    played = config.max_steps / config.save_every * config.samples * config.sample_s
    samples = played * spec.sample_rate * 4  # stereo, 16 bit
    # One more while the newest is written and before the worst is gone.
    saved = checkpoint_bytes(size, config) * (config.keep + 2)
    return sounds * latents + prompts + samples + saved


def _free(folder: Path) -> int:
    """Free bytes on the disk where `folder` will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {value}"
