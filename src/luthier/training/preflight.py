"""What a run would do and what would stop it, before anything long: `luthier train --dry-run`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel

from luthier.dataset.build import load_manifest, load_rows
from luthier.errors import TrainingError
from luthier.files import read_json
from luthier.music.spec import load_spec
from luthier.progress import SILENT
from luthier.training.checkpoint import CHECKPOINTS
from luthier.training.config import TrainConfig
from luthier.training.loop import device_of, starting_point
from luthier.training.lora import add_adapter


@dataclass(frozen=True)
class Preflight:
    """The plan of a run."""

    model: str
    device: str
    train_tracks: int
    validation_tracks: int
    refused: tuple[str, ...]  # tracks whose audio is not there, with the reason
    trained_parameters: int
    learning_rate: float
    start_step: int
    max_steps: int
    epochs: float  # passes over the data, repetition counted
    checkpoints: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """For people."""
        lines = [
            f"would train {self.trained_parameters:,} parameters of {self.model} on {self.device}",
            f"  {self.train_tracks} tracks, {self.validation_tracks} more to validate with",
            f"  steps {self.start_step} to {self.max_steps}, {self.epochs:g} epochs, "
            f"learning rate {self.learning_rate:.2g}",
            f"  checkpoints in {self.checkpoints}",
        ]
        return "\n".join([*lines, *(f"  left out: {reason}" for reason in self.refused)])


def preflight(
    model_dir: Path, dataset_dir: Path, output_dir: Path, config: TrainConfig, *, resume: bool | int
) -> Preflight:
    """Check everything that can be checked without computing; write nothing.

    Raises:
        LuthierError: what `train` would raise before it starts.
    """
    spec = load_spec(model_dir)
    start = starting_point(output_dir / CHECKPOINTS, resume, SILENT)
    rows = {split: load_rows(dataset_dir, split) for split in ("train", "validation")}
    missing = [r for r in rows["train"] if not Path(r["filename"]).is_file()]
    if len(missing) == len(rows["train"]):
        raise TrainingError(
            f"there is nothing to train on: of {len(rows['train'])} tracks in the train split of "
            f"{dataset_dir} the audio of {len(missing)} is gone."
        )
    width, parameters = _count(model_dir, config)
    samples = len(rows["train"]) * int(load_manifest(dataset_dir).get("repeat_count", 1))
    seen = config.max_steps * config.batch_size * config.accumulate
    return Preflight(
        model=spec.name,
        device=str(device_of(config)),
        train_tracks=len(rows["train"]) - len(missing),
        validation_tracks=len(rows["validation"]),
        refused=tuple(f"{row['keys']}: {row['filename']} is gone." for row in missing),
        trained_parameters=parameters,
        learning_rate=config.peak_rate(width),
        start_step=0 if start is None else start.state.step,
        max_steps=config.max_steps,
        epochs=round(seen / samples, 2),
        checkpoints=str(output_dir / CHECKPOINTS),
    )


def _count(model_dir: Path, config: TrainConfig) -> tuple[int, int]:
    """Width of the denoiser and size of the adapter, without memory for either."""
    with torch.device("meta"):
        values = read_json(model_dir / "transformer" / "config.json")
        transformer = AceStepTransformer1DModel.from_config(values)
        parameters = add_adapter(transformer, config)
    return int(transformer.config.hidden_size), sum(p.numel() for _, p in parameters)
