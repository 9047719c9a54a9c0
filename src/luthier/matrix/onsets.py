"""Samples → onsets to the millisecond, and how near they are to a grid of beats.

`luthier.audio.tempo` finds a tempo; this asks how exactly music keeps to a tempo that is known. A
host that plays a clip at 120 bpm draws its grid at 120 bpm, so the grid is the one that was asked
for, never the one that was heard.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.spectrum import band_levels, mel_filterbank, mono_excerpt

NEAR_MS = 40.0  # a sixteenth at 94 bpm is 160 ms: further off is heard as late, nearer as a feel
_RATE, _N_FFT, _HOP, _BANDS = 22050, 512, 64, 32
_FRAMES_PER_S = _RATE / _HOP
_LONGEST_S = 600.0
_LAG = 4  # frames over which a level rises: 12 ms, the attack of a soft note
# A window sees an onset early, the rise over _LAG frames tells it late: on clicks, plucked and soft
# notes the two cancel out within 1.5 ms, which the tests hold.
_APART_S = 0.05  # onsets nearer than this are one
_AROUND_S = 0.15
_ABOVE = 0.12  # of the strongest onsets' rise, over the mean around
_FEWEST = 4
_SIGMA_S = 0.02  # how near is near, while the phase is looked for

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Onsets:
    """Where notes begin: times in seconds, ascending, and how strong each is, 0..1."""

    times_s: Doubles
    strengths: Doubles


@dataclass(frozen=True)
class GridFit:
    """How near onsets are to a grid of eighth notes.

    Attributes:
        onsets: how many.
        median_ms, mean_ms: distance to the nearest line of the grid.
        near_share: share of the onsets within 40 ms of a line.
        chance_share: the share that onsets anywhere would reach.
        phase_ms: when the beat falls, from the clip's start: at most half a beat early or late.
        lag_ms: median of the signed distance: 0 where the phase was fitted to these onsets; above 0
            when they are late on a grid that something else set.
    """

    onsets: int
    median_ms: float
    mean_ms: float
    near_share: float
    chance_share: float
    phase_ms: float
    lag_ms: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_onsets(samples: NDArray[np.float32], sample_rate: int) -> Onsets:
    """Onsets of (channels, n) samples by spectral flux: rises of log-mel levels over 12 ms, peaks
    that stand out of their surroundings, refined by a parabola. None in silence.
    """
    mono, start_s = mono_excerpt(samples, sample_rate, _RATE, _LONGEST_S)
    if mono.size < _N_FFT or not mono.any():
        return Onsets(np.empty(0), np.empty(0))
    rise = _rise(mono)
    width = 2 * round(_AROUND_S * _FRAMES_PER_S) + 1
    around = np.convolve(rise, np.full(width, 1 / width), mode="same")
    top = float(np.percentile(rise, 99.5))
    apart = round(_APART_S * _FRAMES_PER_S)
    peaks = [
        i
        for i in np.flatnonzero(rise > around + _ABOVE * top).tolist()
        if rise[i] == rise[max(0, i - apart) : i + apart + 1].max()
    ]
    places = np.array([i + _parabola(rise, i) for i in peaks])
    times = start_s + places / _FRAMES_PER_S
    strengths = np.minimum(rise[peaks] / max(top, 1e-9), 1.0)
    return Onsets(np.asarray(times, np.float64), np.asarray(strengths, np.float64))


def _rise(mono: NDArray[np.float32]) -> Doubles:
    bank = mel_filterbank(_RATE, _N_FFT, _BANDS, 60.0, 10000.0)
    levels = band_levels(mono, _N_FFT, _HOP, bank)
    logs = np.log1p(levels * (1000 / (float(levels.max()) or 1.0)))
    before = np.concatenate([np.zeros_like(logs[:_LAG]), logs[:-_LAG]])
    return np.asarray(np.maximum(0, logs - before).mean(axis=1), np.float64)


def _parabola(values: Doubles, place: int) -> float:
    if not 0 < place < len(values) - 1:
        return 0.0
    left, middle, right = values[place - 1 : place + 2].tolist()
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))


def fit_grid(onsets: Onsets, bpm: float, phase_s: float | None = None) -> GridFit | None:
    """Compare onsets with the eighth notes of a tempo.

    Args:
        bpm: beats a minute of the grid.
        phase_s: when a beat falls; None fits it to the onsets, in steps of a millisecond.

    Returns:
        None with fewer than four onsets: nothing can be said.
    """
    if len(onsets.times_s) < _FEWEST:
        return None
    beat_s, eighth_s = 60.0 / bpm, 30.0 / bpm
    fitted = phase_s is None
    phase = _best_phase(onsets, beat_s) if phase_s is None else phase_s
    if fitted:  # what the steps of the search left over
        phase += float(np.median(_offsets(onsets.times_s, phase, eighth_s)))
    offsets_ms = 1000 * _offsets(onsets.times_s, phase, eighth_s)
    distances = np.abs(offsets_ms)
    return GridFit(
        onsets=len(distances),
        median_ms=round(float(np.median(distances)), 2),
        mean_ms=round(float(distances.mean()), 2),
        near_share=round(float(np.mean(distances <= NEAR_MS)), 4),
        chance_share=round(min(1.0, 2 * NEAR_MS / (1000 * eighth_s)), 4),
        phase_ms=round(1000 * float(_wrapped(phase, beat_s)), 2),
        lag_ms=round(float(np.median(offsets_ms)), 2),
    )


def _best_phase(onsets: Onsets, beat_s: float) -> float:
    """The phase whose beats, and less so whose off-beats, most of the sound begins on."""
    phases = np.arange(0.0, beat_s, 0.001)
    score = np.zeros_like(phases)
    for period in (beat_s, beat_s / 2):
        distance = _wrapped(onsets.times_s[:, None] - phases[None, :], period)
        score += onsets.strengths @ np.exp(-0.5 * (distance / _SIGMA_S) ** 2)
    return float(phases[int(np.argmax(score))])


def _offsets(times_s: Doubles, phase_s: float, period_s: float) -> Doubles:
    return np.asarray(_wrapped(times_s - phase_s, period_s), np.float64)


def _wrapped(values: Any, period: float) -> Any:
    """Values brought into −period/2 … period/2."""
    return (values + period / 2) % period - period / 2
