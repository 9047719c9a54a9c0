"""`luthier merge`: the flags and exit codes that scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from luthier.cli.main import main
from luthier.music.model import load_model
from luthier.training.config import config_from
from luthier.training.lora import add_adapter, save_adapter
from tiny import make_tiny_model, tiny_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("merge")
    make_tiny_model(root / "model")
    transformer = tiny_model().transformer
    with torch.no_grad():
        for _, value in add_adapter(transformer, config_from({"rank": 2})):
            value.fill_(0.1)
    (root / "adapter").mkdir()
    save_adapter(transformer, root / "adapter", "tiny")
    return root


def words(base: Path, adapter: Path, out: Path, *more: str) -> list[str]:
    return [
        *("merge", "--base-model", str(base), "--lora-checkpoint", str(adapter)),
        *("--output-dir", str(out), *more),
    ]


def test_merge(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "merged"
    assert main(words(made / "model", made / "adapter", out, "--dry-run")) == 0
    assert "would change 16 tensors of tiny" in capsys.readouterr().out
    assert not out.exists()
    assert main(words(made / "model", made / "adapter", out, "--verify")) == 0
    assert "differs from base + adapter by at most" in capsys.readouterr().out
    load_model(out)
    assert main(words(made / "model", made / "adapter", out, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["merged_tensors"], told["rank"]) == (16, 2)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_exit_codes(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dry: list[str]
) -> None:
    model, adapter, out = made / "model", made / "adapter", tmp_path / "out"
    assert main(words(tmp_path / "none", adapter, out, *dry)) == 1
    assert main(words(model, tmp_path / "none", out, *dry)) == 2
    if not dry:
        assert main(words(model, adapter, model)) == 3
    said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("luthier: ") for line in said)
    assert not out.exists()
