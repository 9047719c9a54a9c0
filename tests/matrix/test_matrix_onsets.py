"""Onsets and the grid, on sounds whose onsets are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.matrix.onsets import Onsets, find_onsets, fit_grid

RATE = 24000
Floats = NDArray[np.float32]


def note(kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(round(0.15 * RATE)) / RATE
    fade = np.minimum(1, t[::-1] / 0.03)
    if kind == "click":
        return np.asarray(rng.standard_normal(t.size) * np.exp(-200 * t) * fade)
    if kind == "kick":
        return np.asarray(np.sin(2 * np.pi * 55 * t) * np.exp(-20 * t) * fade)
    hz, attack_s = (220 * 2 ** (rng.integers(12) / 12), 0.003) if kind == "pluck" else (330, 0.02)
    tone = sum(np.sin(2 * np.pi * hz * h * t) / h for h in range(1, 6))
    return np.asarray(tone * np.exp(-12 * t) * np.minimum(1, t / attack_s) * fade)


def played(
    times_s: Sequence[float] | NDArray[np.float64], kind: str = "pluck", duration_s: float = 12.0
) -> Floats:
    rng = np.random.default_rng(1)
    out = np.zeros(round(duration_s * RATE))
    for at in times_s:
        start = round(at * RATE)
        sound = note(kind, rng)[: out.size - start]
        out[start : start + sound.size] += 0.4 * sound
    out += 1e-4 * rng.standard_normal(out.size)
    return np.tile(out, (2, 1)).astype(np.float32)


def grid(bpm: float, phase_s: float = 0.1, *, per_beat: int = 2) -> NDArray[np.float64]:
    return np.arange(phase_s, 11.8, 60 / bpm / per_beat)


@pytest.mark.parametrize("kind", ["click", "kick", "pluck", "soft"])
def test_onsets_are_found_to_the_millisecond(kind: str) -> None:
    times = grid(97)
    found = find_onsets(played(times, kind), RATE).times_s
    nearest = np.abs(found[:, None] - times).min(axis=0)
    assert len(found) == pytest.approx(len(times), abs=1)
    assert np.median(nearest) < 0.002
    assert nearest.max() < 0.005


@pytest.mark.parametrize("bpm", [90, 120, 140])
@pytest.mark.parametrize("phase_s", [0.0, 0.1, 0.2])
def test_the_first_beat_is_found_where_it_is(bpm: int, phase_s: float) -> None:
    # The beats are louder than what lies between, else nothing would tell one from the other.
    music = played(grid(bpm, phase_s)) + 2 * played(grid(bpm, phase_s, per_beat=1), "kick")
    fit = fit_grid(find_onsets(music, RATE), bpm)
    assert fit is not None
    assert fit.phase_ms == pytest.approx(1000 * phase_s, abs=3)
    assert fit.median_ms < 2
    assert fit.near_share > 0.97


def test_an_onset_that_is_off_by_so_much_is_measured_as_that() -> None:
    times = grid(90)
    times[1::4] += 0.070
    fit = fit_grid(find_onsets(played(times), RATE), 90)
    assert fit is not None
    assert fit.near_share == pytest.approx(0.75, abs=0.03)
    assert fit.mean_ms == pytest.approx(70 / 4, abs=2)
    assert fit.median_ms < 3


def test_a_tempo_that_is_two_percent_off_leaves_the_grid() -> None:
    fit = fit_grid(find_onsets(played(grid(122.4)), RATE), 120)
    assert fit is not None
    assert fit.near_share < 0.55  # 12 s drift by 240 ms, an eighth note


def test_onsets_anywhere_reach_the_share_of_chance() -> None:
    times = np.sort(np.random.default_rng(3).uniform(0, 60, 400))
    fit = fit_grid(Onsets(times, np.ones(times.size)), 90, phase_s=0.0)
    assert fit is not None
    assert fit.chance_share == pytest.approx(0.24)
    assert fit.near_share == pytest.approx(fit.chance_share, abs=0.06)


@pytest.mark.parametrize("late_s", [-0.03, 0.025, 0.06])
def test_a_layer_that_is_late_on_a_given_grid_is_late_by_that(late_s: float) -> None:
    fit = fit_grid(find_onsets(played(grid(90, 0.2 + late_s)), RATE), 90, phase_s=0.2)
    assert fit is not None
    assert fit.lag_ms == pytest.approx(1000 * late_s, abs=2)
    assert fit.near_share == (0 if abs(late_s) > 0.04 else 1)


def test_the_phase_of_a_beat_is_at_most_half_a_beat() -> None:
    fit = fit_grid(Onsets(np.arange(8) * 0.5 + 0.4, np.ones(8)), 120)
    assert fit is not None
    assert fit.phase_ms == pytest.approx(-100, abs=1)


@pytest.mark.parametrize(
    "samples", [np.zeros((2, RATE * 4), np.float32), np.zeros((2, 100), np.float32)]
)
def test_silence_has_no_grid(samples: Floats) -> None:
    assert fit_grid(find_onsets(samples, RATE), 120) is None


def test_three_onsets_are_too_few() -> None:
    assert fit_grid(Onsets(np.array([0.0, 0.5, 1.0]), np.ones(3)), 120) is None
