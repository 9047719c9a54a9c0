"""The contract of `scripts/lofi_audio_processor.py`: flags, JSON keys, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from band import RATE, play
from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.audio.measure import decibels, peak

SCRIPT = Path(__file__).parents[2] / "scripts" / "lofi_audio_processor.py"


def script(*words, env=None):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | (env or {}),
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    music = play(84, "A minor", 4.0)
    write_audio(folder / "track.wav", music, RATE)
    write_audio(folder / "brief.wav", music[:, :RATE], RATE)
    return folder


def test_process_with_every_flag(raw, tmp_path):
    done = script(
        *("process", "--input-dir", raw, "--output-dir", tmp_path / "out"),
        *("--sample-rate", 24000, "--target-format", "mp3", "--bitrate", 128),
        *("--min-duration", 2, "--max-duration", 3, "--normalize-peak", -3),
        *("--workers", 1, "--json"),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["processed"], found["skipped"], found["failed"]) == (1, 1, 0)
    rows = {Path(row["source"]).name: row for row in found["results"]}
    assert {"source", "status", "output_path", "duration", "quality_score"} <= set(
        rows["track.wav"]
    )
    assert rows["track.wav"]["status"] == "success"
    assert isinstance(rows["track.wav"]["quality_score"], int)
    assert rows["brief.wav"]["status"] == "skipped"
    assert rows["brief.wav"]["reason"].startswith("too_short")
    assert rows["brief.wav"]["output_path"] is None
    samples, rate = read_audio(Path(rows["track.wav"]["output_path"]))
    assert rate == 24000
    assert samples.shape[0] == 2
    assert samples.shape[1] / rate == pytest.approx(3, abs=0.1)
    assert -3.8 < decibels(peak(samples)) < -2.97


def test_some_files_failed_is_2(raw, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.mp3").write_text("no music\n" * 50)
    done = script("process", "--input-dir", tmp_path / "in", "--output-dir", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert "0 processed, 0 skipped, 1 failed" in done.stdout
    assert "text.mp3: unreadable: " in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["process", "--input-dir", "/none/there"], "does not exist"),
        (["process", "--input-dir", ".", "--bitrate", "9999"], "--bitrate"),
        (["process", "--target-format", "xm"], "invalid choice: 'xm'"),
        (["process", "--wrong"], "unrecognized arguments: --wrong"),
        (["validate"], "--file"),
        (["validate", "--file", "/none/there.wav"], "does not exist"),
        ([], "COMMAND"),
    ],
)
def test_what_is_fatal_is_1(words, says):
    done = script(*words)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_folders_come_from_the_environment(raw, tmp_path):
    (tmp_path / "raw").symlink_to(raw)
    found = script("process", "--dry-run", "--json", env={"LOFI_DATA_DIR": str(tmp_path)})
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)["results"]
    assert {row["output_path"] for row in rows} == {
        str(tmp_path / "processed" / f"{name}.mp3") for name in ("track", "brief")
    }
    assert not (tmp_path / "processed").exists()


def test_validate_says_what_a_file_is_worth(raw):
    done = script("validate", "--file", raw / "track.wav", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["file"] == str(raw / "track.wav")
    assert 0 <= found["quality_score"] <= 100
    assert found["bpm"] == pytest.approx(84, rel=0.02)
    text = script("validate", "--file", raw / "track.wav")
    assert "of 100" in text.stdout


def test_common_flags(raw, tmp_path):
    assert "process" in script("--help").stdout
    assert "--normalize-peak" in script("process", "-h").stdout
    assert "luthier" in script("--version").stdout
    out = tmp_path / "out"
    flags = ("--input-dir", raw, "--output-dir", out, "--min-duration", 3, "--workers", 1)
    quiet = script("process", *flags, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    again = script("process", *flags, "-v")
    assert "1 processed (2 unchanged)" in again.stdout
    assert "track.wav" in again.stdout
