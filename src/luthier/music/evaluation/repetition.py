"""Does a clip go round in circles? The best match of its spectrogram with itself, shifted.

All music repeats, so a score is only worth something beside that of real tracks: a fine-tuned model
that is trained too long tends to loop a bar note for note, which no player does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import mix_to
from luthier.audio.resample import resample
from luthier.audio.spectrum import log_mel

_RATE, _N_FFT, _HOP, _BANDS = 16_000, 1024, 800, 40  # 20 frames a second
_FRAMES_PER_S = _RATE / _HOP
_SHORTEST_S, _LONGEST_S = 0.4, 16.0  # of a loop
_RANGE_DB = 60.0


@dataclass(frozen=True)
class Repetition:
    """How exactly a clip repeats.

    Attributes:
        score: correlation of the spectrogram with itself after `period_s`, 0..1; 1 is a loop.
        period_s: the length of what is repeated, seconds; 0 when nothing was found.
    """

    score: float
    period_s: float


def repetition(samples: NDArray[np.float32], sample_rate: int) -> Repetition:
    """The strongest repetition of (channels, n) samples; of a clip below 1.6 s, none.

    Periods from 0.4 s to half the clip, at most 16 s, are tried. The mean spectrum is taken off
    first: a steady sound (hiss, a drone, silence) is no loop.
    """
    mono = resample(mix_to(samples, 1), sample_rate, _RATE)[0]
    levels = log_mel(mono, _RATE, n_fft=_N_FFT, hop=_HOP, bands=_BANDS).astype(np.float64)
    levels = np.maximum(levels, levels.max() - _RANGE_DB)
    levels -= levels.mean(axis=0)
    first = round(_SHORTEST_S * _FRAMES_PER_S)
    last = min(len(levels) // 2, round(_LONGEST_S * _FRAMES_PER_S))
    if last < 2 * first or not np.any(levels):
        return Repetition(0.0, 0.0)
    energy = np.concatenate([[0.0], np.cumsum(np.sum(levels**2, axis=1))])
    scores = [_correlation(levels, energy, lag) for lag in range(first, last + 1)]
    best = int(np.argmax(scores))
    if scores[best] <= 0:
        return Repetition(0.0, 0.0)
    return Repetition(round(scores[best], 4), round((first + best) / _FRAMES_PER_S, 3))


def _correlation(levels: NDArray[np.float64], energy: NDArray[np.float64], lag: int) -> float:
    product = float(np.sum(levels[:-lag] * levels[lag:]))
    early, late = energy[-1 - lag], energy[-1] - energy[lag]
    return product / max(float(np.sqrt(early * late)), 1e-9)
