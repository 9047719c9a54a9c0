from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from band import RATE, play
from luthier.audio import tempo as tempo_module
from luthier.audio.resample import resample
from luthier.audio.tempo import MAX_BPM, MIN_BPM, Tempo, estimate_tempo
from luthier.errors import AudioError

NO_PULSE = Tempo(0.0, 0.0, (), 0)


def clicks(bpm: float, duration_s: float, *, bar: int = 1, swing: float = 0.5) -> np.ndarray:
    """(1, n): a click on every beat but the first of each `bar`, which is a thump; softer clicks
    between the beats, at the share `swing` of a beat, unless that is a half."""
    out = np.zeros(round(duration_s * RATE))
    t = np.arange(RATE // 20) / RATE
    click = np.exp(-400 * t) * np.sin(2 * np.pi * 1500 * t)
    thump = np.exp(-60 * t) * np.sin(2 * np.pi * 80 * t)
    for beat in range(int(duration_s * bpm / 60)):
        sounds = [(beat, thump if bar > 1 and beat % bar == 0 else 0.4 * click)]
        sounds += [(beat + swing, 0.2 * click)] if swing != 0.5 else []
        for at, sound in sounds:
            part = out[round(at * 60 / bpm * RATE) :][: t.size]
            part += sound[: part.size]
    return out[None].astype(np.float32)


def octave_of(found: float, bpm: float) -> float:
    return min((0.5, 1, 2), key=lambda f: abs(np.log(found / bpm / f)))


@pytest.mark.parametrize("bpm", [62, 76.5, 97.3, 120, 140])
def test_a_band_to_half_a_percent(bpm):
    tempo = estimate_tempo(play(bpm, "C major"), RATE)
    assert tempo.bpm == pytest.approx(octave_of(tempo.bpm, bpm) * bpm, rel=0.005)
    assert 0.2 < tempo.confidence <= 1


@given(st.floats(50, 200), st.sampled_from([0.5, 0.6, 2 / 3]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_clicks_straight_and_swung(bpm, swing):
    tempo = estimate_tempo(clicks(bpm, 10, swing=swing), RATE)
    assert tempo.bpm == pytest.approx(octave_of(tempo.bpm, bpm) * bpm, rel=0.005)
    assert MIN_BPM <= tempo.bpm <= MAX_BPM


@pytest.mark.parametrize("metre", [3, 4])
@pytest.mark.parametrize("bpm", [90, 120])
def test_beats_a_bar(bpm, metre):
    tempo = estimate_tempo(clicks(bpm, 12, bar=metre), RATE)
    assert (round(tempo.bpm), tempo.metre) == (bpm, metre)


@pytest.mark.parametrize("bpm", [76.5, 90, 120])
def test_beats_fall_on_the_beat(bpm):
    tempo = estimate_tempo(play(bpm, "A minor"), RATE)
    assert tempo.bpm == pytest.approx(bpm, rel=0.005)
    beats = np.array(tempo.beats_s) * bpm / 60
    inner = beats[1:-1]
    assert np.abs(inner - np.round(inner)).max() * 60 / bpm < 0.05
    assert len(beats) >= 0.8 * 12 * bpm / 60
    assert (np.diff(beats) > 0).all()


def test_the_rate_of_the_file_does_not_matter():
    music = play(88, "D major")
    assert estimate_tempo(resample(music, RATE, 48000), 48000).bpm == pytest.approx(
        estimate_tempo(music, RATE).bpm, rel=0.002
    )


@pytest.mark.parametrize("gain", [0.001, -1.0, 1e20])
def test_level_and_polarity_do_not_matter(gain):
    music = play(88, "D major")
    found, same = estimate_tempo(np.float32(gain) * music, RATE), estimate_tempo(music, RATE)
    assert found.bpm == pytest.approx(88, rel=0.005)
    assert (found.bpm, found.metre, found.beats_s) == (same.bpm, same.metre, same.beats_s)


def test_the_same_twice():
    music = play(101, "E minor")
    assert estimate_tempo(music, RATE) == estimate_tempo(music, RATE)


def test_of_a_long_recording_the_middle_is_heard(monkeypatch):
    music = np.concatenate([clicks(75, 6), clicks(120, 8), clicks(75, 6)], axis=1)
    monkeypatch.setattr(tempo_module, "LONGEST_S", 8.0)
    tempo = estimate_tempo(music, RATE)
    assert tempo.bpm == pytest.approx(120, rel=0.01)
    assert 5.9 < tempo.beats_s[0] < 7.0
    assert 13.0 < tempo.beats_s[-1] < 14.1


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((1, round(seconds * RATE))).astype(np.float32)


def one_click() -> np.ndarray:
    samples = np.zeros((2, 10 * RATE), np.float32)
    samples[:, 4 * RATE] = 1
    return samples


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros((2, 5 * RATE), np.float32), id="silence"),
        pytest.param(np.ones((1, RATE), np.float32), id="a second of direct current"),
        pytest.param(np.ones((2, 1), np.float32), id="one sample"),
        pytest.param(play(120, "C major", 0.1), id="a tenth of a second"),
        pytest.param(one_click(), id="one click"),
        pytest.param(np.full((2, 5 * RATE), np.nan, np.float32), id="not a number"),
        pytest.param(np.full((2, 5 * RATE), np.inf, np.float32), id="infinite"),
        pytest.param(noise(12), id="noise"),
    ],
)
def test_nothing_pulses(samples):
    assert estimate_tempo(samples, RATE) == NO_PULSE


@pytest.mark.parametrize("seconds", [4, 20])
def test_noise_does_not_pulse(seconds):
    assert all(estimate_tempo(noise(seconds, seed), RATE) == NO_PULSE for seed in range(1, 5))


def test_one_bad_sample_is_enough():
    music = play(120, "C major")
    music[1, 5000] = np.nan
    assert estimate_tempo(music, RATE) == NO_PULSE


def test_no_samples():
    with pytest.raises(AudioError, match="no samples"):
        estimate_tempo(np.zeros((2, 0), np.float32), RATE)
