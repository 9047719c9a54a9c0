"""The default embedding: what moves it and what does not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.errors import AudioError, RequestError
from luthier.evaluation.embedding import (
    DEFAULT_EMBEDDING,
    Embedding,
    embedding_names,
    get_embedding,
)
from luthier.evaluation.frechet import fad

RATE = 24_000


@functools.cache
def pluck(note: float, rate: int) -> NDArray[np.float64]:
    """Two seconds of a fading tone with five harmonics."""
    time = np.arange(2 * rate) / rate
    tone = sum(np.sin(2 * np.pi * note * h * time) / h for h in range(1, 6))
    return np.asarray(0.1 * np.exp(-6 * time) * tone)


def music(seed: int, seconds: float = 8.0, rate: int = RATE) -> NDArray[np.float32]:
    """Plucked chords and noise bursts in stereo, (2, n)."""
    generator = np.random.default_rng(seed)
    total = 0.002 * generator.normal(size=int(seconds * rate))
    fall = 0.1 * np.exp(-40 * np.arange(rate // 2) / rate)
    for beat in np.arange(0, seconds, 0.5):
        after = total[int(beat * rate) :]
        for note in generator.choice([220, 277.2, 329.6, 440, 554.4], 3, replace=False):
            after[: 2 * rate] += pluck(note, rate)[: after.size]
        after[: rate // 2] += (fall * generator.normal(size=rate // 2))[: after.size]
    stereo = np.stack([total, np.roll(total, 7)])
    return (stereo / np.abs(stereo).max()).astype(np.float32)


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    return get_embedding()


def test_the_shape_is_what_it_says(embedding: Embedding) -> None:
    windows = embedding.embed(music(0), RATE)
    assert embedding.name == DEFAULT_EMBEDDING in embedding_names()
    assert windows.dtype == np.float64
    # Every hop starts a window that fits in whole.
    expected = (8.0 - embedding.window_s) / embedding.hop_s + 1
    assert windows.shape == (int(expected), embedding.dim) == (15, 72)
    assert np.isfinite(windows).all()


def test_the_same_sound_gives_the_same_numbers(embedding: Embedding) -> None:
    np.testing.assert_array_equal(
        embedding.embed(music(0), RATE), get_embedding().embed(music(0), RATE)
    )


@pytest.mark.parametrize("gain", [0.02, 0.5])
def test_level_is_measured_elsewhere(embedding: Embedding, gain: float) -> None:
    loud = embedding.embed(music(0), RATE)
    quiet = embedding.embed(music(0) * np.float32(gain), RATE)
    np.testing.assert_allclose(quiet, loud, atol=1e-3)


def test_the_rate_of_a_file_hardly_matters(embedding: Embedding) -> None:
    from luthier.audio.resample import resample

    high = resample(music(0), RATE, 48_000)
    difference = embedding.embed(high, 48_000) - embedding.embed(music(0), RATE)
    # The top band ends where the two resamplings roll off.
    assert np.abs(difference).mean() < 0.02


def test_mono_is_stereo_with_equal_sides(embedding: Embedding) -> None:
    mono = music(0).mean(axis=0, keepdims=True)
    both = np.repeat(mono, 2, axis=0)
    np.testing.assert_allclose(embedding.embed(mono, RATE), embedding.embed(both, RATE), atol=1e-6)


@pytest.mark.parametrize("count", [1, 100, RATE // 2, RATE])
def test_short_audio_is_one_window(embedding: Embedding, count: int) -> None:
    assert embedding.embed(music(0)[:, :count], RATE).shape == (1, embedding.dim)


def test_silence_is_a_point_like_any_other(embedding: Embedding) -> None:
    windows = embedding.embed(np.zeros((2, 2 * RATE), np.float32), RATE)
    assert np.isfinite(windows).all()
    assert np.ptp(windows, axis=0).max() == 0


def test_no_samples_are_refused(embedding: Embedding) -> None:
    with pytest.raises(AudioError, match="no samples"):
        embedding.embed(np.zeros((2, 0), np.float32), RATE)


def test_an_unknown_embedding_is_a_sentence() -> None:
    with pytest.raises(RequestError, match="the choices are mel-stats-v1"):
        get_embedding("vggish")


def low_passed(samples: NDArray[np.float32], cutoff_hz: float) -> NDArray[np.float32]:
    spectrum = np.fft.rfft(samples, axis=1)
    hz = np.fft.rfftfreq(samples.shape[1], 1 / RATE)
    spectrum /= 1 + (hz / cutoff_hz) ** 4
    return np.fft.irfft(spectrum, samples.shape[1], axis=1).astype(np.float32)


def test_damage_moves_the_set_away_step_by_step(embedding: Embedding) -> None:
    def windows(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Any:
        return np.concatenate([embedding.embed(change(one), RATE) for one in played])

    played = [music(seed) for seed in range(6)]
    noise = np.random.default_rng(0).normal(size=(2, 8 * RATE)).astype(np.float32)
    reference = np.concatenate([embedding.embed(music(seed), RATE) for seed in range(10, 16)])
    for changes in (
        [lambda x, a=a: x + np.float32(a) * noise for a in (0, 0.01, 0.05, 0.2)],
        [lambda x, c=c: low_passed(x, c) for c in (12_000, 6_000, 3_000, 1_000)],
        [lambda x, g=g: np.tanh(g * x) for g in (0.1, 2, 6, 30)],
    ):
        values = [fad(reference, windows(c), embedding="test").value for c in changes]
        assert values == sorted(values)
        assert values[-1] > 3 * values[0]
