"""Decoded audio on its way out: kept off memory when long, brought to its peak, spliced, faded."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from luthier.audio.highpass import high_passed
from luthier.errors import ModelError, StorageError
from luthier.music.playing.conditioning import Window, soft_windows

Array = NDArray[np.float32]

_IN_MEMORY = 2**25  # bytes of one piece; beyond, a temporary file holds it
_SILENT = 1e-5


@dataclass(frozen=True)
class Splice:
    """A source that takes its place back outside `windows`, sample by sample.

    Attributes:
        source: (2, n), as long as the result.
        windows: in samples, where the sound is new.
        ramp: samples just outside a window over which both are mixed.
    """

    source: Array
    windows: tuple[Window, ...]
    ramp: int

    def weights(self, part: slice) -> Array:
        """How much of the new sound there is, from 0 to 1, at the samples of `part`."""
        return soft_windows(self.windows, self.source.shape[1], self.ramp, part)


@dataclass(frozen=True)
class Ending:
    """What is done to the sound: the peak in dB below full scale, and fades in seconds."""

    peak_db: float = -1.0
    fade_in_s: float = 0.0
    fade_out_s: float = 0.0


class Sound:
    """A piece of sound (2, n) that can be read in blocks, as often as wanted.

    What lies below 25 Hz, a constant part above all, is taken out of what was decoded.
    What is spliced into a source keeps the source's level: it is made quieter only where it would
    exceed the wanted peak and the source's own. Anything else is brought to the wanted peak.

    Args:
        blocks: decoded audio (2, k), one after another; what exceeds `samples` is dropped.
        samples: the length.
        sample_rate: Hz.
        ending: peak and fades.
        splice: the source of a repaint.

    Raises:
        ModelError: the sound holds values that are no numbers, or is silent.
        StorageError: there is no room for a long piece on the disk.
    """

    def __init__(
        self,
        blocks: Iterable[Array],
        samples: int,
        sample_rate: int,
        ending: Ending | None = None,
        splice: Splice | None = None,
    ) -> None:
        self.samples, self.sample_rate = samples, sample_rate
        self._ending, self._splice = ending or Ending(), splice
        self._lengths: list[int] = []
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._gain = np.float32(self._gain_for(self._keep(blocks)))

    def blocks(self) -> Iterator[Array]:
        """The finished sound in blocks (2, k)."""
        self._file.seek(0)
        start = 0
        for length in list(self._lengths):
            here = self._file.tell()
            raw = np.frombuffer(self._file.read(8 * length), np.float32).reshape(2, length)
            after = here + 8 * length
            part = slice(start, start + length)
            block = raw * self._gain
            if self._splice is not None:
                block = self._spliced(block, part)
            yield self._faded(block, part)
            self._file.seek(after)
            start += length

    def read(self) -> Array:
        """The whole finished sound (2, n)."""
        sound = np.empty((2, self.samples), np.float32)
        start = 0
        for block in self.blocks():
            sound[:, start : start + block.shape[1]] = block
            start += block.shape[1]
        return sound

    def _keep(self, blocks: Iterable[Array]) -> float:
        """Filter and store the blocks; return the peak of what is new in them, 0 for silence."""
        decoded = _Peak(self._splice)
        peak = _Peak(self._splice)
        for block in high_passed(decoded.through(self._whole(blocks)), self.sample_rate):
            peak.note(block)
            self._store(block)
        # What a filter carries into silence from beside it is no music either.
        return peak.value if decoded.value > _SILENT else 0.0

    def _whole(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """The blocks up to the piece's end; `ModelError` where a value is no number."""
        start = 0
        for whole in blocks:
            block = whole[:, : self.samples - start]
            if block.shape[1] == 0:
                continue
            if not np.all(np.isfinite(block)):
                raise ModelError(
                    "the model made values that are no numbers (NaN): the graphs are damaged or "
                    "their precision is too low for this request. Export again with a higher "
                    "precision."
                )
            yield block
            start += block.shape[1]

    def _store(self, block: Array) -> None:
        try:
            self._file.write(np.ascontiguousarray(block, dtype=np.float32).tobytes())
        except OSError as error:
            raise StorageError(
                f"the folder for temporary files has no room for the sound: {error.strerror}. "
                "Free some space there, or set TMPDIR to another folder."
            ) from error
        self._lengths.append(block.shape[1])

    def _gain_for(self, peak: float) -> float:
        if peak <= _SILENT:
            raise ModelError("the model made silence: try another seed or prompt.")
        wanted = 10 ** (self._ending.peak_db / 20)
        if self._splice is None:
            return wanted / peak
        loudest = float(np.max(np.abs(self._splice.source), initial=0))
        return min(1.0, max(wanted, loudest) / peak)

    def _spliced(self, block: Array, part: slice) -> Array:
        assert self._splice is not None
        weights, source = self._splice.weights(part), self._splice.source[:, part]
        mixed: Array = np.where(weights > 0, weights * block + (1 - weights) * source, source)
        return mixed

    def _faded(self, block: Array, part: slice) -> Array:
        fade_in = round(self._ending.fade_in_s * self.sample_rate)
        fade_out = round(self._ending.fade_out_s * self.sample_rate)
        if part.start >= fade_in and part.stop <= self.samples - fade_out:
            return block
        places = np.arange(part.start, part.stop, dtype=np.float32) + np.float32(0.5)
        rise = np.minimum(places / max(fade_in, 1), 1) if fade_in else np.float32(1)
        fall = np.minimum((self.samples - places) / max(fade_out, 1), 1)
        return block * (rise * (fall if fade_out else np.float32(1))).astype(np.float32)


class _Peak:
    """The largest value of what is new in blocks that follow each other."""

    def __init__(self, splice: Splice | None) -> None:
        self.value = 0.0
        self._splice, self._start = splice, 0

    def note(self, block: Array) -> None:
        part = slice(self._start, self._start + block.shape[1])
        new = block if self._splice is None else block[:, self._splice.weights(part) > 0]
        self.value = max(self.value, float(np.max(np.abs(new), initial=0)))
        self._start = part.stop

    def through(self, blocks: Iterable[Array]) -> Iterator[Array]:
        for block in blocks:
            self.note(block)
            yield block
