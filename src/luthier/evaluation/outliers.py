"""Which tracks of a set lie apart? Each against a reference, and a robust measure of "apart"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.frechet import Statistics, distance_to_windows

_APART = 3.5  # modified z-score (Iglewicz and Hoaglin 1993)
_NORMAL_MAD = 0.6745  # median absolute deviation of a normal distribution
_FEWEST = 5  # below that a median deviation says nothing


@dataclass(frozen=True)
class TrackDistance:
    """One track's own Fréchet distance; `outlier` when it is far above those of its set."""

    file: str
    distance: float
    outlier: bool


def track_distances(
    reference: Statistics, tracks: Mapping[str, NDArray[np.float64]]
) -> tuple[TrackDistance, ...]:
    """Every track's distance to `reference`, the furthest first.

    One track has few windows, so its distance is far above that of a whole set; only comparing
    tracks of about equal length makes sense. A track of one window has no distribution: its
    distance is that of its point, and it is never called an outlier.
    """
    values = {name: _one(reference, windows) for name, windows in tracks.items()}
    several = {name for name, windows in tracks.items() if len(windows) > 1}
    limit = _limit(np.array([values[name] for name in sorted(several)]))
    found = [
        TrackDistance(name, value, name in several and value > limit)
        for name, value in values.items()
    ]
    return tuple(sorted(found, key=lambda track: (-track.distance, track.file)))


def _one(reference: Statistics, windows: NDArray[np.float64]) -> float:
    if len(windows) > 1:
        return distance_to_windows(reference, windows)
    offset = windows[0] - reference.mean
    return float(offset @ offset + np.trace(reference.covariance))


def _limit(values: NDArray[np.float64]) -> float:
    if len(values) < _FEWEST:
        return float("inf")
    middle = float(np.median(values))
    deviation = float(np.median(np.abs(values - middle)))
    return middle + _APART * deviation / _NORMAL_MAD if deviation > 0 else float("inf")
