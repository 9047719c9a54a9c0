"""Samples → peak, loudness, clipping, silence, DC, bandwidth, and a quality score.

No music knowledge: tempo and key have modules of their own. One measure is one meter, and all of
them take the same blocks, so that a file of any length is measured in little memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.audio.bandwidth import BandwidthMeter
from luthier.audio.clipping import ClippingMeter
from luthier.audio.levels import SILENCE_DB, Image, LevelMeter, decibels
from luthier.audio.loudness import LoudnessMeter, step_size
from luthier.audio.truepeak import TruePeakMeter
from luthier.errors import AudioError

_STEPS_A_BLOCK = 20  # 2 s: large enough for numpy, small enough for the processor's cache

__all__ = ["Measures", "Meter", "decibels", "measure", "peak", "quality_score"]

Floats = NDArray[np.float32]


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
        true_peak_db: largest value between the samples too, ITU-R BS.1770-4, dB full scale.
        clips: how many such runs there are.
        image: mono, dual mono (both channels alike), inverted mono, one-sided, stereo, surround.
        bandwidth_hz: the highest frequency that carries something.
        bandwidth_verdict: what a sharp end there betrays ("upsampled from 8000 Hz"), or None.
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
    true_peak_db: float | None = None
    clips: int = 0
    image: Image | None = None
    bandwidth_hz: float | None = None
    bandwidth_verdict: str | None = None


class Meter:
    """All measures at once: `add` blocks of `block` samples (the last may be shorter), `result`.

    Args:
        sample_rate: Hz.
        channel_names: FFmpeg's speaker names, one a channel.
    """

    def __init__(self, sample_rate: int, channel_names: Sequence[str]) -> None:
        channels, step = len(channel_names), step_size(sample_rate)
        self.block = _STEPS_A_BLOCK * step
        self._rate, self._channels = sample_rate, channels
        self._levels = LevelMeter(channels, step)
        self._loudness = LoudnessMeter(sample_rate, channel_names)
        self._true_peak = TruePeakMeter(sample_rate, channels)
        self._clipping = ClippingMeter(channels)
        self._bandwidth = BandwidthMeter(sample_rate)

    def add(self, block: Floats) -> None:
        """Take the next (channels, n) samples."""
        peak = self._levels.add(block)
        self._clipping.add(block, peak)
        self._true_peak.add(block)
        self._loudness.add(block)
        self._bandwidth.add(block)

    def result(self) -> Measures:
        """What was measured; raise `AudioError` when there were no samples."""
        levels = self._levels
        if not levels.count:
            raise AudioError("there are no samples to measure.")
        self._clipping.finish()
        self._true_peak.finish()
        bandwidth = self._bandwidth.result()
        loudness = self._loudness.lufs()
        return Measures(
            duration_s=round(levels.count / self._rate, 3),
            sample_rate=self._rate,
            channels=self._channels,
            peak_db=round(decibels(levels.peak), 2),
            rms_db=round(decibels(levels.rms), 2),
            loudness_lufs=None if loudness is None else round(loudness, 2),
            clipping_ratio=round(self._clipping.clipped / (levels.count * self._channels), 6),
            silence_ratio=round(levels.silence_ratio, 4),
            dc_offset=round(levels.dc_offset, 5),
            true_peak_db=round(decibels(self._true_peak.peak), 2),
            clips=self._clipping.runs,
            image=levels.image,
            bandwidth_hz=bandwidth.hz,
            bandwidth_verdict=bandwidth.verdict,
        )


def measure(
    samples: Floats, sample_rate: int, channel_names: Sequence[str] | None = None
) -> Measures:
    """Measure (channels, n) samples; raise `AudioError` when there are none."""
    meter = Meter(sample_rate, channel_names or ("",) * len(samples))
    for start in range(0, samples.shape[1], meter.block):
        meter.add(samples[:, start : start + meter.block])
    return meter.result()


def peak(samples: Floats) -> float:
    """The largest absolute sample, without a copy of the whole track."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0


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
