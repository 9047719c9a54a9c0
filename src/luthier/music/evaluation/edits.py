"""A recording and its repaint → is the seam audible, and did the rest stay as it was?

Two questions about an edit that no distance between sets answers. Both are measured on audio, so
they hold for any model and any editor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import mix_to
from luthier.audio.spectrum import log_mel
from luthier.errors import AudioError

Floats = NDArray[np.float32]

_N_FFT, _HOP, _BANDS = 1024, 256, 64
_SEAM_S = 0.06  # how far from a boundary its seam is looked for
_CLICK_S = 0.002
_LEVEL_S = 0.5  # on each side of a boundary
_MARGIN_S = 0.5  # beside the window, where models blend
_RANGE_DB = 60.0
_SMOOTH_RANK = 0.995  # a seam may rise as sharply as the sharpest half percent of the music
_CLICK_LIMIT = 1.0
_UNCHANGED_DB = 3.0  # mean difference of log-mel levels that passes for the same music


@dataclass(frozen=True)
class Seam:
    """What can be heard where an edited window begins or ends.

    Attributes:
        at_s: where, seconds.
        click: the largest step between samples at the boundary over the largest elsewhere.
        rise_rank: share of the other frames whose spectral rise is smaller than the seam's, 0..1.
        level_step_db: level after minus level before the boundary.
        smooth: no step above the music's own, and no rise above its sharpest half percent.
    """

    at_s: float
    click: float
    rise_rank: float
    level_step_db: float
    smooth: bool


@dataclass(frozen=True)
class EditReport:
    """One edit against its source.

    Attributes:
        seams: at the boundaries that lie inside the recording.
        outside_db: mean absolute difference of log-mel levels outside the window; None when the
            window leaves nothing. It ignores phase: a codec's round trip changes every sample.
        outside_snr_db: of the samples outside, after the best common gain; None likewise.
        inside_db: the same difference inside: what was made anew.
        unchanged: whether the outside differs by less than 3 dB, and less than the inside.
    """

    seams: tuple[Seam, ...]
    outside_db: float | None
    outside_snr_db: float | None
    inside_db: float
    unchanged: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check_edit(
    source: Floats, edited: Floats, sample_rate: int, start_s: float, end_s: float
) -> EditReport:
    """Compare an edit of the window `start_s`…`end_s` with its source.

    Args:
        source, edited: (channels, n) at `sample_rate` Hz; the longer is cut to the shorter.

    Raises:
        AudioError: there are no samples, or the window is empty or outside the recording.
    """
    count = min(source.shape[1], edited.shape[1])
    duration_s = count / sample_rate
    if count == 0 or not 0 <= start_s < min(end_s, duration_s):
        raise AudioError(
            f"the window {start_s:g} to {end_s:g} s is empty or outside the recording, which is "
            f"{duration_s:g} s long."
        )
    end_s = min(end_s, duration_s)
    before = mix_to(source, 1)[0, :count].astype(np.float64)
    after = mix_to(edited, 1)[0, :count].astype(np.float64)
    seams = tuple(
        check_seam(edited[:, :count], sample_rate, at)
        for at in (start_s, end_s)
        if _SEAM_S < at < duration_s - _SEAM_S
    )
    outside = np.ones(count, bool)
    low, high = (start_s - _MARGIN_S) * sample_rate, (end_s + _MARGIN_S) * sample_rate
    outside[max(0, round(low)) : max(0, round(high))] = False
    gain = _gain(before, after, outside)
    difference = _level_difference(before * gain, after, sample_rate)
    times_s = np.arange(len(difference)) * _HOP / sample_rate
    inside_frames = (times_s >= start_s) & (times_s < end_s)
    outside_frames = (times_s < start_s - _MARGIN_S) | (times_s > end_s + _MARGIN_S)
    inside_db = float(difference[inside_frames].mean()) if inside_frames.any() else 0.0
    outside_db = float(difference[outside_frames].mean()) if outside_frames.any() else None
    return EditReport(
        seams=seams,
        outside_db=None if outside_db is None else round(outside_db, 3),
        outside_snr_db=_snr(before * gain, after, outside),
        inside_db=round(inside_db, 3),
        unchanged=outside_db is None or outside_db < min(_UNCHANGED_DB, max(inside_db, 1e-6)),
    )


def check_seam(samples: Floats, sample_rate: int, at_s: float) -> Seam:
    """What can be heard at `at_s` of (channels, n) samples, measured against the rest of them."""
    mono = mix_to(samples, 1)[0].astype(np.float64)
    click = _click(mono, sample_rate, at_s)
    rise = _rise(mono, sample_rate)
    times_s = np.arange(len(rise)) * _HOP / sample_rate
    near = np.abs(times_s - at_s) <= _SEAM_S
    rank = float(np.mean(rise[~near] < rise[near].max())) if near.any() and not near.all() else 0.0
    step = _level(mono, sample_rate, at_s, at_s + _LEVEL_S) - _level(
        mono, sample_rate, at_s - _LEVEL_S, at_s
    )
    return Seam(
        at_s=round(at_s, 4),
        click=round(click, 3),
        rise_rank=round(rank, 4),
        level_step_db=round(step, 2),
        smooth=click <= _CLICK_LIMIT and rank <= _SMOOTH_RANK,
    )


def _click(mono: NDArray[np.float64], sample_rate: int, at_s: float) -> float:
    """The second difference tells a step from a loud high note, which has one just as large."""
    steps = np.abs(np.diff(mono, n=2))
    middle, reach = round(at_s * sample_rate), max(1, round(_CLICK_S * sample_rate))
    near = np.zeros(len(steps), bool)
    near[max(0, middle - reach) : middle + reach] = True
    here = float(steps[near].max()) if near.any() else 0.0
    there = float(steps[~near].max()) if not near.all() else 0.0
    return here / max(there, 1e-6)


def _rise(mono: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    levels = _levels(mono, sample_rate)
    return np.asarray(
        np.maximum(0, np.diff(levels, axis=0, prepend=levels[:1])).mean(axis=1), np.float64
    )


def _levels(mono: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    found = log_mel(mono.astype(np.float32), sample_rate, n_fft=_N_FFT, hop=_HOP, bands=_BANDS)
    return np.asarray(np.maximum(found, found.max() - _RANGE_DB), np.float64)


def _level_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], sample_rate: int
) -> NDArray[np.float64]:
    """Mean absolute difference of levels by frame, dB; what is 60 dB below the top is one."""
    pair = [
        log_mel(x.astype(np.float32), sample_rate, n_fft=_N_FFT, hop=_HOP, bands=_BANDS)
        for x in (first, second)
    ]
    floor = max(float(levels.max()) for levels in pair) - _RANGE_DB
    low, high = (np.maximum(levels, floor).astype(np.float64) for levels in pair)
    return np.asarray(np.abs(low - high).mean(axis=1), np.float64)


def _gain(
    first: NDArray[np.float64], second: NDArray[np.float64], where: NDArray[np.bool_]
) -> float:
    """What brings `first` to the level of `second`: players normalise peaks."""
    if not where.any():
        return 1.0
    power = float(np.mean(first[where] ** 2))
    return float(np.sqrt(np.mean(second[where] ** 2) / power)) if power > 1e-12 else 1.0


def _snr(
    first: NDArray[np.float64], second: NDArray[np.float64], where: NDArray[np.bool_]
) -> float | None:
    if not where.any():
        return None
    noise = float(np.mean((first[where] - second[where]) ** 2))
    signal = float(np.mean(second[where] ** 2))
    ratio = 10 * np.log10(max(signal, 1e-20) / max(noise, 1e-20))
    return round(float(np.clip(ratio, -100.0, 100.0)), 2)


def _level(mono: NDArray[np.float64], sample_rate: int, start_s: float, end_s: float) -> float:
    part = mono[max(0, round(start_s * sample_rate)) : max(1, round(end_s * sample_rate))]
    power = float(np.mean(part**2)) if part.size else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))
