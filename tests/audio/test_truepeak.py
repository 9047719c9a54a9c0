from __future__ import annotations

import numpy as np
import pytest

from luthier.audio.measure import decibels
from luthier.audio.truepeak import _PHASE_0, _PHASE_1, TruePeakMeter, true_peak

RATE = 48000


def sine(divisor: float, phase_degrees: float, level: float, rate: int = RATE) -> np.ndarray:
    """A second at rate / divisor, faded in and out as EBU Tech 3341 has it."""
    n = np.arange(rate)
    wave = level * np.sin(2 * np.pi * n / divisor + np.radians(phase_degrees))
    fade = np.clip(np.minimum(n, n[::-1]) / (rate / 10), 0, 1)
    return (wave * fade).astype(np.float32)[None]


# EBU Tech 3341, tests 15 to 19: frequency, phase, level; -6 dBTP (or +3), within +0.2 and -0.4 dB.
@pytest.mark.parametrize(
    ("divisor", "phase", "level", "expected"),
    [
        (4, 0, 0.50, -6.0),
        (4, 45, 0.50, -6.0),
        (6, 60, 0.50, -6.0),
        (8, 67.5, 0.50, -6.0),
        (4, 45, 1.41, 3.0),
    ],
)
def test_the_ebu_cases(divisor, phase, level, expected):
    found = decibels(true_peak(sine(divisor, phase, level), RATE))
    assert expected - 0.4 <= found <= expected + 0.2


def interpolated(samples: np.ndarray) -> float:
    """Without any short cut: every phase of the standard's filter over everything."""
    phases = (_PHASE_0, _PHASE_1, _PHASE_1[::-1], _PHASE_0[::-1])
    values = [np.abs(np.convolve(c, p)).max() for c in samples for p in phases]
    return max(*values, float(np.abs(samples).max()))


@pytest.mark.parametrize("size", [3000, 1600, 47, 12, 3])
@pytest.mark.parametrize("seed", range(3))
def test_short_cuts_and_blocks_change_nothing(size, seed):
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-1, 1, (2, 3000)) * rng.uniform(0, 1, 3000) ** (4 * seed)
    samples = samples.astype(np.float32)
    meter = TruePeakMeter(RATE, 2)
    for start in range(0, 3000, size):
        meter.add(samples[:, start : start + size])
    meter.finish()
    assert meter.peak == pytest.approx(interpolated(samples), rel=1e-5)


def test_high_rates_need_less_oversampling():
    wave = sine(8, 22.5, 0.5, rate=96000)
    assert decibels(true_peak(wave, 96000)) == pytest.approx(-6.0, abs=0.2)
