from __future__ import annotations

import numpy as np
import pytest

from luthier.audio.chroma import chroma
from luthier.audio.resample import resample
from luthier.audio.spectrum import (
    band_levels,
    log_mel,
    magnitudes,
    mel_filterbank,
    mono_excerpt,
)
from luthier.errors import RequestError


def sine(hz: float, seconds: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize(("old", "new"), [(44100, 48000), (48000, 22050), (8000, 48000)])
def test_resampling_keeps_a_tone(old, new):
    converted = resample(sine(1000, 1.0, old)[None], old, new)
    assert abs(converted.shape[1] - new) <= 1
    middle = slice(new // 4, new // 2)
    np.testing.assert_allclose(converted[0, middle], sine(1000, 1, new)[middle], atol=2e-3)


def test_resampling_to_the_same_rate_changes_nothing():
    samples = sine(440, 0.1, 8000)[None]
    assert resample(samples, 8000, 8000) is samples
    with pytest.raises(RequestError, match="above 0 Hz"):
        resample(samples, 8000, 0)


def test_magnitudes_of_a_sine_peak_at_its_bin():
    found = magnitudes(sine(1000, 1.0, 8000), 800, 200)
    assert found.shape == (41, 401)
    assert found[20].argmax() == 100
    assert found[20, 100] == pytest.approx(0.5, abs=1e-3)


def test_magnitudes_do_not_depend_on_the_block(monkeypatch):
    noise = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    whole = magnitudes(noise, 512, 128)
    monkeypatch.setattr("luthier.audio.spectrum._BLOCK_FRAMES", 7)
    np.testing.assert_array_equal(magnitudes(noise, 512, 128), whole)


def test_band_levels_are_filtered_magnitudes(monkeypatch):
    noise = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    bank = mel_filterbank(8000, 512, 10, 30.0, 4000.0)
    expected = magnitudes(noise, 512, 128) @ bank
    monkeypatch.setattr("luthier.audio.spectrum._BLOCK_FRAMES", 7)
    np.testing.assert_allclose(band_levels(noise, 512, 128, bank), expected, rtol=1e-5)


def test_an_excerpt_is_the_middle_in_mono_at_full_scale():
    left = np.concatenate([sine(100, 2, 8000), 0.25 * sine(300, 1, 8000), sine(100, 3, 8000)])
    found, start_s = mono_excerpt(np.stack([left, 0 * left]), 8000, 4000, 1.0)
    assert (found.shape, start_s) == ((4000,), 2.5)
    assert np.abs(found).max() == pytest.approx(1)
    whole, start_s = mono_excerpt(left, 8000, 8000, 60.0)
    assert (whole.size, start_s) == (left.size, 0)
    left[100] = np.nan
    assert not mono_excerpt(left, 8000, 8000, 60.0)[0].any()


def test_short_signals_give_a_frame():
    assert magnitudes(np.ones(3, np.float32), 512, 128).shape == (1, 257)


def test_filters_are_means_and_none_is_empty():
    bank = mel_filterbank(24000, 512, 100, 20.0, 12000.0)
    assert bank.shape == (257, 100)
    np.testing.assert_allclose(bank.sum(axis=0), 1, rtol=1e-5)
    assert (np.diff(bank.argmax(axis=0)) >= 0).all()


def test_log_mel_follows_level_and_has_a_floor():
    loud = log_mel(sine(440, 0.5, 16000), 16000)
    quiet = log_mel(0.1 * sine(440, 0.5, 16000), 16000)
    assert loud.max() - quiet.max() == pytest.approx(20, abs=0.1)
    assert (log_mel(np.zeros(8000, np.float32), 16000) == -80).all()


def test_chroma_of_a_chord_is_its_pitch_classes():
    chord = sum(sine(440 * 2 ** (n / 12), 3.0, 24000) for n in (-9, -5, -2))  # C E G
    found = chroma(np.stack([chord, chord]).astype(np.float32), 24000)
    assert found.shape[1] == 12
    assert set(np.argsort(found[len(found) // 2])[-3:]) == {0, 4, 7}
    assert not chroma(np.zeros(24000, np.float32), 24000).any()
