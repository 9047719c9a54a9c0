"""Repaints on audio whose seams and changes are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.audio.encode import write_audio
from luthier.errors import AudioError
from luthier.evaluation.cache import MeasureCache
from luthier.evaluation.embedding import get_embedding
from luthier.music.evaluation.clip_measures import Ears, listen
from luthier.music.evaluation.edits import check_edit, check_seam
from luthier.music.evaluation.requests import ClipRequest

RATE = 16_000
START_S, END_S = 3.0, 5.0
Audio = NDArray[np.float32]


def music(seed: int, seconds: float = 8.0) -> Audio:
    """Chords that swell and fade over hiss, (2, n): no attacks of their own."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    total = 0.01 * generator.normal(size=time.size)
    for hz in generator.choice([220, 262, 330, 392, 440, 523], 4, replace=False):
        swell = 1 + np.sin(2 * np.pi * (0.5 * time + generator.uniform()))
        total += 0.08 * swell * np.sin(2 * np.pi * hz * time)
    return np.stack([total, total]).astype(np.float32)


def repaint(source: Audio, other: Audio, fade_s: float) -> Audio:
    """`other` inside the window, `source` outside, with a cross-fade around each boundary."""
    time = np.arange(source.shape[1]) / RATE
    half = max(fade_s / 2, 1e-9)
    rise = np.clip((time - START_S + half) / (2 * half), 0, 1)
    fall = np.clip((END_S + half - time) / (2 * half), 0, 1)
    weight = np.minimum(rise, fall)
    return (weight * other + (1 - weight) * source).astype(np.float32)


def test_a_cross_fade_is_smooth_and_leaves_the_rest() -> None:
    source = music(0)
    report = check_edit(source, repaint(source, music(1), 0.4), RATE, START_S, END_S)
    assert [seam.at_s for seam in report.seams] == [START_S, END_S]
    assert all(seam.smooth for seam in report.seams)
    assert report.unchanged
    assert report.outside_db is not None
    assert report.outside_db < 0.1 < 3 < report.inside_db
    assert report.outside_snr_db == 100


def test_a_hard_cut_is_heard() -> None:
    source = music(0)
    other = 2.5 * music(1)
    report = check_edit(source, repaint(source, other, 0.0), RATE, START_S, END_S)
    assert not any(seam.smooth for seam in report.seams)
    first, second = report.seams
    assert first.level_step_db > 3 > -3 > second.level_step_db


def test_a_click_alone_is_heard_too() -> None:
    samples = music(2)
    assert check_seam(samples, RATE, START_S).smooth
    samples[:, round(START_S * RATE)] += 0.5
    seam = check_seam(samples, RATE, START_S)
    assert not seam.smooth
    assert seam.click > 3


def test_music_that_was_made_anew_outside_is_a_change() -> None:
    source = music(0)
    report = check_edit(source, music(5), RATE, START_S, END_S)
    assert not report.unchanged


@pytest.mark.parametrize("gain", [0.4, 1.6])
def test_another_level_is_no_change(gain: float) -> None:
    """Players normalise the peak: the whole file may be louder or quieter than its source."""
    source = music(0)
    edited = np.float32(gain) * repaint(source, music(1), 0.4)
    report = check_edit(source, edited, RATE, START_S, END_S)
    assert report.unchanged
    assert report.outside_db == pytest.approx(0, abs=0.1)


def test_noise_outside_grows_step_by_step() -> None:
    source = music(0)
    noise = np.random.default_rng(3).normal(size=source.shape).astype(np.float32)
    edited = repaint(source, music(1), 0.4)
    reports = [
        check_edit(source, edited + np.float32(a) * noise, RATE, START_S, END_S)
        for a in (0, 0.003, 0.03, 0.1)
    ]
    changes = [report.outside_db for report in reports]
    assert changes == sorted(changes)  # type: ignore[type-var]
    snr = [report.outside_snr_db for report in reports]
    assert snr == sorted(snr, reverse=True)  # type: ignore[type-var]
    assert [reports[0].unchanged, reports[-1].unchanged] == [True, False]


def test_a_window_to_the_end_has_one_seam() -> None:
    source = music(0)
    report = check_edit(source, source, RATE, START_S, 99.0)
    assert [seam.at_s for seam in report.seams] == [START_S]
    whole = check_edit(source, source, RATE, 0.0, 99.0)
    assert (whole.seams, whole.outside_db, whole.unchanged) == ((), None, True)


@pytest.mark.parametrize(("start_s", "end_s"), [(5.0, 5.0), (6.0, 5.0), (9.0, 10.0), (-1.0, 2.0)])
def test_a_window_must_lie_in_the_recording(start_s: float, end_s: float) -> None:
    with pytest.raises(AudioError, match="outside the recording"):
        check_edit(music(0), music(0), RATE, start_s, end_s)


def test_a_clip_whose_record_says_repaint_is_checked(tmp_path: Path) -> None:
    source = music(0)
    write_audio(tmp_path / "source.wav", source, RATE)
    write_audio(tmp_path / "edit.wav", repaint(source, music(1), 0.4), RATE)
    asked = ClipRequest(
        file="edit.wav",
        task="repaint",
        source_audio=tmp_path / "source.wav",
        repaint_start_s=START_S,
        repaint_end_s=END_S,
    )
    ears = Ears(get_embedding(), None, MeasureCache(None))
    heard = listen(tmp_path, "edit.wav", ears, asked)
    assert heard.edit is not None
    assert heard.edit.unchanged
    assert heard.edit.to_json()["seams"][0]["at_s"] == START_S
    gone = asked.model_copy(update={"source_audio": tmp_path / "gone.wav"})
    assert listen(tmp_path, "edit.wav", ears, gone).edit is None
