from __future__ import annotations

import numpy as np
import pytest

from band import RATE, play
from luthier.audio.resample import resample
from luthier.audio.tempo import estimate_tempo
from luthier.errors import AudioError


@pytest.mark.parametrize("bpm", [62, 76.5, 84, 97.3, 108, 120, 133, 140])
def test_tempo_to_half_a_percent(bpm):
    tempo = estimate_tempo(play(bpm, "C major"), RATE)
    octave = min((0.5, 1, 2), key=lambda f: abs(np.log(tempo.bpm / bpm / f)))
    assert tempo.bpm == pytest.approx(octave * bpm, rel=0.005)
    assert 0.2 < tempo.confidence <= 1


@pytest.mark.parametrize("bpm", [76.5, 90, 120])
def test_beats_fall_on_the_beat(bpm):
    tempo = estimate_tempo(play(bpm, "A minor"), RATE)
    assert tempo.bpm == pytest.approx(bpm, rel=0.005)
    beats = np.array(tempo.beats_s) * bpm / 60
    inner = beats[1:-1]
    assert np.abs(inner - np.round(inner)).max() * 60 / bpm < 0.05
    assert len(beats) >= 0.8 * 12 * bpm / 60


def test_the_rate_of_the_file_does_not_matter():
    music = play(88, "D major")
    assert estimate_tempo(resample(music, RATE, 48000), 48000).bpm == pytest.approx(
        estimate_tempo(music, RATE).bpm, rel=0.002
    )


def test_level_does_not_matter():
    music = play(88, "D major")
    assert estimate_tempo(0.01 * music, RATE).bpm == pytest.approx(88, rel=0.005)


@pytest.mark.parametrize(
    "samples",
    [np.zeros((2, 5 * RATE), np.float32), np.ones((1, RATE), np.float32), np.ones((2, 1), "f4")],
)
def test_nothing_pulses(samples):
    assert estimate_tempo(samples, RATE).bpm == 0
    assert estimate_tempo(samples, RATE).beats_s == ()


def test_no_samples():
    with pytest.raises(AudioError, match="no samples"):
        estimate_tempo(np.zeros((2, 0), np.float32), RATE)
