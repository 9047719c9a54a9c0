"""Samples → peak, loudness, clipping, silence, DC, and a quality score: no music knowledge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.audio.loudness import integrated_loudness
from luthier.errors import AudioError

FULL_SCALE = 0.999  # a sample at or above it counts as full scale, whatever the bit depth
CLIP_RUN = 3  # full-scale samples in a row that make a clip; one or two are a normal peak
SILENCE_DB = -60.0
FRAME_S = 0.05
FLOOR_DB = -200.0  # digital silence: JSON has no minus infinity


@dataclass(frozen=True)
class Measures:
    """Levels of one recording, measured on the samples as decoded.

    Attributes:
        duration_s: length, seconds.
        sample_rate: Hz.
        channels: of the file.
        peak_db: largest sample, dB full scale; -200 for digital silence.
        rms_db: root mean square over all channels, dB full scale.
        loudness_lufs: integrated loudness, ITU-R BS.1770-4; None when all of it is below -70 LUFS.
        clipping_ratio: share of samples in runs of three or more at full scale.
        silence_ratio: share of 50 ms frames with an RMS below -60 dB full scale.
        dc_offset: mean of the worst channel, -1..1.
    """

    duration_s: float
    sample_rate: int
    channels: int
    peak_db: float
    rms_db: float
    loudness_lufs: float | None
    clipping_ratio: float
    silence_ratio: float
    dc_offset: float


def decibels(value: float) -> float:
    """Amplitude → dB full scale, floored at -200."""
    return max(FLOOR_DB, 20 * float(np.log10(max(value, 1e-12))))


def measure(samples: NDArray[np.float32], sample_rate: int) -> Measures:
    """Measure (channels, n) samples; raise `AudioError` when there are none."""
    channels, count = samples.shape
    if count == 0:
        raise AudioError("there are no samples to measure.")
    power = float(np.mean([np.dot(c, c) / count for c in samples]))
    means = samples.mean(axis=1, dtype=np.float64)
    return Measures(
        duration_s=round(count / sample_rate, 3),
        sample_rate=sample_rate,
        channels=channels,
        peak_db=round(decibels(peak(samples)), 2),
        rms_db=round(decibels(power**0.5), 2),
        loudness_lufs=_rounded(integrated_loudness(samples, sample_rate)),
        clipping_ratio=round(clipping_ratio(samples), 6),
        silence_ratio=round(silence_ratio(samples, sample_rate), 4),
        dc_offset=round(float(means[np.argmax(np.abs(means))]), 5),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def peak(samples: NDArray[np.float32]) -> float:
    """The largest absolute sample, without a copy of the whole track."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0


def clipping_ratio(samples: NDArray[np.float32]) -> float:
    """Share of (channels, n) samples in runs of at least three at full scale, of one sign."""
    clipped = 0
    for channel in samples:
        for sign in (1, -1):
            full = channel >= FULL_SCALE if sign > 0 else channel <= -FULL_SCALE
            if full.any():
                clipped += _in_runs(full)
    return clipped / samples.size


def _in_runs(full: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(full.astype(np.int8), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIP_RUN].sum())


def silence_ratio(samples: NDArray[np.float32], sample_rate: int) -> float:
    """Share of 50 ms frames (the last may be shorter) with an RMS over channels below -60 dB."""
    size = max(1, round(FRAME_S * sample_rate))
    starts = np.arange(0, samples.shape[1], size)
    energy = np.zeros(len(starts), np.float64)
    for channel in samples:
        energy += np.add.reduceat(np.square(channel, dtype=np.float64), starts)
    lengths = np.diff(np.append(starts, samples.shape[1])) * samples.shape[0]
    return float(np.mean(energy / lengths < 10 ** (SILENCE_DB / 10)))


def quality_score(measures: Measures) -> tuple[int, list[str]]:
    """Score 0..100 = 100 − 1000 · clipping − 50 · silence, and a sentence for every lost point."""
    clipping = 1000 * measures.clipping_ratio
    silence = 50 * measures.silence_ratio
    reasons = []
    if clipping >= 0.5:
        reasons.append(
            f"{measures.clipping_ratio:.2%} of the samples are clipped (-{clipping:.0f})"
        )
    if silence >= 0.5:
        reasons.append(
            f"{measures.silence_ratio:.0%} of it is below {SILENCE_DB:.0f} dB (-{silence:.0f})"
        )
    return round(min(100.0, max(0.0, 100 - clipping - silence))), reasons
