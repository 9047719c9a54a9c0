"""Prepared sound → a file whose *decoded* peak is the one asked for.

Lossy codecs move peaks, mostly by hundredths of a decibel, by a few tenths in loud music. Encoding
is what curation spends its time on, so the gain has to be right the first time: the loudest moments
are encoded on their own first, which costs a few percent and tells what the codec does to them.
While the file is encoded, its packets are decoded again; only one that is still too loud is encoded
once more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luthier.audio.encode import AudioWriter
from luthier.audio.measure import peak
from luthier.files import atomic_file

_TRIES, _TOLERANCE = 4, 1.002  # 0.02 dB
_MARGIN = 0.9966  # 0.03 dB below the target, for a lossy codec
_MOMENTS, _MOMENT_S, _MOMENT_FADE_S = 8, 0.2, 0.005
_LOUD = 0.8  # a moment counts from this share of the peak

Floats = NDArray[np.float32]


class Loudest:
    """Takes the blocks (2, n) of one recording, keeps its peak and its loudest moments."""

    def __init__(self, sample_rate: int) -> None:
        self._size = round(_MOMENT_S * sample_rate)
        self._fade = max(1, round(_MOMENT_FADE_S * sample_rate))
        self._heap: list[tuple[float, int, Floats]] = []
        self._order = 0
        self.peak = 0.0

    def add(self, block: Floats) -> None:
        """Take the next samples."""
        loudest = peak(block)
        self.peak = max(self.peak, loudest)
        worst = self._heap[0][0] if len(self._heap) == _MOMENTS else 0.0
        if block.shape[1] < self._size or loudest <= max(worst, _LOUD * self.peak):
            return
        frames = block.T if block.T.flags.c_contiguous else np.ascontiguousarray(block.T)
        at = (
            max(int(frames.argmax()), 0) if float(frames.max()) == loudest else int(frames.argmin())
        )
        start = min(max(0, at // 2 - self._size // 2), block.shape[1] - self._size)
        moment = block[:, start : start + self._size].copy()
        self._order += 1  # arrays cannot be compared
        entry = (loudest, self._order, moment)
        change = heapq.heappushpop if len(self._heap) == _MOMENTS else heapq.heappush
        change(self._heap, entry)

    def moments(self) -> list[Floats]:
        """Copies of the loudest moments, faded at both ends, in the order of the recording."""
        ramp = np.sin(np.linspace(0, np.pi / 2, self._fade, dtype=np.float32)) ** 2
        found = []
        for loudest, _, moment in sorted(self._heap, key=lambda entry: entry[1]):
            if loudest > _LOUD * self.peak:
                moment = moment.copy()
                moment[:, : self._fade] *= ramp
                moment[:, -self._fade :] *= ramp[::-1]
                found.append(moment)
        return found


@dataclass(frozen=True)
class Encoded:
    """What was written: its gain, the peak that players get, and how often it was encoded."""

    gain: float
    peak: float
    passes: int


@dataclass(frozen=True)
class Target:
    """Where to, in which rate and bit rate, and how loud (±1 at full scale) at its peak."""

    path: Path
    sample_rate: int
    bitrate_kbps: int
    peak: float

    @property
    def is_lossy(self) -> bool:
        """Whether encoding moves the peak."""
        return self.path.suffix not in (".wav", ".flac")


def write_at_peak(
    target: Target, blocks: Callable[[], Iterable[Floats]], loudest: Loudest
) -> Encoded:
    """Encode `blocks()` (2, n) so that the decoded file peaks at the target, or a little below.

    Raises:
        AudioError: the encoder failed.
        RequestError: a rate that the format does not have.
        StorageError, PathError: the disk refused; nothing is left behind.
    """
    gain = target.peak / loudest.peak
    with atomic_file(target.path) as temporary:
        if target.is_lossy:
            gain *= _MARGIN / max(1.0, _overshoot(temporary, target, loudest, gain))
        reached, passes = _encode(temporary, target, blocks(), gain), 1
        while target.is_lossy and reached > target.peak * _TOLERANCE and passes < _TRIES:
            gain *= 0.9995 * target.peak / reached
            reached, passes = _encode(temporary, target, blocks(), gain), passes + 1
    return Encoded(gain, reached, passes)


def _overshoot(temporary: Path, target: Target, loudest: Loudest, gain: float) -> float:
    """By how much the codec raises the loudest moments."""
    moments = loudest.moments()
    if not moments:
        return 1.0
    return _encode(temporary, target, moments, gain) / target.peak


def _encode(path: Path, target: Target, blocks: Iterable[Floats], gain: float) -> float:
    with AudioWriter(
        path, target.sample_rate, 2, bitrate_kbps=target.bitrate_kbps, check=True
    ) as writer:
        for block in blocks:
            if block.shape[1]:
                writer.add(block * np.float32(gain))
    return writer.decoded_peak
