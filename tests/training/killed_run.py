"""A training run in a process of its own, to be killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from luthier.training.config import config_from
from luthier.training.run import train


def run(model: Path, dataset: Path, output: Path, values: dict[str, Any], resume: bool) -> None:
    torch.set_num_threads(1)
    train(
        model,
        dataset,
        output,
        config_from(values),
        resume=resume,
        cache_dir=output.parent / "features",
    )
