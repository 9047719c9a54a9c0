"""The folder of a run: what training deletes in it is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import OutputError
from luthier.files import write_json
from luthier.training.checkpoint import remove_leftovers, retire
from luthier.training.run_folder import CHECKPOINTS, foreign_in_run, remove_run


def checkpoint(run: Path, step: int) -> Path:
    folder = run / CHECKPOINTS / f"epoch=0-step={step}_lora"
    write_json(folder / "state.json", {"validation_loss": float(step)})
    write_json(folder / "run.json", {"stage": "train", "inputs": [], "files": ["state.json"]})
    write_json(folder / "evaluation.json", {})
    return folder


def test_a_checkpoint_with_something_else_in_it_is_not_retired(tmp_path: Path) -> None:
    folders = [checkpoint(tmp_path, step) for step in (1, 2, 3, 4)]
    (folders[1] / "my take.wav").write_bytes(b"a recording")
    retire(tmp_path / CHECKPOINTS, keep=1)
    left = sorted(p.name for p in (tmp_path / CHECKPOINTS).iterdir())
    assert left == [folders[0].name, folders[1].name, folders[3].name]
    assert (folders[1] / "my take.wav").read_bytes() == b"a recording"


def test_only_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    place = tmp_path / CHECKPOINTS
    gone = [".epoch=0-step=9_lora.0123abcd.tmp", ".epoch=0-step=3_lora.tmp"]
    kept = [".mine.tmp", ".epoch.tmp", ".mine.0123abcd.tmp", "mine.tmp"]
    for name in [*gone, *kept]:
        (place / name).mkdir(parents=True)
        (place / name / "x.wav").write_bytes(b"x")
    remove_leftovers(place)
    assert sorted(p.name for p in place.iterdir()) == sorted(kept)


@pytest.mark.parametrize(
    "name",
    [
        *("mine.wav", "samples/mine.wav", "samples/base/mine.wav", "tensorboard/notes.txt"),
        *(f"{CHECKPOINTS}/mine.wav", f"{CHECKPOINTS}/epoch=0-step=1_lora/mine.wav"),
        *(f"{CHECKPOINTS}/mine/a.wav", ".hidden"),
    ],
)
def test_a_run_goes_only_when_all_of_it_is_a_runs(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    checkpoint(run, 1)
    for own in ("run.json", "metrics.jsonl", "report.html", ".lock", "samples/base/0.wav"):
        (run / own).parent.mkdir(parents=True, exist_ok=True)
        (run / own).write_text("{}")
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.tfevents.1.host.2.0").touch()
    assert foreign_in_run(run) == []
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_bytes(b"precious")
    assert foreign_in_run(run) == [name]
    with pytest.raises(OutputError, match="no training wrote that"):
        remove_run(run)
    assert (run / name).read_bytes() == b"precious"
    (run / name).unlink()
    remove_run(run)
    assert not [p for p in run.rglob("*") if p.is_file()]
