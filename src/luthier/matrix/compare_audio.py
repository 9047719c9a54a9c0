"""A recording and what was made of it → what a repaint left alone, and how a layer fits.

Two clips that are compared are first brought to the same length; their rates must agree.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import mix_to
from luthier.audio.levels import decibels
from luthier.audio.spectrum import log_mel
from luthier.matrix.onsets import GridFit, find_onsets, fit_grid

Floats = NDArray[np.float32]
_LAG_S = 0.05  # a decoder may shift what it lets through by so much
_SILENT = 1e-6
_N_FFT, _HOP, _BANDS, _RANGE_DB = 1024, 256, 64, 60.0
_FLOOR_DB = -160.0  # so low that a quiet copy has all of the levels of a loud one


@dataclass(frozen=True)
class Outside:
    """What a repaint left alone.

    Attributes:
        margin_s: beside the window, the cross-fade: not looked at.
        seconds: how much lies outside.
        changed_share: share of the samples there that differ from the source at all.
        largest_db: the largest difference, dB full scale; -200 for none.
        exact: nothing differs.
    """

    margin_s: float
    seconds: float
    changed_share: float
    largest_db: float
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_outside(
    source: Floats, edited: Floats, sample_rate: int, window_s: tuple[float, float], margin_s: float
) -> Outside | None:
    """Compare what lies outside a window, sample by sample; None when nothing does.

    Args:
        source, edited: (channels, n) at `sample_rate` Hz.
        window_s: start and end, seconds.
        margin_s: what is not looked at on both sides of the window.
    """
    count = min(source.shape[1], edited.shape[1])
    outside = np.ones(count, bool)
    start, end = window_s
    low, high = (start - margin_s) * sample_rate, (end + margin_s) * sample_rate
    outside[max(0, int(np.floor(low))) : max(0, int(np.ceil(high)) + 1)] = False
    if not outside.any():
        return None
    both = [mix_to(clip[:, :count], 2) for clip in (source, edited)]
    difference = np.abs(both[0] - both[1])[:, outside]
    largest = float(difference.max())
    return Outside(
        margin_s=margin_s,
        seconds=round(float(outside.sum()) / sample_rate, 3),
        changed_share=round(float(np.mean(difference > 0)), 6),
        largest_db=round(decibels(largest), 1),
        exact=largest == 0.0,
    )


@dataclass(frozen=True)
class Layer:
    """How a layer fits the recording that it was made for.

    Attributes:
        grid: the layer's onsets on the beats of the context, whose phase is the context's own;
            None when either has too few onsets.
        correlation: of the wave forms, the largest within ±50 ms, 0..1: 1 is the context itself.
        likeness: correlation of the log-mel levels, each band without its mean, -1..1: what leaks
            through a codec that does not keep phases.
        level_db: RMS over the context's, dB; None when either is silent.
    """

    grid: GridFit | None
    correlation: float
    likeness: float
    level_db: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_layer(context: Floats, layer: Floats, sample_rate: int, bpm: float) -> Layer:
    """How `layer` fits `context`, both (channels, n) at `sample_rate` Hz and of a known tempo."""
    count = min(context.shape[1], layer.shape[1])
    below, above = (mix_to(clip[:, :count], 1)[0].astype(np.float64) for clip in (context, layer))
    beat = fit_grid(find_onsets(context, sample_rate), bpm)
    grid = beat and fit_grid(find_onsets(layer, sample_rate), bpm, beat.phase_ms / 1000)
    levels = [float(np.sqrt(np.mean(clip**2))) if count else 0.0 for clip in (below, above)]
    sound = min(levels) > _SILENT
    return Layer(
        grid=grid,
        correlation=round(_correlation(below, above, round(_LAG_S * sample_rate)), 4),
        likeness=round(_likeness(below, above, sample_rate), 4) if sound else 0.0,
        level_db=round(decibels(levels[1]) - decibels(levels[0]), 2) if sound else None,
    )


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64], reach: int) -> float:
    """The largest normalised cross-correlation at lags up to `reach` samples, either sign."""
    energy = float(np.sqrt(np.sum(first**2) * np.sum(second**2)))
    if energy < _SILENT:
        return 0.0
    size = 2 * len(first)
    product = np.fft.rfft(first, size) * np.conj(np.fft.rfft(second, size))
    lags = np.fft.irfft(product, size)
    near = np.concatenate([lags[: reach + 1], lags[-reach:]])
    return min(1.0, float(np.abs(near).max()) / energy)


def _likeness(first: NDArray[np.float64], second: NDArray[np.float64], sample_rate: int) -> float:
    pair = [_levels(clip.astype(np.float32), sample_rate) for clip in (first, second)]
    scale = float(np.sqrt(np.sum(pair[0] ** 2) * np.sum(pair[1] ** 2)))
    return float(np.sum(pair[0] * pair[1])) / scale if scale > _SILENT else 0.0


def _levels(mono: Floats, sample_rate: int) -> NDArray[np.float64]:
    """Log-mel levels of 60 dB of range, (frames, bands), each band without its mean."""
    found = log_mel(
        mono, sample_rate, n_fft=_N_FFT, hop=_HOP, bands=_BANDS, floor_db=_FLOOR_DB
    ).astype(np.float64)
    levels = np.maximum(found, found.max() - _RANGE_DB)
    return np.asarray(levels - levels.mean(axis=0))
