"""`luthier plan` and `luthier generate --thinking`, with a tiny planner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from luthier.audio.decode import read_audio
from luthier.cli.main import main
from luthier.files import read_json
from tiny import tiny_onnx
from tiny_lm import tiny_lm_onnx

SAID = ["--bpm", "90", "--key", "Am", "--time-signature", "3/4", "--duration", "10"]
QUICK = ["--threads", "1", "--seed", "3"]


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["plan", "calm piano", "--model", str(tiny_lm_onnx()), *QUICK, *words]) == 0
    return capsys.readouterr().out


def test_a_plan_is_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    value = yaml.safe_load(planned(capsys, *SAID))
    assert (value["bpm"], value["keyscale"], value["duration"]) == (90, "A minor", 10)
    assert len(value["codes"]) == 50


@pytest.mark.parametrize("flags", [["--json"], ["--format", "json"]])
def test_a_plan_can_be_json(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    value = json.loads(planned(capsys, *SAID, *flags, "--batch", "2"))
    assert [plan["seed"] for plan in value["plans"]] == [3, 4]


def test_codes_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "codes" not in yaml.safe_load(planned(capsys, *SAID, "--no-codes"))


def test_a_dry_run_says_what_would_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert "would make 1 plan(s) with the 0.6B planner" in planned(capsys, "--dry-run")


@pytest.mark.parametrize(
    "words", [["plan", "calm"], ["generate", "calm", "--thinking", "--out", "x.wav"]]
)
def test_mini_asked_to_think_answers_with_a_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "mini has no planner" in told
    assert "acestep-5Hz-lm-0.6B" in told


def test_a_folder_without_a_planner_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "calm", "--model", str(tiny_onnx())]) == 1
    assert "has no planner" in capsys.readouterr().err


def generate(out: Path, *words: str) -> dict[str, Any]:
    flags = ["--model", str(tiny_onnx()), "--planner", str(tiny_lm_onnx()), "--thinking"]
    assert main(["generate", "calm", "--out", str(out), "--quiet", *flags, *QUICK, *words]) == 0
    record = next(out.parent.glob("*.json"))
    request: dict[str, Any] = read_json(record)["config"]["request"]
    return request


def test_thinking_fills_what_was_not_said_and_plays_by_codes(tmp_path: Path) -> None:
    request = generate(tmp_path / "x.wav", "--bpm", "90", "--duration", "10", "--steps", "2")
    assert request["bpm"] == 90
    assert request["duration_s"] == 10
    assert request["key"]
    assert request["time_signature"] in ("2", "3", "4", "6")
    assert len(request["audio_codes"]) == 50
    audio, rate = read_audio(tmp_path / "x.wav")
    assert audio.shape[1] == 10 * rate


def test_what_was_said_stays(tmp_path: Path) -> None:
    said = ["--key", "F# minor", "--time-signature", "6", "--vocal-language", "ja"]
    words = ["--no-cot-caption", "--lm-temperature", "0", "--duration", "10", "--steps", "2"]
    request = generate(tmp_path / "x.wav", *said, *words)
    assert (request["key"], request["time_signature"]) == ("F# minor", "6")
    assert (request["vocal_language"], request["prompt"]) == ("ja", "calm")


def test_thinking_is_for_text_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = tmp_path / "a.wav"
    source.touch()
    words = ["generate", "x", "--task", "cover", "--source", str(source), "--thinking"]
    assert main([*words, "--planner", str(tiny_lm_onnx())]) == 2
    assert "thinking is for text2music" in capsys.readouterr().err
