"""The lo-fi treatment that turns a clean mix into a worn tape: wobble, saturation, low-pass, vinyl
noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def age(audio: NDArray[np.float32], sample_rate: int, seed: int) -> NDArray[np.float32]:
    """Age a stereo mix (2, samples); the amounts of each effect are drawn from `seed`."""
    rng = np.random.default_rng(seed)
    out = _wobble(audio, sample_rate, rng)
    out = _low_pass(out, sample_rate, rng.uniform(2800, 4500))
    out = np.tanh(1.6 * out) / np.tanh(1.6)
    out = out + _vinyl(out.shape[1], sample_rate, rng)
    return np.asarray(out * (0.8 / max(1e-6, float(np.abs(out).max()))), np.float32)


def _wobble(
    audio: NDArray[np.float32], sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Wow and flutter: the tape's speed drifts by a few tenths of a per cent."""
    n = audio.shape[1]
    t = np.arange(n) / sample_rate
    wow = rng.uniform(0.0006, 0.0012) * np.sin(
        2 * np.pi * rng.uniform(0.4, 0.9) * t + rng.uniform(0, 6)
    )
    flutter = rng.uniform(0.00005, 0.0001) * np.sin(2 * np.pi * rng.uniform(5, 8) * t)
    position = np.clip((t + wow + flutter) * sample_rate, 0, n - 1)
    return np.stack([np.interp(position, np.arange(n), channel) for channel in audio]).astype(
        np.float32
    )


def _low_pass(
    audio: NDArray[np.float32], sample_rate: int, cutoff_hz: float
) -> NDArray[np.float32]:
    """A second-order roll-off above the cutoff, in the frequency domain."""
    n = audio.shape[1]
    hertz = np.fft.rfftfreq(n, 1 / sample_rate)
    response = 1 / np.sqrt(1 + (hertz / cutoff_hz) ** 4)
    return np.fft.irfft(np.fft.rfft(audio) * response, n).astype(np.float32)


def _vinyl(n: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Hiss, rumble and crackle, the same on both channels but for the hiss."""
    hiss = rng.normal(0, rng.uniform(0.002, 0.004), (2, n))
    clicks = np.zeros(n)
    count = int(n / sample_rate * rng.uniform(6, 14))
    clicks[rng.integers(0, n, count)] = rng.normal(0, 0.12, count)
    decay = np.exp(-np.arange(24) / 5.0) * rng.normal(0, 1, 24)
    crackle = np.convolve(clicks, decay)[:n]
    hum = 0.003 * np.sin(2 * np.pi * 50 * np.arange(n) / sample_rate)
    return np.asarray(hiss + crackle + hum, np.float32)
