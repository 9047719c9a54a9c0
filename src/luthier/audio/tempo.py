"""Samples → tempo and beat times: spectral flux, a comb over its autocorrelation, tracked beats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.audio.resample import resample
from luthier.audio.spectrum import magnitudes, mel_filterbank
from luthier.errors import AudioError

MIN_BPM, MAX_BPM = 40.0, 220.0
_RATE, _N_FFT, _HOP, _BANDS = 22050, 1024, 256, 40
_FRAMES_PER_S = _RATE / _HOP
_MIN_SECONDS = 2.0  # three beats at 90 BPM: below that nothing can repeat
_COMB = (1.0, 1.0, 0.8, 0.8)  # weights of the autocorrelation at 1, 2, 3, 4 beats
_PRIOR_BPM, _PRIOR_OCTAVES, _FAMILY_OCTAVES = 95.0, 0.7, 1.4
_TIGHTNESS = 100.0  # how dearly an uneven beat is paid for (Ellis 2007)

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Tempo:
    """The steady tempo of a recording.

    Attributes:
        bpm: beats a minute, 40..220; 0 when nothing pulses.
        confidence: 0..1, how much of the onset pattern comes back after a beat.
        beats_s: beat times in seconds, ascending.
    """

    bpm: float
    confidence: float
    beats_s: tuple[float, ...]


def estimate_tempo(samples: NDArray[np.float32], sample_rate: int) -> Tempo:
    """Estimate the tempo and the beats of (channels, n) samples; `AudioError` when there are none.

    The octave is a matter of taste (half and double tempo fit as well): a log-normal prior around
    95 BPM decides. Below two seconds or without onsets the tempo is 0.
    """
    if samples.size == 0:
        raise AudioError("there are no samples to estimate a tempo from.")
    mono = resample(samples.mean(axis=0, keepdims=True), sample_rate, _RATE)[0]
    flux = onset_flux(mono)
    if len(flux) < _MIN_SECONDS * _FRAMES_PER_S or not flux.any():
        return Tempo(0.0, 0.0, ())
    correlation = _autocorrelation(flux)
    period = _refine(_best_period(correlation), correlation)
    beats = track_beats(flux.sum(axis=1), period)
    confidence = float(np.clip(np.interp(period, np.arange(len(correlation)), correlation), 0, 1))
    return Tempo(
        bpm=round(60 * _FRAMES_PER_S / period, 2),
        confidence=round(confidence, 3),
        beats_s=tuple(round(float(b) / _FRAMES_PER_S, 3) for b in beats),
    )


def onset_flux(mono: NDArray[np.float32]) -> Doubles:
    """Half-wave rectified rise of log-mel levels of a 22.05 kHz signal, in four frequency regions.

    Returns:
        (frames, 4) at 86.13 frames a second, each region with its slow mean removed and of unit
        RMS, so that a bass drum and a hi-hat count alike; silent regions are zero.
    """
    bank = mel_filterbank(_RATE, _N_FFT, _BANDS, 30.0, 10000.0)
    levels = magnitudes(mono, _N_FFT, _HOP) @ bank
    reference = float(levels.max()) or 1.0
    logs = np.log1p(levels * (1000 / reference))
    rise = np.maximum(0, np.diff(logs, axis=0, prepend=logs[:1]))
    regions = np.asarray(rise.reshape(len(rise), 4, _BANDS // 4).mean(axis=2), np.float64)
    width = min(len(regions), round(_FRAMES_PER_S))
    for region in regions.T:
        region -= np.convolve(region, np.full(width, 1 / width), mode="same")
        np.maximum(region, 0, out=region)
        rms = float(np.sqrt(np.mean(region**2)))
        region /= rms if rms > 1e-6 else np.inf
    return regions


def _autocorrelation(flux: Doubles) -> Doubles:
    """Mean over the regions of the autocorrelation, 1 at lag 0, each lag over its own overlap."""
    count = len(flux)
    smooth = np.apply_along_axis(np.convolve, 0, flux, np.hanning(7), mode="same")
    centred = smooth - smooth.mean(axis=0)
    spectrum = np.fft.rfft(centred, 2 * count, axis=0)
    raw = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:count].sum(axis=1)
    longest = max(int(0.75 * count), 2)  # beyond that too little overlaps to say anything
    overlap = count - np.arange(longest)
    return np.asarray(raw[:longest] / overlap * count / max(float(raw[0]), 1e-12))


def _comb(periods: Doubles, correlation: Doubles) -> Doubles:
    """Weighted mean autocorrelation at 1–4 periods, for each of `periods` in frames."""
    lags = np.arange(len(correlation))
    total = np.zeros_like(periods)
    weights = np.zeros_like(periods)
    for multiple, weight in enumerate(_COMB, start=1):
        inside = periods * multiple < len(correlation)
        total += inside * weight * np.interp(periods * multiple, lags, correlation)
        weights += inside * weight
    return np.asarray(total / np.maximum(weights, 1e-9))


def _best_period(correlation: Doubles) -> float:
    """The period in frames that fits best, to about 0.5 %.

    First the family (a period, its half and double) with a weak prior, since a strong one would
    rather take 86 than 129 BPM, then the member of it that people would tap.
    """
    steps = int(np.log2(MAX_BPM / MIN_BPM) * 140)
    bpm = np.geomspace(MIN_BPM, MAX_BPM, steps)
    score = np.maximum(_comb(60 * _FRAMES_PER_S / bpm, correlation), 1e-6)
    best = float(bpm[int(np.argmax(score * _prior(bpm, _FAMILY_OCTAVES)))])
    family = best * np.array([0.5, 1.0, 2.0])
    family = family[(family >= MIN_BPM) & (family <= MAX_BPM)]
    fits = np.maximum(_comb(60 * _FRAMES_PER_S / family, correlation), 1e-6)
    taste = fits * _prior(family, _PRIOR_OCTAVES)
    return 60 * _FRAMES_PER_S / float(family[int(np.argmax(taste))])


def _prior(bpm: Doubles, octaves: float) -> Doubles:
    return np.asarray(np.exp(-0.5 * (np.log2(bpm / _PRIOR_BPM) / octaves) ** 2))


def _refine(period: float, correlation: Doubles) -> float:
    """Climb from one beat to ever longer multiples: the peak at 16 beats is 16 times as exact."""
    multiple = 1
    while (multiple * period + 3) < len(correlation) - 1 and multiple <= 32:
        reach = max(2, round(0.02 * multiple * period)) if multiple == 1 else 3
        centre = round(multiple * period)
        low = max(1, centre - reach)
        window = correlation[low : centre + reach + 1]
        peak = low + int(np.argmax(window))
        if low < peak < centre + reach:
            period = (peak + _parabola(correlation[peak - 1 : peak + 2])) / multiple
        multiple *= 2
    fastest, slowest = 60 * _FRAMES_PER_S / MAX_BPM, 60 * _FRAMES_PER_S / MIN_BPM
    return float(np.clip(period, fastest, slowest))


def _parabola(three: Doubles) -> float:
    """Where between -0.5 and 0.5 the parabola through three values, the middle highest, peaks."""
    left, middle, right = three.tolist()
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))


def track_beats(onsets: Doubles, period: float) -> NDArray[np.int64]:
    """Beats in frames by dynamic programming over an onset envelope (Ellis, Beat Tracking by
    Dynamic Programming, 2007): strong onsets, as near to `period` frames apart as possible."""
    local = onsets / max(float(onsets.std()), 1e-9)
    spread = np.arange(-round(period / 4), round(period / 4) + 1)
    local = np.convolve(local, np.exp(-0.5 * (8 * spread / period) ** 2), mode="same")
    steps = np.arange(round(period / 2), round(2 * period) + 1)
    penalty = -_TIGHTNESS * np.log(steps / period) ** 2
    best = local.copy()
    previous = np.full(len(local), -1, np.int64)
    for i in range(int(steps[0]), len(local)):
        count = min(len(steps), i - int(steps[0]) + 1)
        scores = best[i - steps[:count]] + penalty[:count]
        choice = int(np.argmax(scores))
        if scores[choice] > 0:
            best[i] = local[i] + scores[choice]
            previous[i] = i - steps[choice]
    # The last beat: the best chain that ends within the last period.
    tail = max(0, len(best) - round(period))
    beat = tail + int(np.argmax(best[tail:]))
    beats = []
    while beat >= 0:
        beats.append(beat)
        beat = int(previous[beat])
    return np.array(beats[::-1], np.int64)
