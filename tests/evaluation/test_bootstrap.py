"""Intervals and gains: do they hold what they promise?"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.errors import RequestError
from luthier.evaluation.bootstrap import fad_gain, fad_interval
from luthier.evaluation.frechet import Statistics, distance, distance_to_windows
from luthier.evaluation.outliers import track_distances

Array = NDArray[np.float64]


def clips(seed: int, count: int, shift: float = 0.0, spread: float = 0.5) -> list[Array]:
    """Clips of 12 windows; each has its own place, so windows of one are alike."""
    generator = np.random.default_rng(seed)
    places = shift + spread * generator.normal(size=(count, 1, 4))
    return list(places + generator.normal(size=(count, 12, 4)))


@pytest.fixture(scope="module")
def reference() -> Statistics:
    return Statistics.from_windows(np.concatenate(clips(99, 60)))


@pytest.mark.parametrize(("count", "dim"), [(5, 9), (40, 9)])
def test_the_quick_distance_is_the_distance(count: int, dim: int) -> None:
    """With more and with fewer windows than dimensions."""
    generator = np.random.default_rng(1)
    reference = Statistics.from_windows(generator.normal(size=(30, dim)))
    windows = generator.normal(0.3, 2.0, size=(count, dim))
    plain = distance(reference, Statistics.from_windows(windows))
    assert distance_to_windows(reference, windows) == pytest.approx(plain, abs=1e-6)


def test_the_quick_distance_agrees_with_scipys_matrix_root() -> None:
    """The formula as published, with a general square root of the product."""
    linalg = pytest.importorskip("scipy.linalg")
    generator = np.random.default_rng(2)
    first = generator.normal(size=(80, 12)) @ generator.normal(size=(12, 12))
    second = generator.normal(0.5, 1.5, size=(70, 12))
    one, two = Statistics.from_windows(first), Statistics.from_windows(second)
    root = linalg.sqrtm(one.covariance @ two.covariance)
    expected = (
        np.sum((one.mean - two.mean) ** 2)
        + np.trace(one.covariance)
        + np.trace(two.covariance)
        - 2 * np.trace(root).real
    )
    assert distance(one, two) == pytest.approx(expected, abs=1e-3)
    assert distance_to_windows(one, second) == pytest.approx(expected, abs=1e-3)


def test_the_interval_holds_the_value_and_narrows_with_clips(reference: Statistics) -> None:
    widths = []
    for count in (6, 48):
        found = clips(3, count, shift=0.6)
        interval = fad_interval(reference, found)
        assert interval is not None
        value = distance_to_windows(reference, np.concatenate(found))
        assert interval[0] <= value <= interval[1]
        assert interval == fad_interval(reference, found)  # repeatable
        widths.append(interval[1] - interval[0])
    assert widths[1] < 0.6 * widths[0]


def test_two_clips_have_no_interval(reference: Statistics) -> None:
    assert fad_interval(reference, clips(0, 2)) is None


def test_a_gain_is_certain_when_it_is_large(reference: Statistics) -> None:
    far, near, same = clips(4, 10, 1.5), clips(4, 10, 0.2), clips(4, 10, 1.5)
    gain = fad_gain(reference, far, near)
    assert gain.value > 0
    assert gain.interval[0] <= gain.value <= gain.interval[1]
    assert gain.certain
    none = fad_gain(reference, far, same)
    assert (none.value, none.interval, none.certain) == (0.0, (0.0, 0.0), False)
    assert not fad_gain(reference, near, far).certain


def test_a_gain_needs_pairs(reference: Statistics) -> None:
    with pytest.raises(RequestError, match="pairs of clips"):
        fad_gain(reference, clips(0, 4), clips(0, 5))


def test_a_track_that_lies_apart_is_named() -> None:
    tracks = {f"{i}.wav": clip for i, clip in enumerate(clips(7, 9, spread=0.1))}
    reference = Statistics.from_windows(np.concatenate(list(tracks.values())))
    assert not any(t.outlier for t in track_distances(reference, tracks))
    tracks["odd.wav"] = tracks["3.wav"] + 9.0
    tracks["short.wav"] = tracks["3.wav"][:1]
    found = track_distances(reference, tracks)
    assert found[0].file == "odd.wav"
    assert [t.file for t in found if t.outlier] == ["odd.wav"]
    few = {name: tracks[name] for name in ("0.wav", "odd.wav")}
    assert not any(t.outlier for t in track_distances(reference, few))
