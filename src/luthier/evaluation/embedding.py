"""Audio → embedding windows, between whose clouds FAD is measured. The default works offline.

Another embedding is one more entry in `_MAKERS`, a call of `register_embedding`, or an entry point
of a package in the group `luthier.embeddings`. Values of different embeddings cannot be compared;
hence every name carries a version, and every result carries the name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import mix_to
from luthier.audio.resample import resample
from luthier.audio.spectrum import log_mel
from luthier.errors import AudioError, RequestError
from luthier.evaluation.clap import Clap
from luthier.evaluation.notes import NoteStats

DEFAULT_EMBEDDING = "mel-stats-v1"
ENTRY_POINTS = "luthier.embeddings"


class Embedding(Protocol):
    """Turns audio into one vector a window."""

    @property
    def name(self) -> str:
        """Name with version: the same name always means the same numbers."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def sample_rate(self) -> int:
        """The rate it listens at, Hz; `embed` converts to it."""

    @property
    def window_s(self) -> float:
        """Length of a window, seconds."""

    @property
    def hop_s(self) -> float:
        """Distance between the starts of windows, seconds."""

    def embed(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
        """Embed `samples` (channels, n) as (windows, dim); short audio gives one window."""


class MelStats:
    """How a second of sound is coloured and how it moves: timbre and dynamics, nothing learned.

    Per window of a 40-band log-mel spectrogram: each band's mean (timbre), standard deviation
    (dynamics) and mean absolute change between frames (attacks), each folded by an orthonormal DCT
    to its first 24 coefficients. In bels, so a set whose every band is 5 dB louder than another
    lies 40 · 0.5² = 10 from it.

    It does not know genres, melodies or words: two sets of equal sound and different notes lie
    close together. Clips are brought to one RMS level first, because loudness is measured
    elsewhere; bands end at 12 kHz, so that models of 24 and of 48 kHz are compared over what both
    can hold.
    """

    name = "mel-stats-v1"
    sample_rate = 24_000
    _n_fft, _hop, _bands, _kept = 1024, 240, 40, 24
    _window_frames, _hop_frames = 100, 50
    _level_rms = 0.1  # -20 dB full scale
    window_s = _window_frames * _hop / sample_rate
    hop_s = _hop_frames * _hop / sample_rate
    dim = 3 * _kept

    def __init__(self) -> None:
        self._fold = _dct(self._bands, self._kept) / 10.0  # dB to bel

    def embed(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
        """Embed `samples` (channels, n) as (windows, 72)."""
        if samples.ndim != 2 or samples.shape[1] == 0:
            raise AudioError("there is no audio to embed: the clip has no samples.")
        mono = resample(mix_to(samples, 1), sample_rate, self.sample_rate)[0]
        rms = float(np.sqrt(np.mean(np.square(mono, dtype=np.float64))))
        if rms > 0:
            mono = mono * np.float32(self._level_rms / rms)
        # One frame more than a window is long, so that a window has as many changes as frames.
        missing = (self._window_frames + 1) * self._hop - mono.size
        mono = np.pad(mono, (0, max(0, missing)))
        levels = log_mel(
            mono, self.sample_rate, n_fft=self._n_fft, hop=self._hop, bands=self._bands
        ).astype(np.float64)
        starts = range(0, len(levels) - self._window_frames, self._hop_frames)
        return np.stack([self._describe(levels[s : s + self._window_frames + 1]) for s in starts])

    def _describe(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        inner = levels[:-1]
        change = np.abs(np.diff(levels, axis=0)).mean(axis=0)
        rows = np.stack([inner.mean(axis=0), inner.std(axis=0), change])
        return (rows @ self._fold).ravel()


def _dct(size: int, kept: int) -> NDArray[np.float64]:
    """The first `kept` columns of the orthonormal DCT-II, (size, kept)."""
    angle = np.pi / size * (np.arange(size)[:, None] + 0.5) * np.arange(kept)
    matrix: NDArray[np.float64] = np.cos(angle) * np.sqrt(2.0 / size)
    matrix[:, 0] /= np.sqrt(2.0)
    return matrix


Maker = Callable[[str | None], Embedding]  # gets what follows the colon of a name, or None


def _without_argument(kind: Callable[[], Embedding], name: str) -> Maker:
    def make(argument: str | None) -> Embedding:
        if argument is not None:
            raise RequestError(f"the embedding {name} takes nothing after a colon: {argument!r}.")
        return kind()

    return make


_MAKERS: dict[str, Maker] = {
    MelStats.name: _without_argument(MelStats, MelStats.name),
    NoteStats.name: _without_argument(NoteStats, NoteStats.name),
    "clap": Clap,
}


def register_embedding(name: str, maker: Maker) -> None:
    """Add an embedding of one's own; a name that is taken is a `RequestError`."""
    if name in embedding_names() or ":" in name:
        raise RequestError(f"an embedding cannot be called {name!r}: the name is taken or holds :.")
    _MAKERS[name] = maker


def embedding_names() -> tuple[str, ...]:
    """The embeddings that can be asked for."""
    return (*_MAKERS, *sorted(entry_points(group=ENTRY_POINTS).names - _MAKERS.keys()))


def get_embedding(name: str = DEFAULT_EMBEDDING) -> Embedding:
    """The embedding called `name`; `clap:FOLDER` names the model, too.

    Raises:
        RequestError: there is no such embedding; the choices are listed.
        ModelError: the weights of a learned one are not on this machine.
        MissingExtraError: what it runs on is not installed.
    """
    kind, colon, argument = name.partition(":")
    if kind in _MAKERS:
        return _MAKERS[kind](argument if colon else None)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == kind:
            made: Embedding = point.load()(argument if colon else None)
            return made
    raise RequestError(
        f"there is no embedding {name!r}: the choices are {', '.join(embedding_names())}."
    )
