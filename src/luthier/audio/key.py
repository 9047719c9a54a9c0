"""Samples → the key of the music, by the chords that it uses and where it begins and ends.

Chords tell what a pitch-class histogram cannot: A minor and C major share all their notes, but not
how often they rest on A minor and on C major, and only one of them has an E major chord.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from luthier.audio.chroma import (
    FRAMES_PER_S,
    RATE,
    bass_weights,
    fold,
    note_activations,
    treble_weights,
)
from luthier.audio.keynames import Key, Mode
from luthier.audio.spectrum import mono_excerpt
from luthier.errors import AudioError

Floats = NDArray[np.float32]
_MODES: tuple[Mode, Mode] = ("major", "minor")

# How common triads are in a key: (semitones above the tonic, triad) → share. Rounded from counts
# of common-practice and popular music; what is missing shares _OTHER_CHORDS.
_CHORDS_OF: dict[Mode, dict[tuple[int, Mode], float]] = {
    "major": {
        (0, "major"): 0.34, (5, "major"): 0.18, (7, "major"): 0.18, (9, "minor"): 0.12,
        (2, "minor"): 0.08, (4, "minor"): 0.05, (10, "major"): 0.02, (5, "minor"): 0.01,
        (2, "major"): 0.01,
    },
    "minor": {
        (0, "minor"): 0.34, (5, "minor"): 0.15, (7, "major"): 0.13, (8, "major"): 0.13,
        (10, "major"): 0.10, (3, "major"): 0.06, (7, "minor"): 0.05, (5, "major"): 0.02,
    },
}  # fmt: skip
_OTHER_CHORDS = 0.004
_TREBLE, _BASS = 8.0, 6.0  # how sharply pitch classes and bass note decide a frame's chord
# First and last second being the tonic, against the mean of all frames: it tells a minor loop
# without a dominant from its relative major, and weighs too little to mislead in an excerpt.
_EDGE, _EDGE_FRAMES = 0.06, round(1.1 * FRAMES_PER_S)
LONGEST_S = 300.0
_SHORTEST_S = 0.2
_ENOUGH_S = 4.0  # of sound; with less, a bar or two, the chords heard say less of the key
_CERTAINTY = 5.0  # log-likelihood a frame → probability: frames are far from independent


def estimate_key(samples: Floats, sample_rate: int) -> Key:
    """Estimate the key of (channels, n) samples, with its probability as the confidence.

    Of recordings longer than five minutes the middle five are heard, so memory is bounded. Noise
    gives some key with a confidence near 1/24; silence, less than a fifth of a second or samples
    that are not numbers give C major with confidence 0.
    """
    if samples.size == 0:
        raise AudioError("there are no samples to estimate a key from.")
    mono, _ = mono_excerpt(samples, sample_rate, RATE, LONGEST_S)
    if mono.size < _SHORTEST_S * RATE or not mono.any():
        return Key(0, "major", 0.0)
    notes = note_activations(mono, RATE)
    weight = _loudness(notes)
    certainty = _CERTAINTY * min(1, float(weight.sum()) / FRAMES_PER_S / _ENOUGH_S)
    scores = key_scores(notes, weight)
    odds = np.exp(certainty * (scores - scores.max()))
    mode, tonic = np.unravel_index(int(np.argmax(odds)), odds.shape)
    confidence = float(odds.max() / odds.sum())
    return Key(int(tonic), _MODES[int(mode)], round(confidence, 3))


def _loudness(notes: Floats) -> Floats:
    """How much each frame of (frames, 72) note activations counts, 0..1: less when it is quieter
    than most, so that gaps do not count."""
    strength = notes.sum(axis=1)
    sounding = strength[strength > 0]
    scaled = strength / np.median(sounding) if sounding.size else strength
    return np.asarray(np.minimum(1, scaled), np.float32)


def key_scores(notes: Floats, weight: Floats) -> NDArray[np.float64]:
    """Weighted mean log-likelihood a frame of (frames, 72) note activations, given the (frames,)
    weights: (2 modes, 12 tonics)."""
    chords = chord_probabilities(notes)
    likelihood = np.log(np.einsum("fc,kc->fk", chords, _key_table()))
    scores = (weight[:, None] * likelihood).sum(axis=0) / max(float(weight.sum()), 1e-9)
    sounding = np.flatnonzero(weight > 0.1)
    for part in (sounding[:_EDGE_FRAMES], sounding[-_EDGE_FRAMES:]):
        scores += _EDGE * np.log(0.1 + chords[part].mean(axis=0)) if part.size else 0
    return np.asarray(scores.reshape(2, 12), np.float64)


def chord_probabilities(notes: Floats) -> NDArray[np.float64]:
    """(frames, 24): the probability of each triad, 12 major then 12 minor, from C."""
    treble = _unit(_smooth(np.sqrt(fold(notes, treble_weights()))))
    bass = _smooth(fold(notes, bass_weights()))
    bass = bass / np.maximum(bass.sum(axis=1, keepdims=True), 1e-9)
    evidence = _TREBLE * (treble @ _triads().T) + _BASS * np.tile(bass, 2)
    odds = np.exp(evidence - evidence.max(axis=1, keepdims=True)).astype(np.float64)
    probabilities: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return probabilities


def _smooth(rows: Floats) -> Floats:
    """The mean of each frame and its neighbours."""
    padded = np.pad(rows, ((1, 1), (0, 0)), mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / np.float32(3)


def _unit(rows: Floats) -> Floats:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norm, 1e-9), np.float32)


@lru_cache(maxsize=1)
def _triads() -> Floats:
    shapes = np.zeros((24, 12), np.float32)
    for (m, third), root in product(enumerate((4, 3)), range(12)):
        shapes[12 * m + root, [root, (root + third) % 12, (root + 7) % 12]] = 3**-0.5
    return shapes


@lru_cache(maxsize=1)
def _key_table() -> NDArray[np.float64]:
    """(24 keys, 24 triads): the share of each triad in each key, rows of sum 1."""
    table = np.full((24, 24), _OTHER_CHORDS)
    for (m, mode), tonic in product(enumerate(_MODES), range(12)):
        for (interval, triad), share in _CHORDS_OF[mode].items():
            table[12 * m + tonic, 12 * _MODES.index(triad) + (tonic + interval) % 12] += share
    return np.asarray(table / table.sum(axis=1, keepdims=True))
