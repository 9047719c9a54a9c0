"""The folder of a training run: what lies in it, and which folders may not become one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from luthier.output_folder import check_shared

STAGE = "train"  # in the records of a run and of its checkpoints
CHECKPOINTS = "checkpoints"  # the folder of them
METRICS_NAME = "metrics.jsonl"
SAMPLES, EVENTS, REPORT_NAME = "samples", "tensorboard", "report.html"


def check_run_folder(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse a folder in which a run would write over what is not a run's; before any work.

    Args:
        folder: of the run; one of an earlier or interrupted run is fine.
        inputs: the data set and the model.

    Raises:
        OutputError: see `output_folder.check_shared`.
    """
    names = (CHECKPOINTS, METRICS_NAME, SAMPLES, EVENTS, REPORT_NAME)
    check_shared(folder, STAGE, names, inputs)
