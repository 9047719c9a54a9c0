"""One clip of a cell, measured: bands whose tempo, key and seams are known."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.errors import AudioError
from luthier.matrix.clip_measures import listen
from luthier.matrix.grid import Cell, Job

CELL = Cell("mini", Job("text2music"), 120, "C major", 10.0, 1, None, 1)
REPAINT = replace(CELL, job=Job("repaint"))
WINDOW = (1.0, 9.0)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.flac"
    write_audio(path, play(120, "C major", 10.0), RATE)
    return path


def test_a_clip_that_keeps_to_what_was_asked_for(song: Path) -> None:
    heard = listen(song, CELL, None, WINDOW)
    assert heard["tempo"]["octave"] == "same"
    assert abs(heard["tempo"]["error_percent"]) < 0.5
    assert (heard["key"]["measured"], heard["key"]["relation"]) == ("C major", "same")
    assert heard["grid"]["near_share"] > 0.9
    assert heard["grid"]["phase_ms"] == pytest.approx(0, abs=5)
    assert heard["levels"]["duration_s"] == 10
    assert heard["levels"]["silent"] is False
    assert "edit" not in heard


def test_a_tempo_at_the_octave_is_told_as_that(song: Path) -> None:
    half = listen(song, replace(CELL, bpm=60), None, WINDOW)["tempo"]
    assert (half["octave"], half["passed"]) == ("double", True)
    assert abs(half["error_percent"]) < 0.5
    missed = listen(song, replace(CELL, bpm=100), None, WINDOW)["tempo"]
    assert (missed["octave"], missed["passed"]) == (None, False)
    assert missed["error_percent"] == pytest.approx(20, abs=0.5)


def test_a_clip_that_drifts_keeps_to_its_own_grid(tmp_path: Path) -> None:
    path = tmp_path / "slow.flac"
    write_audio(path, play(117.6, "C major", 10.0), RATE)
    grid = listen(path, CELL, None, WINDOW)["grid"]
    assert grid["near_share"] < 0.7
    assert grid["steady_share"] > 0.9


@pytest.mark.parametrize(
    ("key", "relation"),
    [("A minor", "relative"), ("G major", "fifth"), ("C minor", "parallel"), ("B major", "other")],
)
def test_how_the_key_stands_to_the_one_asked_for(song: Path, key: str, relation: str) -> None:
    assert listen(song, replace(CELL, key=key), None, WINDOW)["key"]["relation"] == relation


def test_a_repaint_without_a_seam_and_one_with_a_click(song: Path, tmp_path: Path) -> None:
    kept = listen(song, REPAINT, song, WINDOW)
    assert all(seam["smooth"] for seam in kept["edit"]["seams"])
    assert kept["outside"]["exact"] is True

    broken = play(120, "C major", 10.0)
    broken[:, RATE : RATE + 12] += 0.5
    broken[:, 100] += 0.01
    path = tmp_path / "broken.flac"
    write_audio(path, broken, RATE)
    found = listen(path, REPAINT, song, WINDOW)
    first, second = found["edit"]["seams"]
    assert first["smooth"] is False
    assert first["click"] > 1
    assert second["smooth"] is True
    assert found["outside"]["exact"] is False
    assert found["outside"]["changed_share"] == pytest.approx(1 / (1.98 * RATE), rel=0.1)


def test_other_rates_are_not_compared(song: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.flac"
    write_audio(path, play(120, "C major", 10.0, rate=48000), 48000)
    found = listen(path, REPAINT, song, WINDOW)
    assert (found["edit"], found["outside"]) == (None, None)
    assert "24000 Hz" in found["not_compared"]


def test_a_layer_is_compared_with_its_context(song: Path, tmp_path: Path) -> None:
    path = tmp_path / "layer.flac"
    write_audio(path, 0.25 * play(120, "C major", 10.0, rate=48000, seed=2), 48000)
    found = listen(path, replace(CELL, job=Job("lego", ("bass",))), song, WINDOW)["layer"]
    assert found["level_db"] == pytest.approx(-12, abs=0.5)
    assert found["grid"]["near_share"] > 0.9
    assert found["likeness"] > 0.7  # the same band again


def test_silence_is_told(tmp_path: Path) -> None:
    path = tmp_path / "silent.flac"
    write_audio(path, np.zeros((2, 2 * RATE), np.float32), RATE)
    heard = listen(path, CELL, None, WINDOW)
    assert heard["levels"]["silent"] is True
    assert heard["levels"]["loudness_lufs"] is None
    assert (heard["grid"], heard["tempo"]["error_percent"]) == (None, None)


def test_values_that_are_no_numbers_are_a_failure(tmp_path: Path) -> None:
    samples = np.full(2 * RATE, np.nan, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)  # WAV with float samples
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body = head + b"data" + struct.pack("<I", len(samples)) + samples
    path = tmp_path / "nan.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(AudioError, match="not numbers"):
        listen(path, CELL, None, WINDOW)
