"""Two real checkpoints of a real, tiny training run, with the data set that they come from."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tiny import make_tiny_model
from tiny_tracks import make_dataset

_SESSION = tempfile.TemporaryDirectory(prefix="luthier-tiny-run-")
STEPS = (1, 2)


@functools.cache
def tiny_run() -> Path:
    """A folder with `model`, `dataset` and `logs`; made once a session, read only."""
    from luthier.training.config import config_from
    from luthier.training.run import train

    folder = Path(_SESSION.name)
    model = make_tiny_model(folder / "model")
    dataset = make_dataset(folder / "dataset")
    values = {"max_steps": STEPS[-1], "save_every": 1, "batch_size": 2, "crop_s": 1.0, "rank": 4}
    values |= {"learning_rate": 0.05, "samples": 0, "tensorboard": False}
    train(model, dataset, folder / "logs", config_from(values))
    return folder


def checkpoint(step: int) -> Path:
    """One of the two checkpoints."""
    return next((tiny_run() / "logs" / "checkpoints").glob(f"epoch=*-step={step}_lora"))


def validation_set() -> Path:
    """The data set: its validation part is what is measured against."""
    return tiny_run() / "dataset" / "set"
