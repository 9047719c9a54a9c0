from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from luthier.cli.main import main
from tiny import tiny_onnx, tiny_torch


def test_exports_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_onnx("fp32")
    words = ["export", str(tiny_torch()), "--out", str(tmp_path / "onnx"), "--opset", "17"]
    assert main([*words, "--verify", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["precision"], report["opset"]) == ("fp32", 17)
    assert report["quality"] is None  # it is what the other tiers are measured against
    assert {graph["name"] for graph in report["graphs"]} >= {"dit_decoder", "vae_decoder"}
    assert all(graph["parity"]["snr_db"] > 15 for graph in report["graphs"])
    manifest = json.loads((tmp_path / "onnx" / "manifest.json").read_text())
    assert manifest["models"]["core"]["dit_decoder.onnx"]["parity"]["rmse"] < 5e-4


def test_no_model_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["export", str(tmp_path / "nowhere"), "--out", str(tmp_path / "onnx")])
    assert code == 1
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()


def test_a_damaged_model_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_onnx("fp32")
    model = Path(shutil.copytree(tiny_torch(), tmp_path / "model"))
    (model / "vae" / "config.json").write_text("{}")
    assert main(["export", str(model), "--out", str(tmp_path / "onnx")]) == 1
    assert "corrupted" in capsys.readouterr().err


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_onnx("fp32")
    words = ["export", str(tiny_torch()), "--out", str(tmp_path / "onnx"), "--dry-run"]
    assert main(words) == 0
    assert "would export" in capsys.readouterr().out
    assert not (tmp_path / "onnx").exists()
