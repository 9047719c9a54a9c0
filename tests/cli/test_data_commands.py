from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.cli import common
from luthier.cli.common import CommandParser
from luthier.errors import LicenceError, PathError, RequestError


def luthier(*words: object) -> int:
    command, *arguments = map(str, words)
    module = importlib.import_module(f"luthier.cli.{command}")
    parser = CommandParser()
    module.add_arguments(parser)
    common.add_common_arguments(parser)
    return module.run(parser.parse_args(arguments))


@pytest.fixture
def recordings(tmp_path):
    for name, bpm in (("a", 80), ("b", 90)):
        write_audio(tmp_path / "in" / f"{name}.wav", play(bpm, "A minor", 8.0), RATE)
    return tmp_path / "in"


def test_from_recordings_to_a_checked_data_set(recordings, tmp_path, capsys):
    out, meta = tmp_path / "out", tmp_path / "meta"
    flags = ("--min-duration", 5, "--workers", 1)
    assert luthier("curate", recordings, "--out", out, *flags, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["processed"], report["skipped"], report["failed"]) == (2, 0, 0)
    assert report["results"][0]["bpm"] == pytest.approx(80, rel=0.01)

    assert luthier("prompts", out) == 0
    assert "80 bpm, A minor" in capsys.readouterr().out

    meta.mkdir()
    source = {
        "source_id": "own",
        "track_ids": ["a", "b"],
        "source_type": "creative_commons",
        "provider": "me",
        "license_type": "CC0-1.0",
        "date_acquired": "2025-01-01",
        "ai_training_allowed": True,
    }
    (meta / "sources.json").write_text(json.dumps([source]))
    built = ("dataset", "build", out, "--metadata", meta, "--out", tmp_path / "set")
    assert luthier(*built, "--repeat-count", 3, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["train_samples"] == 3
    assert summary["validation_samples"] == 1
    assert luthier("dataset", "check", tmp_path / "set") == 0
    (out / "a.mp3").unlink()
    assert luthier("dataset", "check", tmp_path / "set") == 1

    (meta / "sources.json").write_text("[]")
    (out / "a.mp3").write_bytes((out / "b.mp3").read_bytes())
    with pytest.raises(LicenceError) as caught:
        luthier(*built)
    assert caught.value.exit_code == 3


def test_curate_exits_2_when_files_failed(recordings, tmp_path, capsys):
    (recordings / "c.mp3").write_text("no music " * 100)
    write_audio(recordings / "d.wav", np.zeros((1, 8 * RATE), np.float32), RATE)
    flags = ("--min-duration", 5, "--workers", 1, "--target-format", "flac")
    assert luthier("curate", recordings, "--out", tmp_path / "out", *flags) == 2
    printed = capsys.readouterr().out
    assert "2 processed, 0 skipped, 2 failed" in printed
    assert "c.mp3: unreadable" in printed
    assert (tmp_path / "out" / "a.flac").is_file()


def test_too_short_files_are_skipped_with_exit_0(recordings, tmp_path, capsys):
    assert luthier("curate", recordings, "--out", tmp_path / "out", "--workers", 1) == 0
    assert "too_short: 8.0 s long; at least 30 s" in capsys.readouterr().out


def test_curate_refuses_in_sentences(recordings, tmp_path):
    with pytest.raises(PathError, match="does not exist"):
        luthier("curate", tmp_path / "none", "--out", tmp_path / "out")
    with pytest.raises(RequestError, match=r"--normalize-peak: .* not 5"):
        luthier("curate", recordings, "--out", tmp_path / "out", "--normalize-peak", 5)


@pytest.mark.parametrize("flag", ["--json", "--quiet", "--verbose"])
def test_a_dry_run_writes_nothing(recordings, tmp_path, capsys, flag):
    out = tmp_path / "out"
    assert luthier("curate", recordings, "--out", out, "--dry-run", flag) == 0
    assert luthier("prompts", recordings, "--out", out, "--dry-run", flag) == 0
    assert not out.exists()
    assert len(list(recordings.iterdir())) == 2
    assert bool(capsys.readouterr().out) == (flag != "--quiet")


def test_inspect(recordings, capsys):
    assert luthier("inspect", recordings / "a.wav") == 0
    text = capsys.readouterr().out
    assert "80.0 BPM" in text
    assert "A minor" in text
    assert luthier("inspect", recordings / "a.wav", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quality_score"] == 100
    assert found["duration_s"] == 8.0
    assert len(found["beats_s"]) > 8
    with pytest.raises(PathError):
        luthier("inspect", recordings / "none.wav")
