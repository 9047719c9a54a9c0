"""Samples → a compact text that two encodings of one recording share, and how alike two texts are.

After Haitsma and Kalker (A Highly Robust Audio Fingerprinting System, 2002): the spectrum from 300
to 2000 Hz in 33 bands, here semitones; a bit a band and frame says whether the energy difference
of neighbouring bands grew since the frame before. Frames are as far apart as Chromaprint's (an
eighth of a second), so that a minute costs about ten milliseconds.

Gain cancels out of the signs, lossy coding turns few of them, a trimmed start only moves them.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import AudioError

_RATE, _N_FFT, _HOP = 5512, 2048, 689
_COARSE_RATE = 11025
FRAMES_PER_S = _RATE / _HOP
BITS = 32  # a frame
_LOW_HZ = 300.0
_FIRST_BIN, _END_BIN = 111, 752  # 299 to 2021 Hz, what the bands cover
MAX_SECONDS = 600.0  # what follows is not needed to recognise a track, and memory stays bounded
_SILENT = 1e-7  # of the loudest frame's energy: the signs of nothing are noise
MIN_OVERLAP_S, _MIN_OVERLAP_SHARE = 4.0, 0.5
_BATCH_FRAMES = 64

Words = NDArray[np.uint32]


class Fingerprinter:
    """Takes a track block by block; `text()` at the end is its fingerprint.

    Memory is bounded: a word a frame, and nothing after the first ten minutes.

    Args:
        sample_rate: of the blocks, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        import soxr

        # Means of neighbours first: what aliases below 2 kHz is quiet, and it halves the cost.
        self._step = max(1, sample_rate // _COARSE_RATE)
        self._resampler: Any = soxr.ResampleStream(
            sample_rate / self._step, _RATE, 1, "float32", quality="LQ"
        )
        self._left = round(MAX_SECONDS * sample_rate)  # samples that are still listened to
        self._carry: NDArray[np.float32] | None = None  # (channels, less than a step)
        self._pending: list[NDArray[np.float32]] = []
        self._pending_count = 0
        self._energies: list[NDArray[np.float32]] = []
        self._text: str | None = None

    def add(self, block: NDArray[np.float32]) -> None:
        """Take the next samples: (n,) mono or (channels, n), ±1 at full scale."""
        if self._text is not None:
            raise ValueError("the fingerprint was finished by text(): nothing can be added")
        block = np.atleast_2d(block)[:, : self._left]
        self._left -= block.shape[1]
        if self._carry is not None:
            block = np.concatenate([self._carry, block], axis=1)
        whole = block.shape[1] // self._step * self._step
        self._carry = block[:, whole:].copy() if whole < block.shape[1] else None
        if whole:
            self._take(self._resampler.resample_chunk(_coarse(block[:, :whole], self._step)))

    def text(self) -> str:
        """The fingerprint as base64 text, 43 characters a second; empty for silence and for less
        than half a second."""
        if self._text is None:
            self._take(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            self._transform(batch=1)
            self._text = base64.b64encode(_words(self._energies).astype("<u4").tobytes()).decode()
            self._energies.clear()
        return self._text

    def _take(self, samples: NDArray[np.float32]) -> None:
        self._pending.append(samples)
        self._pending_count += samples.size
        self._transform(_BATCH_FRAMES)

    def _transform(self, batch: int) -> None:
        """Turn pending samples into band energies, once they make `batch` frames or more."""
        frames = 1 + (self._pending_count - _N_FFT) // _HOP
        if self._pending_count < _N_FFT or frames < batch:
            return
        samples = np.concatenate(self._pending)
        windows = np.lib.stride_tricks.sliding_window_view(samples, _N_FFT)[::_HOP]
        spectrum = np.fft.rfft(windows * _hann(), axis=1)[:, _FIRST_BIN:_END_BIN]
        power = np.asarray(spectrum.real**2 + spectrum.imag**2, np.float32)
        self._energies.append(power @ _bands())
        self._pending = [samples[frames * _HOP :]]
        self._pending_count = self._pending[0].size


def _coarse(block: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """(channels, n) → (n / step,): the mean over channels and `step` neighbours."""
    total = np.zeros(block.shape[1] // step, np.float32)
    for channel in block:
        for offset in range(step):
            total += channel[offset::step]
    total *= np.float32(1 / (step * len(block)))
    return total


@lru_cache(maxsize=1)
def _hann() -> NDArray[np.float32]:
    return np.asarray(np.hanning(_N_FFT + 1)[:-1], np.float32)


@lru_cache(maxsize=1)
def _bands() -> NDArray[np.float32]:
    """(FFT bins from `_FIRST_BIN`, 33): which bins each semitone band sums."""
    hz = np.arange(_FIRST_BIN, _END_BIN) * _RATE / _N_FFT
    band = np.floor(12 * np.log2(hz / _LOW_HZ))
    return np.asarray(band[:, None] == np.arange(BITS + 1), np.float32)


def _words(energies: list[NDArray[np.float32]]) -> Words:
    """A word a frame but the first: bit b is set where band b over band b + 1 gained; 0 for a
    silent frame."""
    bands = np.concatenate(energies) if energies else np.zeros((0, BITS + 1), np.float32)
    if len(bands) < 2 or not bands.any():
        return np.zeros(0, np.uint32)
    slope = bands[:, :-1] - bands[:, 1:]
    bits = slope[1:] > slope[:-1]
    packed = np.packbits(bits, axis=1, bitorder="little")
    words = np.ascontiguousarray(packed).view("<u4")[:, 0].astype(np.uint32)
    level = bands.sum(axis=1)
    words[level[1:] < _SILENT * level.max()] = 0
    return words


def decode(text: str) -> Words:
    """The words of a fingerprint text, one a frame; `AudioError` for what is none."""
    try:
        data = base64.b64decode(text, validate=True)
        return np.frombuffer(data, "<u4").astype(np.uint32)
    except (binascii.Error, ValueError) as error:
        raise AudioError(f"{text[:20]!r} is not a fingerprint: {error}.") from error


def signs(words: Words) -> NDArray[np.float32]:
    """(frames, 32) of ±1; all 0 where the frame is silent."""
    data = words.astype("<u4").view(np.uint8).reshape(-1, 4)
    bits = np.unpackbits(data, axis=1, bitorder="little").astype(np.float32)
    return np.asarray((2 * bits - 1) * (words != 0)[:, None], np.float32)


def similarity(a: str, b: str) -> float:
    """How alike two recordings are, 0..1: the agreement of their bits where they fit best.

    0 is chance, 1 the same bits; of lossy copies about 0.8, of different music below 0.3. They
    have to overlap by half of the shorter one, and by four seconds; else 0.
    """
    return words_similarity(decode(a), decode(b))


def words_similarity(a: Words, b: Words) -> float:
    """`similarity` of decoded fingerprints."""
    shorter = min(len(a), len(b))
    least = max(round(MIN_OVERLAP_S * FRAMES_PER_S), round(_MIN_OVERLAP_SHARE * shorter))
    if shorter < least:
        return 0.0
    size = 1 << (len(a) + len(b) - 1).bit_length()
    left, right = signs(a), signs(b)
    both = _correlation(left, right, size)
    # Silent frames count neither way.
    heard = _correlation((a != 0)[:, None], (b != 0)[:, None], size)
    enough = heard > least - 0.5
    if not enough.any():
        return 0.0
    agreement = np.where(enough, both / (BITS * np.maximum(heard, 1.0)), 0.0)
    return round(float(np.clip(agreement.max(), 0.0, 1.0)), 3)


def _correlation(a: NDArray[Any], b: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Sum over columns of the circular cross-correlation of (n, k) and (m, k), at every offset."""
    product = np.fft.rfft(a, size, axis=0) * np.conj(np.fft.rfft(b, size, axis=0))
    return np.asarray(np.fft.irfft(product.sum(axis=1), size), np.float64)
