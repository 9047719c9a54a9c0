"""`scripts/export_onnx.py` by the command-line contract: flags, output, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from luthier.cli.scripts.export_onnx import build_parser, main
from luthier.export import parity
from tiny import tiny_onnx, tiny_torch

ROOT = Path(__file__).parents[2]
CONTRACT = {
    *("--model", "--output", "--precision", "--opset", "--calibration-data", "--verify"),
    *("--help", "-h", "--version", "--verbose", "-v", "--quiet", "-q", "--json", "--dry-run"),
}


@pytest.fixture(scope="module")
def model() -> Path:
    tiny_onnx("fp32")
    return tiny_torch()


def words(model: Path, out: Path, precision: str, *more: str) -> list[str]:
    return ["--model", str(model), "--output", str(out), "--precision", precision, *more]


def prompts(path: Path) -> Path:
    path.write_text(json.dumps({"prompts": ["lofi hip hop, chill, piano, 80 bpm"]}))
    return path


def test_the_flags_are_the_contracts() -> None:
    found = {o for action in build_parser()._actions for o in action.option_strings}
    assert found == CONTRACT


def test_the_script_itself_runs() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "export_onnx.py"), "--help"]
    told = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert "3 verification failed" in " ".join(told.split())


def test_it_plans_with_the_contracts_opset(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(model, tmp_path / "out", "int8", "--dry-run", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["options"]["opset"] == 17
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_file_has_the_opset(model: Path, tmp_path: Path) -> None:
    assert main(words(model, tmp_path / "out", "int8", "-q")) == 0
    proto = onnx.load(tmp_path / "out" / "dit_decoder.onnx")
    assert {o.domain: o.version for o in proto.opset_import}[""] == 17


def test_int4_is_calibrated_verified_and_raises_the_opset(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prompts(tmp_path / "prompts.json")
    flags = ("--calibration-data", str(data), "--verify", "-q", "--json")
    assert main(words(model, tmp_path / "out", "int4", *flags)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["opset"] == 21
    assert any("opset 21" in notice for notice in told["notices"])
    assert any("calibrated on 1 prompts" in notice for notice in told["notices"])
    kinds = {g["name"]: g["precision"] for g in told["graphs"]}
    assert kinds["dit_decoder"] == "int4"
    assert kinds["condition_encoder"] == "int8"
    assert kinds["vae_decoder"] == "fp16"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["quality"]["passed"]
    assert manifest["quality"]["tolerance"] == 0.15
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["quality"]["fad_tier"] > 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| dit_decoder | int4 |" in card
    assert "| FAD |" in card
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == []


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and the one sentence."""
    code = main([*words, "-q"])
    said = capsys.readouterr().err
    assert said.startswith("export_onnx.py: ")
    assert said.count("\n") == 1, said
    return code, said


def test_exit_codes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert refusal(words(tmp_path / "none", out, "int8"), capsys)[0] == 1
    code, said = refusal(words(model, out, "int4", "--opset", "17"), capsys)
    assert (code, "int4 needs opset 21" in said) == (2, True)
    code, said = refusal(words(model, out, "int4"), capsys)
    assert (code, "--calibration-data is missing" in said) == (2, True)
    code, said = refusal(words(model, out, "int8", "--opset", "30"), capsys)
    assert (code, "choose 17 to 21" in said) == (2, True)
    with pytest.raises(SystemExit) as caught:
        main(words(model, out, "int2"))
    assert caught.value.code == 1
    assert not out.exists()


def test_a_missed_gate_exits_3(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A floor that no 8-bit graph holds; the measuring and the failing are real.
    monkeypatch.setitem(parity._MIN_SNR_DB, "fp16", 300.0)
    code, said = refusal(words(model, tmp_path / "out", "fp16", "--verify"), capsys)
    assert code == 3
    assert "differs from the model" in said
    assert list(tmp_path.iterdir()) == []
