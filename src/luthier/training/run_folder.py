"""The folder of a training run: what lies in it, and which folders may not become one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from luthier.errors import OutputError
from luthier.files import is_temporary
from luthier.output_folder import RECORD_NAME, check_shared, foreign_files, told

STAGE = "train"  # in the records of a run and of its checkpoints
CHECKPOINTS = "checkpoints"  # the folder of them
METRICS_NAME = "metrics.jsonl"
SAMPLES, EVENTS, REPORT_NAME = "samples", "tensorboard", "report.html"
EVALUATION_NAME = "evaluation.json"  # what `luthier evaluate` may leave beside a checkpoint
_FILES = {RECORD_NAME, METRICS_NAME, REPORT_NAME, ".lock"}
_OURS = re.compile(rf"{SAMPLES}/(base|step=\d+)/\d+\.(wav|png)|{EVENTS}/events\.out\.tfevents\..+")


def foreign_in_run(folder: Path) -> list[str]:
    """What lies in the folder of a run and no run writes, by name below it, sorted."""
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        in_checkpoint = name.startswith(f"{CHECKPOINTS}/") and name.count("/") > 1
        is_ours = name in _FILES or _OURS.fullmatch(name) or is_temporary(path.name)
        if not (in_checkpoint or is_ours) and (path.is_symlink() or not path.is_dir()):
            found.append(name)
    for checkpoint in (folder / CHECKPOINTS).glob("[!.]*/"):
        inside = foreign_files(checkpoint, [EVALUATION_NAME])
        found += [f"{CHECKPOINTS}/{checkpoint.name}/{name}" for name in inside]
    return sorted(found)


def remove_run(folder: Path) -> None:
    """Delete a run, to train anew under the same name.

    Raises:
        OutputError: something else lies in its folder.
    """
    if foreign := foreign_in_run(folder):
        raise OutputError(f"{told(foreign)} in {folder}, and no training wrote that: move it away.")
    shutil.rmtree(folder, ignore_errors=True)


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
