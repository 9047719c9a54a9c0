"""An embedding that hears notes: which sound together, how they move, how onsets repeat.

Where `mel-stats-v1` hears a tape hiss, this one hears a wrong chord. Both need only numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from luthier.audio.chroma import FRAMES_PER_S, fold, note_activations, treble_weights
from luthier.audio.decode import mix_to
from luthier.audio.resample import resample
from luthier.audio.tempo import onset_flux
from luthier.errors import AudioError

Doubles = NDArray[np.float64]

_ONSET_RATE = 22_050  # what `onset_flux` wants, Hz
_ONSETS_PER_S = 22_050 / 256
_LAGS_S = (0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)  # from sixteenths to bars
_MOTION_FRAMES = 4  # 0.74 s: about a beat
_OCTAVES = 6
# One over the deviation of each group over windows of real music, so that all count alike.
_REGISTER, _TOGETHER, _OVERALL, _MOTION, _DENSITY, _TURNOVER, _RHYTHM = 10, 20, 20, 15, 10, 30, 10


class NoteStats:
    """How notes are used: harmony, movement, register, density and rhythm, nothing learned.

    Per window of 4 s of note activations and onsets: shares of the six octaves; the intervals that
    sound together, frame by frame and over the window; the intervals that a beat lies between; how
    many notes sound and how fast they change; how onsets repeat after 0.18 to 2 s. Intervals are
    counted without regard to the key: a piece and its transposition by a semitone differ only in
    register.

    It does not know timbre, level, melodies or words.
    """

    name = "notes-v1"
    sample_rate = _ONSET_RATE
    _window_frames, _hop_frames = 22, 11
    window_s = _window_frames / FRAMES_PER_S
    hop_s = _hop_frames / FRAMES_PER_S
    dim = _OCTAVES + 7 + 7 + 12 + 2 + 1 + len(_LAGS_S)

    def embed(self, samples: NDArray[np.float32], sample_rate: int) -> Doubles:
        """Embed `samples` (channels, n) as (windows, 43)."""
        if samples.ndim != 2 or samples.shape[1] == 0:
            raise AudioError("there is no audio to embed: the clip has no samples.")
        mono = resample(mix_to(samples, 1), sample_rate, self.sample_rate)
        notes = note_activations(mono, self.sample_rate).astype(np.float64)
        onsets = onset_flux(mono[0]).sum(axis=1)
        size = self._window_frames
        notes = np.pad(notes, ((0, max(0, size - len(notes))), (0, 0)))
        sounding = notes.sum(axis=1)
        # One level for the whole clip: a quiet bar stays quiet beside a loud one.
        level = float(sounding[sounding > 0].mean()) if sounding.any() else 1.0
        notes /= level
        starts = range(0, len(notes) - size + 1, self._hop_frames)
        return np.stack([_describe(notes[s : s + size], _part(onsets, s, size)) for s in starts])


def _part(onsets: Doubles, start: int, size: int) -> Doubles:
    """The onsets of a window of note frames, always of one length."""
    first = round(start / FRAMES_PER_S * _ONSETS_PER_S)
    count = round(size / FRAMES_PER_S * _ONSETS_PER_S)
    part = onsets[first : first + count]
    return np.pad(part, (0, count - len(part)))


def _describe(notes: Doubles, onsets: Doubles) -> Doubles:
    total = max(float(notes.sum()), 1e-9)
    octaves = notes.reshape(len(notes), _OCTAVES, 12).sum(axis=(0, 2)) / total
    classes = np.asarray(fold(notes.astype(np.float32), treble_weights()), np.float64)
    frames = _shares(classes)
    together = _intervals(frames, frames)[:7]
    overall = _shares(classes.sum(axis=0, keepdims=True))
    motion = _intervals(frames[:-_MOTION_FRAMES], frames[_MOTION_FRAMES:])
    counts = _effective_count(notes)
    turnover = np.maximum(0, np.diff(notes, axis=0)).sum() / total
    return np.concatenate(
        [
            _REGISTER * octaves,
            _TOGETHER * together,
            _OVERALL * _intervals(overall, overall)[:7],
            _MOTION * motion,
            _DENSITY * np.array([counts.mean(), counts.std()]),
            [_TURNOVER * turnover],
            _RHYTHM * _repeats(onsets),
        ]
    )


def _shares(rows: Doubles) -> Doubles:
    return np.asarray(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-9), np.float64)


def _intervals(first: Doubles, second: Doubles) -> Doubles:
    """The mean share of pitch-class pairs that lie 0…11 semitones apart, (12,)."""
    pairs = (first[:, :, None] * second[:, None, :]).mean(axis=0)
    return np.array([np.trace(np.roll(pairs, -step, axis=1)) for step in range(12)])


def _effective_count(notes: Doubles) -> Doubles:
    """How many notes sound in each frame, in tens: the exponential of the entropy of shares."""
    shares = _shares(notes)
    entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-12)), axis=1)
    return np.asarray(np.where(notes.sum(axis=1) > 0, np.exp(entropy), 0) / 10, np.float64)


def _repeats(onsets: Doubles) -> Doubles:
    """How alike the onsets are to themselves after each lag, -1..1; 0 without onsets."""
    centred = onsets - onsets.mean()
    energy = float(centred @ centred)
    if energy <= 1e-9:
        return np.zeros(len(_LAGS_S))
    steps = [round(lag * _ONSETS_PER_S) for lag in _LAGS_S]
    return np.array([float(centred[:-step] @ centred[step:]) / energy for step in steps])
