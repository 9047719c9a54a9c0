from __future__ import annotations

import numpy as np
import pytest

from band import RATE, play
from luthier.audio import key as key_module
from luthier.audio.key import estimate_key
from luthier.audio.keynames import ALL_KEYS, Key, parse_key
from luthier.audio.resample import resample
from luthier.errors import AudioError

NOTHING = Key(0, "major", 0.0)
MAJOR, MINOR = (0, 4, 7), (0, 3, 7)


def chords(tonic: int, loop: list[tuple[int, tuple[int, ...]]], rounds: int = 2) -> np.ndarray:
    """(1, n): a second of every chord of the loop, (semitones above the tonic, triad), over its
    root in the bass, `rounds` times."""
    t = np.arange(RATE) / RATE
    seconds = []
    for root, triad in loop * rounds:
        note = (tonic + root) % 12
        pitches = [36 + note, *(60 + (note + step) % 12 for step in triad)]
        hertz = [440 * 2 ** ((pitch - 69) / 12) for pitch in pitches]
        tones = [0.6**h * np.sin(2 * np.pi * (h + 1) * hz * t) for hz in hertz for h in range(6)]
        seconds.append(np.exp(-2 * t) * sum(tones))
    return 0.1 * np.concatenate(seconds)[None].astype(np.float32)


@pytest.mark.parametrize("key", [key.name for key in ALL_KEYS])
def test_every_key(key):
    found = estimate_key(play(96, key, 10.5), RATE)
    assert found.name == key
    assert found.confidence > 0.5


LOOPS = {
    "I V vi IV": ([(0, MAJOR), (7, MAJOR), (9, MINOR), (5, MAJOR)], "C major"),
    "I vi IV V": ([(0, MAJOR), (9, MINOR), (5, MAJOR), (7, MAJOR)], "C major"),
    "I IV V I": ([(0, MAJOR), (5, MAJOR), (7, MAJOR), (0, MAJOR)], "C major"),
    "i VI iv V": ([(9, MINOR), (5, MAJOR), (2, MINOR), (4, MAJOR)], "A minor"),
    "i iv V i": ([(9, MINOR), (2, MINOR), (4, MAJOR), (9, MINOR)], "A minor"),
}
AMBIGUOUS_LOOPS = {
    "vi IV I V": [(9, MINOR), (5, MAJOR), (0, MAJOR), (7, MAJOR)],
    "ii V I vi": [(2, MINOR), (7, MAJOR), (0, MAJOR), (9, MINOR)],
    "i VII VI VII": [(9, MINOR), (7, MAJOR), (5, MAJOR), (7, MAJOR)],
}


@pytest.mark.parametrize("semitones", [0, 1, 6, 11])
@pytest.mark.parametrize("name", LOOPS)
def test_a_transposed_loop_is_in_the_transposed_key(name, semitones):
    loop, key = LOOPS[name]
    found, expected = estimate_key(chords(semitones, loop), RATE), parse_key(key)
    assert (found.tonic, found.mode) == ((expected.tonic + semitones) % 12, expected.mode)


@pytest.mark.parametrize("semitones", [0, 5])
@pytest.mark.parametrize("name", AMBIGUOUS_LOOPS)
def test_a_loop_that_fits_two_relatives_is_one_of_them(name, semitones):
    """A minor or C major: listeners disagree too, and the confidence says so."""
    found = estimate_key(chords(semitones, AMBIGUOUS_LOOPS[name]), RATE)
    tonic = (found.tonic - semitones) % 12
    assert Key(tonic, found.mode).name in ("A minor", "C major")
    certain = estimate_key(chords(semitones, LOOPS["I IV V I"][0]), RATE)
    assert found.confidence < 0.8 < certain.confidence


@pytest.mark.parametrize("cents", [-40, 30])
def test_a_detuned_recording(cents):
    rate = round(RATE * 2 ** (cents / 1200))
    assert estimate_key(play(96, "F# minor", 10.5), rate).name == "F# minor"


def test_level_polarity_and_rate_do_not_matter():
    music = play(96, "Eb minor", 10.5)
    for other in (0.001 * music, -music, np.float32(1e20) * music):
        assert estimate_key(other, RATE).name == "Eb minor"
    assert estimate_key(resample(music, RATE, 44100), 44100).name == "Eb minor"


def test_noise_over_the_music():
    music = play(96, "Eb major", 10.5)
    noise = 0.05 * np.random.default_rng(0).standard_normal(music.shape).astype(np.float32)
    assert estimate_key(music + noise, RATE).name == "Eb major"


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros((2, 5 * RATE), np.float32), id="silence"),
        pytest.param(np.ones((1, 1), np.float32), id="one sample"),
        pytest.param(play(120, "C major", 0.1), id="a tenth of a second"),
        pytest.param(np.full((2, 5 * RATE), np.nan, np.float32), id="not a number"),
        pytest.param(np.full((2, 5 * RATE), -np.inf, np.float32), id="infinite"),
    ],
)
def test_nothing_to_hear(samples):
    assert estimate_key(samples, RATE) == NOTHING


def test_without_pitch_there_is_hardly_any_confidence():
    noise = np.random.default_rng(0).standard_normal((1, 5 * RATE)).astype(np.float32)
    assert estimate_key(noise, RATE).confidence < 0.2
    click = np.zeros((2, 5 * RATE), np.float32)
    click[:, 2 * RATE] = 1
    assert estimate_key(click, RATE).confidence < 0.1


def test_of_a_long_recording_the_middle_is_heard(monkeypatch):
    monkeypatch.setattr(key_module, "LONGEST_S", 8.0)
    parts = [play(120, key, seconds) for key, seconds in (("C major", 6), ("F# minor", 8))]
    music = np.concatenate([*parts, parts[0]], axis=1)
    assert estimate_key(music, RATE).same_as(parse_key("F# minor"))


def test_no_samples():
    with pytest.raises(AudioError, match="no samples"):
        estimate_key(np.zeros((2, 0), np.float32), RATE)
