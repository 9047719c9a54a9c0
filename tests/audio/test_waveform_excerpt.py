from __future__ import annotations

import numpy as np
import pytest

from luthier.audio.excerpt import EXCERPT_RATE, MonoExcerpt
from luthier.audio.waveform import WaveformMeter


@pytest.mark.parametrize("seconds", [0.01, 1.0, 60.0])
def test_the_outline_holds_the_extremes(seconds):
    rate = 8000
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (1, round(seconds * rate))).astype("f4")
    samples[0, samples.shape[1] // 2] = 0.9
    meter = WaveformMeter(rate)
    for start in range(0, samples.shape[1], 3210):
        meter.add(samples[:, start : start + 3210])
    pairs = np.array(meter.pairs(count=400, gain=0.5))
    assert 1 <= len(pairs) <= 400
    assert pairs[:, 1].max() == pytest.approx(0.45, abs=0.001)
    assert abs(int(pairs[:, 1].argmax()) - len(pairs) // 2) <= 1
    assert (pairs[:, 0] <= pairs[:, 1]).all()


def test_no_sound_has_no_outline():
    assert WaveformMeter(8000).pairs() == []


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_an_excerpt_is_the_start_in_mono(rate):
    t = np.arange(3 * rate) / rate
    wave = np.sin(2 * np.pi * 440 * t)
    stereo = np.array([wave, 0 * wave], "f4")
    excerpt = MonoExcerpt(rate, longest_s=2.0)
    for start in range(0, 3 * rate, rate // 3):
        excerpt.add(stereo[:, start : start + rate // 3])
    found = excerpt.samples()
    assert found.shape == (1, pytest.approx(2 * EXCERPT_RATE, abs=2))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(found.shape[1]) / EXCERPT_RATE)
    np.testing.assert_allclose(found[0, 500:-500], expected[500:-500], atol=0.01)
