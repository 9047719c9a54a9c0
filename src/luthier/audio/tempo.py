"""Samples → tempo, beats a bar and beat times.

Rises of level in four frequency regions, a metrical comb over their autocorrelation weighted by the
tempo that people prefer, and beats tracked by dynamic programming. Nothing is learned from data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.audio.spectrum import band_levels, mel_filterbank, mono_excerpt
from luthier.errors import AudioError

MIN_BPM, MAX_BPM = 40.0, 220.0
_RATE, _N_FFT, _HOP, _BANDS = 22050, 1024, 256, 40
_FRAMES_PER_S = _RATE / _HOP
_MIN_SECONDS = 2.0  # three beats at 90 BPM: below that nothing can repeat
LONGEST_S = 300.0
# Weights of the autocorrelation at 1, 2 … beats, when bars have two or four and three beats.
_METRES = {4: ((1, 1.0), (2, 1.0), (4, 1.0), (8, 0.8)), 3: ((1, 1.0), (2, 1.0), (3, 1.0), (6, 0.8))}
_TERNARY_BY = 0.01  # how much better three has to fit: even bars are the commoner ones
# What people tap: between 100 (Parncutt, A Perceptual Model of Pulse Salience, 1994) and 120 BPM
# (van Noorden and Moelants, Resonance in the Perception of Musical Pulse, 1999).
_PRIOR_BPM, _PRIOR_OCTAVES = 110.0, 0.9
_CHANCE = 0.25  # over the root of the seconds heard: the confidence that noise stays below
_TIGHTNESS = 100.0  # how dearly an uneven beat is paid for (Ellis 2007)

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Tempo:
    """The steady tempo of a recording.

    Attributes:
        bpm: beats a minute, 40..220; 0 when nothing pulses.
        confidence: 0..1, how much of the onset pattern comes back after beats and bars.
        beats_s: beat times in seconds, ascending.
        metre: beats a bar: 3, or 4 for any even metre; 0 when nothing pulses.
    """

    bpm: float
    confidence: float
    beats_s: tuple[float, ...]
    metre: int = 0


_NO_PULSE = Tempo(0.0, 0.0, ())


def estimate_tempo(samples: NDArray[np.float32], sample_rate: int) -> Tempo:
    """Estimate tempo, metre and beats of (channels, n) samples; `AudioError` when there are none.

    Of recordings longer than five minutes the middle five are heard, so memory is bounded and the
    beats are those of that part. Half and double tempo often fit as well, a matter of taste that a
    log-normal prior around 110 BPM decides. Below two seconds, without onsets that repeat better
    than those of noise do, or when the samples are not all numbers, nothing pulses and the tempo
    is 0.
    """
    if samples.size == 0:
        raise AudioError("there are no samples to estimate a tempo from.")
    mono, start_s = mono_excerpt(samples, sample_rate, _RATE, LONGEST_S)
    if mono.size < _MIN_SECONDS * _RATE or not mono.any():
        return _NO_PULSE
    flux = onset_flux(mono)
    correlation = _autocorrelation(flux)
    period = _refine(_best_period(correlation), correlation)
    fits = {metre: float(_comb(np.array([period]), correlation, metre)[0]) for metre in _METRES}
    metre = 3 if fits[3] > fits[4] + _TERNARY_BY else 4
    if fits[metre] < _CHANCE / np.sqrt(mono.size / _RATE):
        return _NO_PULSE
    beats = track_beats(flux.sum(axis=1), period)
    return Tempo(
        bpm=round(60 * _FRAMES_PER_S / period, 2),
        confidence=round(min(fits[metre], 1.0), 3),
        beats_s=tuple(round(start_s + float(b) / _FRAMES_PER_S, 3) for b in beats),
        metre=metre,
    )


def onset_flux(mono: NDArray[np.float32]) -> Doubles:
    """Half-wave rectified rise of log-mel levels of a 22.05 kHz signal, in four frequency regions.

    Returns:
        (frames, 4) at 86.13 frames a second, each region with its slow mean removed and of unit
        RMS, so that a bass drum and a hi-hat count alike; silent regions are zero.
    """
    bank = mel_filterbank(_RATE, _N_FFT, _BANDS, 30.0, 10000.0)
    levels = band_levels(mono, _N_FFT, _HOP, bank)
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


def _comb(periods: Doubles, correlation: Doubles, metre: int) -> Doubles:
    """How well the onsets repeat after the beats and bars of `metre`, for `periods` in frames: the
    weighted mean of the autocorrelation there, as far as it reaches.

    Three of two thirds of a swung beat are two beats, which repeat as bars of three would. There
    the beat, one and a half of the period, repeats better than the period, and that is taken off.
    """
    lags = np.arange(len(correlation))
    total = np.zeros_like(periods)
    weights = np.zeros_like(periods)
    for multiple, weight in _METRES[metre]:
        inside = periods * multiple < len(correlation)
        total += inside * weight * np.interp(periods * multiple, lags, correlation)
        weights += inside * weight
    found = total / np.maximum(weights, 1e-9)
    if metre == 3:
        once, and_a_half = (np.interp(periods * by, lags, correlation) for by in (1.0, 1.5))
        found -= np.maximum(0, and_a_half - once)
    return np.asarray(found)


def _best_period(correlation: Doubles) -> float:
    """The period in frames, to about 0.5 %, that fits and pleases best, in its better metre."""
    bpm = np.geomspace(MIN_BPM, MAX_BPM, int(np.log2(MAX_BPM / MIN_BPM) * 140))
    periods = 60 * _FRAMES_PER_S / bpm
    fits = np.maximum.reduce([_comb(periods, correlation, metre) for metre in _METRES])
    prior = np.exp(-0.5 * (np.log2(bpm / _PRIOR_BPM) / _PRIOR_OCTAVES) ** 2)
    return float(periods[int(np.argmax(np.maximum(fits, 1e-6) * prior))])


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
