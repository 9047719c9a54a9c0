"""`luthier merge`: the flags and exit codes that scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from luthier.cli.main import main
from luthier.cli.merge import _place_and_weight
from luthier.errors import RequestError
from luthier.music.torch.model import load_model
from luthier.training.config import config_from
from luthier.training.lora import add_adapter, save_adapter
from tiny import make_tiny_model, tiny_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("merge")
    make_tiny_model(root / "model")
    for name, settings in (("adapter", {"rank": 2}), ("dora", {"rank": 4, "use_dora": True})):
        transformer = tiny_model().transformer
        with torch.no_grad():
            for _, value in add_adapter(transformer, config_from(settings)):
                value.add_(0.1)
        (root / name).mkdir()
        save_adapter(transformer, root / name, "tiny")
    return root


def words(base: Path, adapter: object, out: Path, *more: str) -> list[str]:
    return [
        *("merge", "--base-model", str(base), "--adapter", str(adapter)),
        *("--output-dir", str(out), *more),
    ]


def test_merge(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "merged"
    assert main(words(made / "model", made / "adapter", out, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert said.startswith("would change 16 tensors of ")
    assert "adapter: rsLoRA of rank 2, 16 tensors, weight 1" in said
    assert not out.exists()
    assert main(words(made / "model", made / "adapter", out, "--verify")) == 0
    assert "differs from base + adapter by" in capsys.readouterr().out
    load_model(out)
    again = words(made / "model", f"{made / 'adapter'}:0.5", out, "--overwrite", "--json")
    assert main([*again, "--adapter", f"{made / 'dora'}:-1", "--verify"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["merged_tensors"] == 16
    assert [(a["method"], a["weight"]) for a in told["adapters"]] == [("rsLoRA", 0.5), ("DoRA", -1)]
    assert told["verify"]["difference"] <= told["verify"]["allowed"]


def test_a_folder_and_its_weight(tmp_path: Path) -> None:
    assert _place_and_weight("a/b") == (Path("a/b"), 1.0)
    assert _place_and_weight("a/b:0.25") == (Path("a/b"), 0.25)
    assert _place_and_weight("a:b") == (Path("a:b"), 1.0)
    assert _place_and_weight("C:") == (Path("C:"), 1.0)
    (tmp_path / "x:2").mkdir()
    assert _place_and_weight(f"{tmp_path}/x:2") == (tmp_path / "x:2", 1.0)
    assert _place_and_weight(f"{tmp_path}/x:2:3") == (tmp_path / "x:2", 3.0)
    with pytest.raises(RequestError, match="must be a number"):
        _place_and_weight("a:nan")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_exit_codes(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dry: list[str]
) -> None:
    model, adapter, out = made / "model", made / "adapter", tmp_path / "out"
    assert main(words(tmp_path / "none", adapter, out, *dry)) == 1
    assert main(words(model, tmp_path / "none", out, *dry)) == 2
    assert main(words(model, adapter, model, *dry)) == 3
    said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("luthier: ") for line in said)
    assert not out.exists()
