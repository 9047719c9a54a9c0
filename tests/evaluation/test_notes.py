"""The embedding that hears notes: what moves it and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.errors import AudioError
from luthier.evaluation.embedding import Embedding, get_embedding
from luthier.evaluation.frechet import fad

RATE = 22_050
TRIADS = ((0, 3, 7), (5, 8, 12), (7, 11, 14), (3, 7, 10))
CLUSTERS = ((0, 1, 2), (6, 7, 8), (3, 4, 6), (9, 10, 11))
Audio = NDArray[np.float32]


def song(seed: int, chords: tuple[tuple[int, ...], ...], tonic: int = 48) -> Audio:
    """10 s of plucked chords, two a second, with a noise burst on each: one timbre."""
    generator = np.random.default_rng(seed)
    total = 0.001 * generator.normal(size=10 * RATE)
    for beat in range(20):
        after = np.arange(RATE // 2) / RATE
        part = 0.05 * np.exp(-40 * after) * generator.normal(size=after.size)
        for step in chords[generator.integers(len(chords))]:
            hz = 440 * 2 ** ((tonic + step - 69) / 12)
            for harmonic in (1, 2, 3, 4):
                part += 0.1 / harmonic * np.exp(-4 * after) * np.sin(6.2832 * hz * harmonic * after)
        total[beat * RATE // 2 :][: after.size] += part
    return total[None].astype(np.float32)


@pytest.fixture(scope="module")
def notes() -> Embedding:
    return get_embedding("notes-v1")


def windows(embedding: Embedding, songs: list[Audio]) -> NDArray[np.float64]:
    return np.concatenate([embedding.embed(samples, RATE) for samples in songs])


def test_the_shape_is_what_it_says(notes: Embedding) -> None:
    found = notes.embed(song(0, TRIADS), RATE)
    assert found.shape[1] == notes.dim == 43
    assert len(found) == int((10 - notes.window_s) / notes.hop_s) + 1
    np.testing.assert_array_equal(found, get_embedding("notes-v1").embed(song(0, TRIADS), RATE))


def low_passed(samples: Audio) -> Audio:
    """Without what is above 1 kHz: another timbre, the same notes."""
    spectrum = np.fft.rfft(samples, axis=1)
    spectrum /= 1 + (np.fft.rfftfreq(samples.shape[1], 1 / RATE) / 1000) ** 4
    return np.fft.irfft(spectrum, samples.shape[1], axis=1).astype(np.float32)


def test_it_hears_notes_and_mel_stats_hears_timbre(notes: Embedding) -> None:
    """The same music, once with wrong chords, once muffled: which of the two is further away?"""
    damage = {}
    for embedding in (notes, get_embedding("mel-stats-v1")):
        real = windows(embedding, [song(s, TRIADS) for s in (0, 1)])
        sets = ([song(s, CLUSTERS) for s in (3, 4)], [low_passed(song(s, TRIADS)) for s in (3, 4)])
        damage[embedding.name] = [
            fad(real, windows(embedding, changed), embedding="test").value for changed in sets
        ]
    wrong, muffled = damage["notes-v1"]
    assert wrong > 10 * muffled
    wrong, muffled = damage["mel-stats-v1"]
    assert wrong < muffled


def test_another_key_is_no_further_than_another_song(notes: Embedding) -> None:
    real = windows(notes, [song(s, TRIADS) for s in (0, 1)])
    same = windows(notes, [song(s, TRIADS) for s in (3, 4)])
    moved = windows(notes, [song(s, TRIADS, tonic=49) for s in (3, 4)])
    assert fad(real, moved, embedding="test").value < 1.5 * fad(real, same, embedding="test").value


def test_level_is_measured_elsewhere(notes: Embedding) -> None:
    loud = notes.embed(song(0, TRIADS), RATE)
    quiet = notes.embed(np.float32(0.05) * song(0, TRIADS), RATE)
    np.testing.assert_allclose(quiet, loud, atol=0.02)


@pytest.mark.parametrize("count", [1, 2000, RATE])
def test_short_and_silent_audio_is_one_finite_window(notes: Embedding, count: int) -> None:
    for samples in (song(0, TRIADS)[:, :count], np.zeros((2, count), np.float32)):
        found = notes.embed(samples, RATE)
        assert found.shape == (1, 43)
        assert np.isfinite(found).all()


def test_no_samples_are_refused(notes: Embedding) -> None:
    with pytest.raises(AudioError, match="no samples"):
        notes.embed(np.zeros((2, 0), np.float32), RATE)
