"""Samples → which notes sound when: note activations and pitch classes, for treble and bass.

The method of Mauch and Dixon (Approximate Note Transcription for the Improved Identification of
Difficult Chords, 2010): a log-frequency spectrum, corrected for tuning and whitened, is explained
by non-negative amounts of harmonic notes, so that overtones do not count as notes of their own.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from luthier.audio.resample import resample
from luthier.audio.spectrum import Floats, magnitudes

RATE, _N_FFT, _HOP = 11025, 8192, 2048
FRAMES_PER_S = RATE / _HOP
LOW_NOTE, HIGH_NOTE = 24, 96  # MIDI C1 up to, not including, C7
_TOP_NOTE = 108  # the spectrum reaches an octave further, for the overtones
_BINS = 3  # a semitone
_BIN_COUNT = (_TOP_NOTE - LOW_NOTE) * _BINS + 1
_OVERTONE_DECAY, _OVERTONES = 0.7, 15
_ITERATIONS = 40


def chroma(samples: Floats, sample_rate: int) -> Floats:
    """Pitch-class strengths of (channels, n) or (n,) samples: (frames, 12), C first, each row's
    largest 1 (all zero where nothing sounds), at 5.4 frames a second."""
    notes = note_activations(samples, sample_rate)
    classes = fold(notes, treble_weights())
    top = classes.max(axis=1, keepdims=True)
    return np.asarray(classes / np.where(top > 0, top, 1), np.float32)


def note_activations(samples: Floats, sample_rate: int) -> Floats:
    """How strongly each semitone C1…B6 sounds: (frames, 72), at 5.4 frames a second.

    Levels are relative to the loudest moment and whitened across frequency; the tuning of the
    recording (within half a semitone) is found and removed.
    """
    mono = samples.mean(axis=0, keepdims=True) if samples.ndim == 2 else samples[None]
    spectrum = magnitudes(resample(mono, sample_rate, RATE)[0], _N_FFT, _HOP)
    top = float(spectrum.max())
    if top <= 0:
        return np.zeros((len(spectrum), HIGH_NOTE - LOW_NOTE), np.float32)
    spectrum /= np.float32(top)
    bank = _log_frequency_bank(round(_tuning(spectrum), 2))
    return _explained(_whitened(np.asarray(spectrum @ bank, np.float32)))


def fold(notes: Floats, weights: Floats) -> Floats:
    """Sum (frames, 72) note activations, times a weight a note, into (frames, 12) pitch classes."""
    classes = np.eye(12, dtype=np.float32)[np.arange(LOW_NOTE, HIGH_NOTE) % 12]
    return np.asarray((notes * weights) @ classes, np.float32)


def treble_weights() -> Floats:
    """A weight a note: nothing below G#2, all from E3, falling again towards C7."""
    note = np.arange(LOW_NOTE, HIGH_NOTE)
    return (np.clip((note - 44) / 8, 0, 1) * np.clip((96 - note) / 24, 0, 1)).astype(np.float32)


def bass_weights() -> Floats:
    """A weight a note: all up to C3, nothing from G#3."""
    return np.clip((56 - np.arange(LOW_NOTE, HIGH_NOTE)) / 8, 0, 1).astype(np.float32)


def _tuning(spectrum: Floats) -> float:
    """By how many semitones, -0.5..0.5, the spectral peaks lie above the notes at A = 440 Hz."""
    low, high = int(80 / RATE * _N_FFT), int(2500 / RATE * _N_FFT)
    region = spectrum[:, low - 1 : high + 2]
    middle = region[:, 1:-1]
    is_peak = (middle > region[:, :-2]) & (middle >= region[:, 2:]) & (middle > 0.05 * middle.max())
    frame, index = np.nonzero(is_peak)
    left, centre, right = (np.log(region[frame, index + i] + 1e-9) for i in range(3))
    bend = left - 2 * centre + right
    shift = np.clip(0.5 * (left - right) / np.where(bend < -1e-9, bend, -1.0), -0.5, 0.5)
    note = 69 + 12 * np.log2((index + low + shift) * RATE / _N_FFT / 440)
    return float(np.angle(np.sum(np.exp(2j * np.pi * note) * middle[frame, index]))) / (2 * np.pi)


@lru_cache(maxsize=4)
def _log_frequency_bank(tuning: float) -> Floats:
    """(FFT bins, 253): triangular filters, three a semitone, at least an FFT bin wide."""
    hz = np.arange(_N_FFT // 2 + 1) * RATE / _N_FFT
    note = 69 + 12 * np.log2(np.maximum(hz, 1e-3) / 440) - tuning
    position = (note - LOW_NOTE) * _BINS
    index = np.arange(_BIN_COUNT)
    centre_hz = 440 * 2 ** ((LOW_NOTE + index / _BINS - 69 + tuning) / 12)
    width = np.maximum(1.0, _BINS * 12 * np.log2(1 + RATE / _N_FFT / centre_hz))
    bank = np.maximum(0, 1 - np.abs(position[:, None] - index) / width)
    return np.asarray(bank / np.maximum(bank.sum(axis=0), 1e-9), np.float32)


@lru_cache(maxsize=1)
def _neighbourhood() -> Floats:
    """(253, 253): the weighted mean over nine semitones to each side of a bin."""
    reach = 9 * _BINS
    distance = np.abs(np.arange(_BIN_COUNT)[:, None] - np.arange(_BIN_COUNT))
    weights = np.where(distance <= reach, 0.5 + 0.5 * np.cos(np.pi * distance / (reach + 1)), 0)
    return np.asarray(weights / weights.sum(axis=0), np.float32)


def _whitened(levels: Floats) -> Floats:
    """What stands out of its neighbourhood, over the root of the deviation there: a quiet treble
    counts nearly like a loud bass, and drums, which fill a neighbourhood evenly, hardly at all."""
    mean = levels @ _neighbourhood()
    variance = np.square(levels) @ _neighbourhood() - np.square(mean)
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    white: Floats = np.maximum(0, levels - mean) / np.sqrt(np.maximum(deviation, 1e-6))
    return white


@lru_cache(maxsize=1)
def _note_spectra() -> Floats:
    """(253, 72): what each note looks like, fifteen overtones falling by 0.7 each, unit norm."""
    notes = np.arange(LOW_NOTE, HIGH_NOTE)
    number = np.arange(1, _OVERTONES + 1)
    centre = (notes[:, None] + 12 * np.log2(number) - LOW_NOTE) * _BINS
    shape = np.exp(-0.5 * ((np.arange(_BIN_COUNT)[:, None, None] - centre) / 0.9) ** 2)
    spectra = (shape * _OVERTONE_DECAY ** (number - 1)).sum(axis=2)
    return np.asarray(spectra / np.linalg.norm(spectra, axis=0), np.float32)


def _explained(levels: Floats) -> Floats:
    """Non-negative least squares of every frame by note spectra, with multiplicative updates."""
    spectra = _note_spectra()
    target, overlap = levels @ spectra, spectra.T @ spectra
    amounts = np.maximum(target, np.float32(1e-6))
    for _ in range(_ITERATIONS):
        amounts = amounts * (target / (amounts @ overlap + np.float32(1e-9)))
    return np.asarray(amounts, np.float32)
