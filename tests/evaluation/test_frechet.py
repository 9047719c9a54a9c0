"""The Fréchet distance against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from luthier.errors import AudioError
from luthier.evaluation.frechet import (
    Statistics,
    distance,
    fad,
    fad_infinity,
    frechet_distance,
)

Array = NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def covariance(generator: np.random.Generator, dim: int, rank: int | None = None) -> Array:
    factor = generator.normal(size=(dim, rank or dim))
    return factor @ factor.T / dim


@given(seeds, st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_an_optimal_map_gives_the_closed_form(seed: int, dim: int) -> None:
    """For y = T x with T symmetric and positive, the distance is tr((T − 1) C (T − 1))."""
    generator = np.random.default_rng(seed)
    first = covariance(generator, dim)
    transport = covariance(generator, dim)
    shift = generator.normal(size=dim)
    second = transport @ first @ transport
    away = transport - np.eye(dim)
    expected = shift @ shift + np.trace(away @ first @ away)
    got = frechet_distance(np.zeros(dim), first, shift, second)
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-8)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(-50, 50))
def test_one_dimension(s1: float, s2: float, shift: float) -> None:
    got = frechet_distance(
        np.zeros(1), np.array([[s1 * s1]]), np.array([shift]), np.array([[s2 * s2]])
    )
    assert got == pytest.approx((s1 - s2) ** 2 + shift**2, rel=1e-9, abs=1e-9)


@given(seeds, st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_it_is_symmetric_and_never_negative(seed: int, dim: int, rank: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = covariance(generator, dim, min(rank, dim)), covariance(generator, dim)
    mean1, mean2 = generator.normal(size=(2, dim))
    there = frechet_distance(mean1, first, mean2, second)
    back = frechet_distance(mean2, second, mean1, first)
    assert there >= 0
    assert there == pytest.approx(back, rel=1e-8, abs=1e-10)


@given(seeds, st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_a_set_is_nowhere_from_itself(seed: int, count: int) -> None:
    """Also with fewer windows than dimensions, where the covariance has no full rank."""
    windows = np.random.default_rng(seed).normal(size=(count, 20))
    fitted = Statistics.from_windows(windows)
    assert distance(fitted, fitted) < 1e-9


def test_two_independent_subspaces() -> None:
    """Singular covariances without a common direction: nothing of the cross term is left."""
    first, second = np.diag([4.0, 0.0]), np.diag([0.0, 9.0])
    assert frechet_distance(np.zeros(2), first, np.zeros(2), second) == pytest.approx(13.0)


def test_the_order_of_windows_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(60, 8)), generator.normal(1.0, 2.0, size=(50, 8))
    straight = fad(first, second, embedding="test").value
    assert fad(first[::-1], second[::-1], embedding="test").value == pytest.approx(straight)


def test_more_noise_is_further_away() -> None:
    generator = np.random.default_rng(3)
    real = generator.normal(size=(300, 10))
    noise = generator.normal(size=(300, 10))
    values = [fad(real, real + a * noise, embedding="test").value for a in (0, 0.2, 0.5, 1, 2)]
    assert values == sorted(values)
    assert values[0] < 1e-9 < values[1]


def test_shrinkage_keeps_the_trace() -> None:
    windows = np.random.default_rng(0).normal(size=(5, 10))
    plain, shrunk = Statistics.from_windows(windows), Statistics.from_windows(windows, 0.3)
    assert np.trace(shrunk.covariance) == pytest.approx(np.trace(plain.covariance))
    assert np.linalg.matrix_rank(plain.covariance) == 4
    assert np.linalg.matrix_rank(shrunk.covariance) == 10


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_window_is_no_distribution(count: int) -> None:
    with pytest.raises(AudioError, match="at least 2 embedding windows"):
        Statistics.from_windows(np.zeros((count, 4)))


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(AudioError, match="NaN"):
        Statistics.from_windows(np.array([[1.0, np.nan], [1.0, 2.0]]))


def test_the_extrapolation_removes_the_bias() -> None:
    """Same distribution: the true distance is 0; a small set looks further away than it is."""
    generator = np.random.default_rng(1)
    reference = Statistics.from_windows(generator.normal(size=(20_000, 8)))
    candidate = generator.normal(size=(200, 8))
    plain = distance(reference, Statistics.from_windows(candidate))
    found = fad_infinity(reference, candidate)
    assert found is not None
    value, r2 = found
    assert abs(value) < 0.5 * plain
    assert r2 > 0.8


def test_the_extrapolation_is_repeatable_and_needs_windows() -> None:
    generator = np.random.default_rng(1)
    reference = Statistics.from_windows(generator.normal(size=(100, 8)))
    candidate = generator.normal(size=(60, 8))
    assert fad_infinity(reference, candidate) == fad_infinity(reference, candidate)
    assert fad_infinity(reference, candidate, seed=1) != fad_infinity(reference, candidate)
    assert fad_infinity(reference, candidate[:39]) is None
    assert fad(generator.normal(size=(9, 8)), candidate[:39], embedding="x").infinite is None


def test_a_result_says_what_it_was_measured_in() -> None:
    generator = np.random.default_rng(1)
    result = fad(generator.normal(size=(50, 3)), generator.normal(size=(40, 3)), embedding="e-v1")
    told = result.to_json()
    assert (told["embedding"], told["n_reference"], told["n_candidate"], told["dim"]) == (
        "e-v1",
        50,
        40,
        3,
    )
    assert told["fad_infinity"] is not None
