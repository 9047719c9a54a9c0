"""`scripts/run_training.sh` by the command-line contract: flags, folders, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from luthier.cli.scripts.run_training import build_parser, main
from luthier.training.config import config_from, read_config
from tiny import make_tiny_model
from tiny_tracks import make_dataset

ROOT = Path(__file__).parents[2]
CONTRACT = {
    *("--dataset", "--exp-name", "--config", "--checkpoint-dir", "--max-steps"),
    *("--resume", "--resume-from", "--learning-rate", "--gradient-clip-val"),
    *("--help", "-h", "--version", "--verbose", "-v", "--quiet", "-q", "--json", "--dry-run"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("script")
    make_tiny_model(root / "model")
    make_dataset(root)
    (root / "config").mkdir()
    settings = json.loads((ROOT / "config" / "lofi_lora_config.json").read_text())
    settings |= {"r": 4, "crop_s": 1.0, "save_every": 2, "samples": 0, "tensorboard": False}
    (root / "config" / "lofi_lora_config.json").write_text(json.dumps(settings))
    return root


@pytest.fixture(autouse=True)
def _folders(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOFI_CONFIG_DIR", str(made / "config"))
    monkeypatch.setenv("LOFI_CHECKPOINT_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("ACE_STEP_DIR", str(tmp_path / "ace-step"))


def words(made: Path, *more: str) -> list[str]:
    base = ["--dataset", str(made / "set"), "--exp-name", "calm"]
    return [*base, "--checkpoint-dir", str(made / "model"), *more]


def test_the_flags_are_the_contracts() -> None:
    found = {o for action in build_parser()._actions for o in action.option_strings}
    assert found == CONTRACT


def test_the_shipped_configuration_is_the_contracts() -> None:
    config = config_from(read_config(ROOT / "config" / "lofi_lora_config.json"))
    assert (config.rank, config.alpha, config.use_rslora) == (256, 32, True)
    assert (config.learning_rate, config.gradient_clip, config.save_every) == (1e-4, 0.5, 5000)
    assert config.modules == ("to_k", "to_out.0", "to_q", "to_v")
    (note,) = config.notes
    assert note.startswith("speaker_embedder, linear_q, linear_k, linear_v have their counterpart")


def test_train_and_resume(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(made, "--max-steps", "4", "--learning-rate", "5e-5", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    folder = tmp_path / "logs" / "calm" / "checkpoints"
    assert Path(told["checkpoint"]) == folder / "epoch=0-step=4_lora"
    state = json.loads((folder / "epoch=0-step=4_lora" / "state.json").read_text())
    assert state["config"]["learning_rate"] == 5e-5
    # On resuming what is not said is the checkpoint's, the learning rate too.
    assert main(words(made, "--resume", "--max-steps", "6", "--quiet")) == 0
    assert (folder / "epoch=1-step=6_lora").is_dir()
    assert main(words(made, "--resume-from", "4", "--max-steps", "6", "--quiet")) == 0
    assert main(words(made, "--resume", "--quiet")) == 1  # nothing was trained


def test_what_is_wrong_exits_with_one(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ["--dataset", str(made / "set"), "--exp-name", "calm"]
    assert main(missing) == 1
    said = capsys.readouterr().err
    assert f"no base model in {tmp_path / 'ace-step' / 'checkpoints'}" in said
    assert "Ace-Step1.5" in said
    with pytest.raises(SystemExit) as caught:
        main(["--exp-name", "calm"])
    assert caught.value.code == 1
    assert main(words(made, "--config", str(tmp_path / "none.json"))) == 1
    assert not (tmp_path / "logs").exists()


def test_the_wrapper_finds_python_and_plans(made: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [str(ROOT / "scripts" / "run_training.sh"), *words(made, "--dry-run", "--json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["train_tracks"] == 3
    assert plan["max_steps"] == 100_000
    assert {fit["name"] for fit in plan["presets"]} >= {"8 GB", "24 GB", "80 GB", "CPU"}
    assert not (tmp_path / "logs").exists()
