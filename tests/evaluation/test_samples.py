"""Clips to measure: one a style, fixed seeds, none made twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.errors import OutputError, PathError, RequestError
from luthier.music.dataset.styles import load_presets
from luthier.music.evaluation.checkpoint_player import open_player
from luthier.music.evaluation.requests import parse_requests, recorded_requests
from luthier.music.evaluation.samples import (
    SampleSettings,
    generate_samples,
    made_clips,
    read_prompts,
    style_prompts,
)
from tiny_checkpoints import checkpoint

QUICK = SampleSettings(duration_s=1, steps=1)


def prompts_file(folder: Path, rows: object) -> Path:
    path = folder / "prompts.json"
    path.write_text(json.dumps(rows))
    return path


def test_one_prompt_a_style() -> None:
    presets = load_presets()
    prompts = style_prompts(presets, SampleSettings())
    assert [p.style_id for p in prompts] == list(presets)
    assert len(prompts) == len({p.request.seed for p in prompts}) == 38
    for prompt in prompts:
        low, high = presets[str(prompt.style_id)].tempo_range
        assert prompt.request.bpm is not None
        assert low <= prompt.request.bpm <= high
        assert prompt.request.key in prompt.request.prompt
        assert prompt.request.duration_s == 10
    dark = next(p for p in prompts if p.style_id == "CORE-06")
    assert str(dark.request.key).endswith("minor")


def test_a_styles_seed_does_not_depend_on_the_others() -> None:
    presets = load_presets()
    alone = style_prompts({"INST-07": presets["INST-07"]}, SampleSettings())[0]
    among = next(p for p in style_prompts(presets, SampleSettings()) if p.style_id == "INST-07")
    assert alone == among
    other = style_prompts({"INST-07": presets["INST-07"]}, SampleSettings(seed=1))[0]
    assert other.request.seed != alone.request.seed


def test_prompts_from_files(tmp_path: Path) -> None:
    lines = tmp_path / "p.txt"
    lines.write_text("# a comment\ncalm piano\n\njazz lofi, saxophone\n")
    found = read_prompts(lines, QUICK)
    assert [(p.name, p.request.prompt) for p in found] == [
        ("prompt-001", "calm piano"),
        ("prompt-002", "jazz lofi, saxophone"),
    ]
    rows = {"prompts": ["x", {"prompt": "y", "bpm": 90, "style_id": "CORE-02", "seed": 5}]}
    first, second = read_prompts(prompts_file(tmp_path, rows), QUICK)
    assert (first.name, first.request.duration_s, first.request.steps) == ("prompt-001", 1, 1)
    assert (second.name, second.style_id, second.request.bpm, second.request.seed) == (
        "CORE-02",
        "CORE-02",
        90,
        5,
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no prompts"),
        ({"prompt": "x"}, "holds no prompts"),
        ([3], "not 3"),
        ([{"prompt": "x", "bpm": 999}], "prompt 1: bpm is 999"),
        ([{"prompt": "x", "tempo": 9}], "no field 'tempo'"),
        ([{"prompt": "x", "name": "a"}, {"prompt": "y", "name": "a"}], "two prompts called a"),
    ],
)
def test_bad_prompts_are_sentences(tmp_path: Path, rows: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_prompts(prompts_file(tmp_path, rows), QUICK)


def test_a_missing_prompts_file(tmp_path: Path) -> None:
    with pytest.raises(PathError, match="does not exist"):
        read_prompts(tmp_path / "none.json", QUICK)
    with pytest.raises(RequestError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt", QUICK)


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    player = open_player(checkpoint(1))
    rows = [{"prompt": "calm", "name": n, "style_id": "CORE-01", "bpm": 80} for n in "abc"]
    prompts = read_prompts(prompts_file(tmp_path, rows), QUICK)
    out = tmp_path / "clips"
    report = generate_samples(player, prompts, out)
    assert (report.files, report.made, report.kept) == (("a.wav", "b.wav", "c.wav"), 3, 0)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.wav")}
    assert len({p.read_bytes() for p in out.glob("*.wav")}) == 3  # seeds differ by name

    os.unlink(out / "b.wav")  # stopped before it
    (out / "c.wav").write_bytes(b"torn")
    report = generate_samples(player, prompts, out)
    assert (report.made, report.kept) == (2, 1)
    assert (out / "a.wav").stat().st_mtime_ns == before["a.wav"]

    other = read_prompts(prompts_file(tmp_path, [rows[0] | {"bpm": 90}, *rows[1:]]), QUICK)
    assert generate_samples(player, other, out).made == 1
    assert generate_samples(open_player(checkpoint(2)), other, out).made == 3
    assert list(made_clips(out)) == ["a.wav", "b.wav", "c.wav"]


def test_the_record_of_a_clip_is_its_request(tmp_path: Path) -> None:
    rows = [{"prompt": "calm", "style_id": "CORE-01", "bpm": 80, "key": "Am"}]
    prompts = read_prompts(prompts_file(tmp_path, rows), QUICK)
    generate_samples(open_player(checkpoint(1)), prompts, tmp_path)
    found = recorded_requests(tmp_path, ["CORE-01.wav"])
    asked = parse_requests(found, ["CORE-01.wav"])["CORE-01.wav"]
    assert (asked.bpm, asked.key, asked.style_id, asked.prompt) == (
        80,
        "A minor",
        "CORE-01",
        "calm",
    )


def test_a_recording_in_the_place_of_a_clip_stays(tmp_path: Path) -> None:
    player = open_player(checkpoint(1))
    prompts = read_prompts(prompts_file(tmp_path, [{"prompt": "calm", "name": "a"}]), QUICK)
    out = tmp_path / "clips"
    out.mkdir()
    (out / "a.wav").write_bytes(b"theirs, whatever it is")
    with pytest.raises(OutputError, match=r"a\.wav is there already"):
        generate_samples(player, prompts, out)
    (out / "a.wav").unlink()
    generate_samples(player, prompts, out)
    whole = (out / "a.wav").read_bytes()
    theirs = np.zeros((2, 48000), np.float32)
    write_audio(out / "a.wav", theirs, 48000)  # a person put another recording there
    kept = (out / "a.wav").read_bytes()
    with pytest.raises(OutputError, match=r"a\.wav is there already"):
        generate_samples(player, prompts, out)
    assert (out / "a.wav").read_bytes() == kept
    (out / "a.wav").unlink()
    assert generate_samples(player, prompts, out).made == 1
    assert (out / "a.wav").read_bytes() == whole
    assert sorted(p.name for p in out.iterdir()) == ["a.wav", "a.wav.run.json"]


def test_a_name_without_letters(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no letter or digit"):
        read_prompts(prompts_file(tmp_path, [{"prompt": "calm", "name": "..."}]), QUICK)
