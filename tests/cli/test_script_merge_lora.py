"""`scripts/merge_lora.py` by the command-line contract: flags, output, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AceStepPipeline
from safetensors.torch import load_file, save_file

from luthier.cli.scripts.merge_lora import build_parser, main
from luthier.music.torch.model import save_model
from luthier.training.config import config_from
from luthier.training.lora import add_adapter, save_adapter
from tiny import tiny_model
from tiny_ace import parts, write_diffusers

ROOT = Path(__file__).parents[2]
CONTRACT = {
    *("--base-model", "--lora-checkpoint", "--output-dir", "--verify"),
    *("--help", "-h", "--version", "--verbose", "-v", "--quiet", "-q", "--json", "--dry-run"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("script")
    write_diffusers(root / "model", parts(turbo=True))
    transformer = parts(turbo=True)["transformer"]
    with torch.no_grad():
        for _, value in add_adapter(transformer, config_from({"rank": 2})):
            value.add_(0.1)
    (root / "lora").mkdir()
    save_adapter(transformer, root / "lora", "tiny")
    return root


def words(base: Path, adapter: Path, out: Path, *more: str) -> list[str]:
    paths = ["--base-model", str(base), "--lora-checkpoint", str(adapter)]
    return [*paths, "--output-dir", str(out), *more]


def test_the_flags_are_the_contracts() -> None:
    found = {o for action in build_parser()._actions for o in action.option_strings}
    assert found == CONTRACT


def test_the_script_itself(made: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "merge_lora.py")]
    out = tmp_path / "out"
    run = subprocess.run(
        [*script, *words(made / "model", made / "lora", out, "--verify", "--json")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["merged_tensors"] == 16
    assert told["verify"]["difference"] <= told["verify"]["allowed"]
    assert AceStepPipeline.from_pretrained(out).transformer.config.is_turbo


def test_dry_run(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(made / "model", made / "lora", tmp_path / "out", "--dry-run")) == 0
    assert "would change 16 tensors" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and the one sentence."""
    code = main(words)
    said = capsys.readouterr().err
    assert said.startswith("merge_lora.py: ")
    assert said.count("\n") == 1, said
    return code, said


def test_exit_codes(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, lora, out = made / "model", made / "lora", tmp_path / "out"
    assert refusal(words(tmp_path / "none", lora, out, "-q"), capsys)[0] == 1
    assert refusal(words(lora, lora, out, "-q"), capsys)[0] == 1
    assert refusal(words(model, tmp_path / "none", out, "-q"), capsys)[0] == 2
    assert refusal(words(model, model, out, "-q"), capsys)[0] == 2
    weights = load_file(lora / "adapter_model.safetensors")
    (tmp_path / "nan").mkdir()
    config = (lora / "adapter_config.json").read_text()
    (tmp_path / "nan" / "adapter_config.json").write_text(config)
    broken = {name: torch.full_like(value, torch.nan) for name, value in weights.items()}
    save_file(broken, tmp_path / "nan" / "adapter_model.safetensors")
    code, said = refusal(words(model, tmp_path / "nan", out, "-q"), capsys)
    assert code == 2
    assert "no numbers" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    code, said = refusal(words(model, lora, tmp_path / "full", "-q"), capsys)
    assert code == 3
    assert "not empty" in said
    with pytest.raises(SystemExit) as caught:
        main(["--base-model", "x"])
    assert caught.value.code == 1
    assert not out.exists()


def test_a_merge_that_is_not_the_same_model_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tiny_model(), tmp_path / "half", dtype=torch.bfloat16)
    transformer = tiny_model().transformer
    with torch.no_grad():
        for _, value in add_adapter(transformer, config_from({"rank": 2, "alpha": 0.003})):
            value.add_(0.1)
    (tmp_path / "lora").mkdir()
    save_adapter(transformer, tmp_path / "lora", "tiny")
    flags = ("--verify", "-q", "--json")
    code = main(words(tmp_path / "half", tmp_path / "lora", tmp_path / "out", *flags))
    assert code == 3
    assert "swallowed" in json.loads(capsys.readouterr().out)["error"]
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_colon_is_a_folder(made: Path, tmp_path: Path) -> None:
    odd = tmp_path / "lora:2"
    odd.symlink_to(made / "lora")
    assert main(words(made / "model", odd, tmp_path / "out", "-q")) == 0
