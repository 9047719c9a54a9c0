"""Looping audio: found when it loops, and not when it merely goes on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.music.evaluation.repetition import repetition

RATE = 16_000


def phrase(seed: int, seconds: float = 2.0) -> NDArray[np.float32]:
    """Eighth notes at random pitches with soft attacks, (1, n)."""
    generator = np.random.default_rng(seed)
    notes = []
    for _ in range(round(seconds / 0.25)):
        time = np.arange(RATE // 4) / RATE
        hz = 220 * 2 ** (generator.integers(0, 24) / 12)
        notes.append(np.exp(-8 * time) * np.sin(6.2832 * hz * time) * generator.uniform(0.2, 1))
    return (0.5 * np.concatenate(notes))[None].astype(np.float32)


def test_a_loop_is_found_with_its_length() -> None:
    looped = np.tile(phrase(0), (1, 5))
    looped += 0.001 * np.random.default_rng(1).normal(size=looped.shape).astype(np.float32)
    found = repetition(looped, RATE)
    assert found.score > 0.95
    assert found.period_s == pytest.approx(2.0, abs=0.06)


def test_music_that_goes_on_repeats_less() -> None:
    through = np.concatenate([phrase(seed) for seed in range(5)], axis=1)
    assert repetition(through, RATE).score < 0.6


def test_the_more_of_it_is_looped_the_higher_it_scores() -> None:
    parts = [phrase(seed) for seed in range(6)]
    scores = []
    for copies in (1, 3, 6):
        audio = np.concatenate([*(parts[0],) * copies, *parts[copies:]], axis=1)
        scores.append(repetition(audio, RATE).score)
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.3


@pytest.mark.parametrize("samples", [np.zeros((2, 8 * RATE)), np.full((1, 8 * RATE), 0.3)])
def test_what_does_not_change_is_no_loop(samples: NDArray[np.float64]) -> None:
    assert repetition(samples.astype(np.float32), RATE).score < 0.9


def test_noise_is_no_loop() -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=(1, 8 * RATE))
    assert repetition(noise.astype(np.float32), RATE).score < 0.3


@pytest.mark.parametrize("seconds", [0.01, 1.0])
def test_short_clips_have_none(seconds: float) -> None:
    assert repetition(phrase(0)[:, : round(seconds * RATE)], RATE).score == 0


def test_neither_rate_nor_level_nor_channels_matter() -> None:
    from luthier.audio.resample import resample

    looped = np.tile(phrase(3), (1, 4))
    plain = repetition(looped, RATE).score
    stereo = np.repeat(0.1 * looped, 2, axis=0)
    assert repetition(stereo, RATE).score == pytest.approx(plain, abs=0.02)
    assert repetition(resample(looped, RATE, 24_000), 24_000).score == pytest.approx(plain, abs=0.1)
