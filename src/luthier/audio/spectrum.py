"""Samples → magnitudes and mel bands over time, in blocks. numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from luthier.audio.resample import resample

Floats = NDArray[np.float32]
_BLOCK_FRAMES = 256  # frames transformed at once: bounds memory for long tracks
_SILENT = 1e-7  # a peak of -140 dB: less than one step of 24 bits


def mono_excerpt(
    samples: Floats, sample_rate: int, rate: int, longest_s: float
) -> tuple[Floats, float]:
    """What the estimators listen to: one channel at `rate`, of peak 1, from the middle of a track
    that is longer than `longest_s`.

    Args:
        samples: (channels, n) or (n,).

    Returns:
        (m,) samples and where they begin, in seconds. All zero when nothing sounds, or when the
        samples are not all numbers.
    """
    channels = samples if samples.ndim == 2 else samples[None]
    count = min(channels.shape[1], round(longest_s * sample_rate))
    start = (channels.shape[1] - count) // 2
    with np.errstate(over="ignore", invalid="ignore"):
        mono = channels[:, start : start + count].mean(axis=0, keepdims=True, dtype=np.float32)
        mono = resample(mono, sample_rate, rate)[0]
        peak = max(float(mono.max(initial=0)), -float(mono.min(initial=0)))
    if not np.isfinite(peak) or peak < _SILENT:
        return np.zeros_like(mono), start / sample_rate
    return np.asarray(mono / np.float32(peak), np.float32), start / sample_rate


@lru_cache(maxsize=8)
def _hann(size: int) -> Floats:
    # Periodic, so that equal hops add up to a constant.
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    window.setflags(write=False)
    return window


def magnitudes(samples: Floats, n_fft: int, hop: int) -> Floats:
    """Hann-windowed STFT magnitudes of a mono signal.

    Args:
        samples: (n,); zeros of half a window are added at both ends, so that frame i is centred
            on sample i · hop.

    Returns:
        (1 + n // hop, 1 + n_fft // 2); a full-scale sine has a peak of about 0.5.
    """
    return np.concatenate(list(_magnitude_blocks(samples, n_fft, hop)))


def band_levels(samples: Floats, n_fft: int, hop: int, bank: Floats) -> Floats:
    """`magnitudes(samples, n_fft, hop) @ bank`, (frames, bands), without ever holding the
    magnitudes of a whole track; `bank` is (bins, bands)."""
    return np.concatenate([block @ bank for block in _magnitude_blocks(samples, n_fft, hop)])


def _magnitude_blocks(samples: Floats, n_fft: int, hop: int) -> Iterator[Floats]:
    """The rows of `magnitudes`, `_BLOCK_FRAMES` at a time."""
    padded = np.pad(samples.astype(np.float32, copy=False), n_fft // 2)
    padded = np.pad(padded, (0, max(0, n_fft - padded.size)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    frames = min(len(windows), 1 + samples.size // hop)
    weight = _hann(n_fft) * np.float32(2 / n_fft)
    for start in range(0, frames, _BLOCK_FRAMES):
        stop = min(frames, start + _BLOCK_FRAMES)
        yield np.abs(np.fft.rfft(windows[start:stop] * weight, axis=1))


def _to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2595 * np.log10(1 + hz / 700)


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)


@lru_cache(maxsize=16)
def mel_filterbank(
    sample_rate: int, n_fft: int, bands: int, low_hz: float, high_hz: float
) -> Floats:
    """Triangular filters, equally spaced on the HTK mel scale, each of unit sum.

    Returns:
        (bins, bands), read-only: magnitudes @ filterbank are mean magnitudes by band.
    """
    low, high = _to_mel(np.array([low_hz, high_hz])).tolist()
    edges = _to_hz(np.linspace(low, high, bands + 2))
    bins = np.arange(1 + n_fft // 2) * sample_rate / n_fft
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    bank = np.maximum(0, np.minimum(rise, fall))
    # A band narrower than a bin would be empty: it takes its nearest bin.
    nearest = np.argmin(np.abs(bins[:, None] - edges[1:-1]), axis=0)
    empty = bank.sum(axis=0) < 1e-6
    bank[nearest[empty], np.flatnonzero(empty)] = 1
    result: Floats = (bank / bank.sum(axis=0)).astype(np.float32)
    result.setflags(write=False)
    return result


def log_mel(
    samples: Floats,
    sample_rate: int,
    *,
    n_fft: int = 2048,
    hop: int = 512,
    bands: int = 80,
    low_hz: float = 30.0,
    high_hz: float | None = None,
    floor_db: float = -80.0,
) -> Floats:
    """Mel-band levels of a mono signal (n,): (frames, bands), dB full scale, `floor_db` or more."""
    bank = mel_filterbank(sample_rate, n_fft, bands, low_hz, high_hz or sample_rate / 2)
    levels = band_levels(samples, n_fft, hop, bank)
    decibels: Floats = np.maximum(20 * np.log10(np.maximum(levels, 1e-10)), floor_db)
    return decibels.astype(np.float32)
