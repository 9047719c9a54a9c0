"""A small band made of numpy: chords, bass and drums at a known tempo and in a known key."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from luthier.audio.keynames import parse_key

RATE = 24000
# (semitones above the tonic, third) a bar.
_PROGRESSIONS = {
    "major": ((0, 4), (5, 4), (7, 4), (0, 4)),
    "minor": ((0, 3), (5, 3), (7, 4), (0, 3)),
}


def play(
    bpm: float, key: str, duration_s: float = 12.0, *, seed: int = 0, rate: int = RATE
) -> NDArray[np.float32]:
    """Play: (2, samples), peak 0.5, the first beat at 0 s."""
    rng = np.random.default_rng(seed)
    tonic, progression = parse_key(key).tonic, _PROGRESSIONS[parse_key(key).mode]
    out = np.zeros(round(duration_s * rate))
    beat_s = 60 / bpm
    for beat in range(int(np.ceil(duration_s / beat_s))):
        root, third = progression[beat // 4 % 4]
        chord = [root, root + third, root + 7]
        _add(out, beat * beat_s, _tone(36 + (tonic + root) % 12, beat_s, rate), 0.5, rate)
        for step in chord if beat % 2 == 0 else ():
            tone = _tone(57 + (tonic + step - 9) % 12, 2 * beat_s, rate)
            _add(out, beat * beat_s, tone, 0.3, rate)
        kick, hat = _kick(rate), rng.standard_normal(rate // 30)
        sound, gain = (kick, 0.8) if beat % 2 == 0 else (hat, 0.15)
        _add(out, beat * beat_s, sound, gain, rate)
        _add(out, (beat + 0.5) * beat_s, hat * np.linspace(1, 0, hat.size), 0.05, rate)
    return np.tile(0.5 * out / np.abs(out).max(), (2, 1)).astype(np.float32)


def _tone(note: int, duration_s: float, rate: int) -> NDArray[np.float64]:
    t = np.arange(round(duration_s * rate)) / rate
    hz = 440 * 2 ** ((note - 69) / 12)
    return np.exp(-2 * t) * sum(0.6**h * np.sin(2 * np.pi * h * hz * t) for h in range(1, 8))


def _kick(rate: int) -> NDArray[np.float64]:
    t = np.arange(rate // 8) / rate
    return np.exp(-30 * t) * np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-30 * t))))


def _add(
    out: NDArray[np.float64], at_s: float, sound: NDArray[np.float64], gain: float, rate: int
) -> None:
    start = round(at_s * rate)
    part = out[start : start + sound.size]
    part += gain * sound[: part.size]
