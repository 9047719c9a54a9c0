"""How far up the sound really reaches, and what a sharp edge there tells of its past.

A recording fades out towards high frequencies. An edge like a wall, with nothing above it, is what
a sample-rate conversion or a lossy encoder leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WINDOW_S = 0.085
_ONE_IN = 4  # windows that are transformed: an average needs no more
_BAND_HZ = 100.0
_EMPTY_DB = -100.0  # below the loudest band (and -125 dB full scale) nothing is there
_EMPTY_FULL_SCALE_DB = -125.0
_WALL_DB, _WALL_HZ = 20.0, 600.0  # an edge: so much lost within so little
_LOWEST_WALL_HZ = 3000.0
_OCCUPIED = 0.8  # of the octave below an edge; a lone tone has no edge
_NEAR_NYQUIST = 0.93  # an edge above this share of it is the file's own

# What each edge betrays. Rates: half of them is where a converter cuts, by up to a tenth below.
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000)
# Encoders' low passes at a bit rate for stereo (LAME 3.100's table; others are near it).
_MP3_EDGES = ((11000, 64), (13500, 80), (15100, 96), (15600, 112), (17000, 128), (17500, 160),
              (18600, 192), (19400, 224), (19700, 256), (20500, 320))  # fmt: skip

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Bandwidth:
    """Where the sound ends.

    Attributes:
        hz: the highest frequency that carries something; 0 for silence.
        is_wall: whether it ends at once, as no recording does.
        verdict: what that means, e.g. "upsampled from 8000 Hz"; None for a full band.
    """

    hz: float
    is_wall: bool
    verdict: str | None


class BandwidthMeter:
    """Takes blocks (channels, n) of one recording, averages their spectra."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._size = 1 << max(6, round(np.log2(_WINDOW_S * sample_rate)))
        self._window = (np.hanning(self._size + 1)[:-1] * 2 / self._size).astype(np.float32)
        self._power = np.zeros(self._size // 2 + 1)
        self._windows = 0

    def add(self, block: Floats) -> None:
        """Take the next samples."""
        count = block.shape[1]
        if count < self._size:
            if self._windows:
                return
            block = np.pad(block, ((0, 0), (0, self._size - count)))
        whole = block.shape[1] // self._size
        windows = block[:, : whole * self._size].reshape(len(block), whole, self._size)
        spectrum = np.fft.rfft(windows[:, ::_ONE_IN] * self._window)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        self._power += power.sum(axis=(0, 1))
        self._windows += power.shape[0] * power.shape[1]

    def result(self) -> Bandwidth:
        """The bandwidth so far."""
        levels = self._band_levels()
        loudest = float(levels.max(initial=-300.0))
        floor = max(loudest + _EMPTY_DB, _EMPTY_FULL_SCALE_DB)
        used = np.flatnonzero(levels > floor)
        if not used.size:
            return Bandwidth(0.0, False, None)
        edge = _wall(levels, floor)
        if edge is None or np.mean(levels[edge // 2 : edge] > floor) < _OCCUPIED:
            return Bandwidth(min((int(used[-1]) + 1) * _BAND_HZ, self._rate / 2), False, None)
        hz = edge * _BAND_HZ
        return Bandwidth(hz, True, _verdict(hz, self._rate))

    def _band_levels(self) -> NDArray[np.float64]:
        """dB full scale in every 100 Hz."""
        width = self._rate / self._size
        band = (np.arange(self._power.size) * width / _BAND_HZ).astype(int)
        power = np.bincount(band, self._power) / max(1, self._windows)
        power = power[: max(1, int(self._rate / 2 / _BAND_HZ))]
        return np.asarray(10 * np.log10(np.maximum(power, 1e-30)), np.float64)


def _wall(levels: NDArray[np.float64], floor: float) -> int | None:
    """The band where a wall stands: a steep fall, above which nothing comes back."""
    reach = round(_WALL_HZ / _BAND_HZ)
    # What lies above band i, at its loudest; from the top down.
    above = np.maximum.accumulate(np.maximum(levels, floor)[::-1])[::-1]
    best, where = _WALL_DB, None
    for i in range(round(_LOWEST_WALL_HZ / _BAND_HZ), levels.size - reach):
        below = float(np.median(levels[max(0, i - reach) : i]))
        fall = below - float(above[i + reach])
        # The first band of a fall this deep: the edge, not what lies beyond it.
        if fall > best + 3:
            best, where = fall, i
    if where is None:
        return None
    middle = float(np.median(levels[max(0, where - reach) : where])) - best / 2
    return where + int(np.argmax(levels[where : where + reach + 1] < middle))


def _verdict(hz: float, rate: int) -> str | None:
    if hz >= _NEAR_NYQUIST * rate / 2:
        return None
    for low in _RATES:
        if 0.88 * low / 2 <= hz <= 1.02 * low / 2 and rate > 1.1 * low and hz < 14000:
            return f"nothing above {hz / 1000:.1f} kHz: upsampled from {low} Hz"
    near = min(_MP3_EDGES, key=lambda edge: abs(edge[0] - hz))
    if hz >= 14000 and near[1] < 320:
        also = " or upsampled from 32000 Hz" if 14500 <= hz <= 16100 else ""
        return f"nothing above {hz / 1000:.1f} kHz: like MP3 at about {near[1]} kbit/s{also}"
    if hz < 14000:
        return f"nothing above {hz / 1000:.1f} kHz: a low pass, or lossy at a low bit rate"
    return None
