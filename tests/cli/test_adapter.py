"""`luthier adapter`: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier.cli.main import main
from luthier.runtime.adaptable import Linear
from tiny_adapters import write_adapter

LAYERS = {
    f"layers.{i}.{part}": Linear(6, 6, "", "")
    for i in range(2)
    for part in ("self_attn.to_q", "cross_attn.to_q", "mlp.up_proj")
}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "lofi", LAYERS, targets=("to_q",), use_rslora=True)


def test_show_tells_what_it_is(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapter", "show", str(adapter)]) == 0
    said = capsys.readouterr().out
    assert "rsLoRA of rank 3 in 4 layers, scale 2.887, names as of peft, trained on tiny" in said
    assert main(["adapter", "show", str(adapter), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["method"], facts["layers"], facts["ranks"]) == ("rsLoRA", 4, [3])
    assert main(["adapter", "show", str(adapter), "--verbose"]) == 0
    assert "  self_attn.to_q\n" in capsys.readouterr().out
    assert main(["adapter", "show", str(adapter), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_convert_plans_and_writes(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lofi.safetensors"
    words = ["adapter", "convert", str(adapter), str(out), "--to", "comfyui"]
    assert main([*words, "--dry-run"]) == 0
    assert "would write" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lofi"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["to"], told["output"]) == ("comfyui", str(out))
    assert told["difference"] <= 1e-6
    assert main(words) == 0  # once more: it is our own
    assert "comfyui; its layers compute the same" in capsys.readouterr().out
    assert main(["trace", str(out)]) == 0
    assert "adapter_model.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["convert", "lofi", "lofi", "--to", "peft"], "which is read"),
        (["convert", "lofi", ".", "--to", "peft"], "which is read"),
        (["convert", "lofi", "x.bin", "--to", "kohya"], "ends with .safetensors"),
        (["convert", "lofi", "photos", "--to", "acestep"], "holds other files (one.jpg)"),
        (["convert", "none", "x", "--to", "peft"], "does not exist"),
        (["convert", "photos", "x", "--to", "peft"], "is not an adapter"),
        (["show", "x" * 300], "File name too long"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_2(
    adapter: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(adapter.parent)
    photos = adapter.parent / "photos"
    photos.mkdir()
    (photos / "one.jpg").write_text("x")
    before = {path: path.read_bytes() for path in adapter.parent.rglob("*") if path.is_file()}
    assert main(["adapter", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert before == {p: p.read_bytes() for p in adapter.parent.rglob("*") if p.is_file()}


def test_a_file_in_the_way_is_a_sentence(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    place = tmp_path / "notes.txt" / "x.safetensors"
    assert main(["adapter", "convert", str(adapter), str(place), "--to", "comfyui"]) == 1
    assert "is a file, but a folder is needed there" in capsys.readouterr().err
