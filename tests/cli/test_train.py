"""`luthier train` as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctrl_c import heed_ctrl_c
from luthier.cli.main import main
from tiny import make_tiny_model
from tiny_tracks import make_dataset

QUICK = ["--max-steps", "4", "--save-every", "2", "--batch-size", "2", "--crop-s", "1"]
QUICK += ["--samples", "0", "--no-tensorboard"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train")
    make_tiny_model(root / "model")
    make_dataset(root)
    return root


def words(made: Path, logs: Path, *more: str) -> list[str]:
    return [
        *("train", "--dataset", str(made / "set"), "--exp-name", "calm", "--model"),
        *(str(made / "model"), "--logs-dir", str(logs), "--cache-dir", str(made / "cache")),
        *more,
    ]


def test_train_and_resume(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(made, tmp_path, *QUICK, "--rank", "2", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    folder = tmp_path / "calm" / "checkpoints"
    assert told["checkpoint"] == str(folder / "epoch=1-step=4_lora")
    assert (told["step"], told["stopped_by"]) == (4, 0)
    assert (
        json.loads((folder / "epoch=1-step=4_lora" / "adapter_config.json").read_text())["r"] == 2
    )
    # What is not said again is the checkpoint's.
    assert main(words(made, tmp_path, "--resume", "--max-steps", "6", "--quiet")) == 0
    assert (folder / "epoch=2-step=6_lora").is_dir()
    assert main(words(made, tmp_path, "--resume-from", "2", "--max-steps", "6")) == 0
    said = capsys.readouterr().out
    assert "luthier merge" in said
    assert f"report: {tmp_path / 'calm' / 'report.html'}" in said
    # A run that has nothing left to do trains nothing, and says so.
    assert main(words(made, tmp_path, "--resume")) == 1
    assert "nothing was trained" in capsys.readouterr().out


def test_refusals(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(made, tmp_path, "--rank", "0")) == 2
    assert "rank is 0" in capsys.readouterr().err
    assert main(words(made, tmp_path, "--resume-from", "3")) == 1
    assert "no checkpoint of step 3" in capsys.readouterr().err
    assert main([*words(made, tmp_path), "--exp-name", "../calm"]) == 2
    assert main([*words(made, tmp_path), "--dataset", str(tmp_path / "none")]) == 1
    assert "data set" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_writes_nothing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(made, tmp_path, *QUICK, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "would train" in said
    assert "3 tracks" in said
    assert list(tmp_path.iterdir()) == []


def test_settings_come_from_a_file_and_flags_win(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "lora.json"
    settings.write_text('{"r": 8, "lora_alpha": 4, "max_steps": 9}')
    arguments = ["--config", str(settings), "--max-steps", "3", "--dry-run", "--json"]
    assert main(words(made, tmp_path / "logs", *arguments)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["max_steps"] == 3
    assert told["trained_parameters"] == 7168


def test_ctrl_c_saves_and_says_how_to_go_on(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "luthier", *words(made, tmp_path, "--max-steps", "100000")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--batch-size", "2", "--crop-s", "1", "--samples", "0", "--no-tensorboard"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        preexec_fn=heed_ctrl_c,
    )
    metrics = tmp_path / "calm" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.is_file() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped and saved; go on with  luthier train --dataset" in out
    assert "--resume" in out
    assert list((tmp_path / "calm" / "checkpoints").glob("epoch=*-step=*_lora"))
