from __future__ import annotations

import numpy as np
import pytest

from band import RATE, play
from luthier.audio.key import estimate_key
from luthier.audio.keynames import ALL_KEYS
from luthier.errors import AudioError


@pytest.mark.parametrize("key", [key.name for key in ALL_KEYS])
def test_every_key(key):
    found = estimate_key(play(96, key, 10.5), RATE)
    assert found.name == key
    assert found.confidence > 0.5


@pytest.mark.parametrize("cents", [-40, 30])
def test_a_detuned_recording(cents):
    rate = round(RATE * 2 ** (cents / 1200))
    assert estimate_key(play(96, "F# minor", 10.5), rate).name == "F# minor"


def test_noise_over_the_music():
    music = play(96, "Eb major", 10.5)
    noise = 0.05 * np.random.default_rng(0).standard_normal(music.shape).astype(np.float32)
    assert estimate_key(music + noise, RATE).name == "Eb major"


def test_without_pitch_there_is_no_confidence():
    assert estimate_key(np.zeros((2, 5 * RATE), np.float32), RATE).confidence < 0.05
    noise = np.random.default_rng(0).standard_normal((1, 5 * RATE)).astype(np.float32)
    assert estimate_key(noise, RATE).confidence < 0.5


def test_short_and_empty():
    assert estimate_key(play(96, "C major", 3)[:, : RATE // 3], RATE).tonic in range(12)
    assert estimate_key(np.ones((1, 1), np.float32), RATE).tonic in range(12)
    with pytest.raises(AudioError, match="no samples"):
        estimate_key(np.zeros((2, 0), np.float32), RATE)
