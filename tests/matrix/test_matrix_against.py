"""What a repaint left alone, and how a layer fits, on sounds that are made so."""

from __future__ import annotations

import numpy as np
import pytest

from band import RATE, play
from luthier.matrix.compare_audio import compare_layer, compare_outside

SONG = play(120, "C major", 8.0)
WINDOW = (2.0, 5.0)


def test_a_repaint_that_keeps_every_sample_outside_is_exact() -> None:
    edited = SONG.copy()
    edited[:, 2 * RATE : 5 * RATE] = 0.1
    found = compare_outside(SONG, edited, RATE, WINDOW, 0.01)
    assert found is not None
    assert (found.exact, found.changed_share, found.largest_db) == (True, 0.0, -200.0)
    assert found.seconds == pytest.approx(8 - 3.02, abs=0.01)


@pytest.mark.parametrize(
    ("at_s", "exact"), [(1.0, False), (1.995, True), (5.005, True), (7, False)]
)
def test_one_sample_is_enough_but_for_the_cross_fade(at_s: float, exact: bool) -> None:
    edited = SONG.copy()
    edited[1, round(at_s * RATE)] += 0.1
    found = compare_outside(SONG, edited, RATE, WINDOW, 0.01)
    assert found is not None
    assert found.exact is exact
    assert found.largest_db == (pytest.approx(-20, abs=0.1) if not exact else -200)


def test_a_window_that_leaves_nothing_leaves_nothing_to_compare() -> None:
    assert compare_outside(SONG, SONG, RATE, (0.0, 8.0), 0.01) is None


def test_the_context_played_back_is_found_out() -> None:
    layer = compare_layer(SONG, 0.5 * SONG, RATE, 120)
    assert layer.correlation == pytest.approx(1, abs=1e-3)
    assert layer.likeness == pytest.approx(1, abs=1e-3)
    assert layer.level_db == pytest.approx(-6.02, abs=0.02)


def test_a_copy_that_is_a_little_late_or_upside_down_is_found_too() -> None:
    late = np.pad(SONG, ((0, 0), (round(0.03 * RATE), 0)))[:, : SONG.shape[1]]
    assert compare_layer(SONG, -late, RATE, 120).correlation > 0.98


def test_another_piece_is_no_copy() -> None:
    other = play(120, "F# minor", 8.0, seed=9)
    layer = compare_layer(SONG, other, RATE, 120)
    assert layer.correlation < 0.7
    assert layer.likeness < 0.9


def test_a_layer_on_the_context_s_beats_and_one_beside_them() -> None:
    on = compare_layer(SONG, play(120, "C major", 8.0, seed=5), RATE, 120).grid
    assert on is not None
    assert on.near_share > 0.9
    assert on.lag_ms == pytest.approx(0, abs=8)
    late = np.pad(play(120, "C major", 8.0, seed=5), ((0, 0), (round(0.1 * RATE), 0)))
    off = compare_layer(SONG, late[:, : SONG.shape[1]].astype(np.float32), RATE, 120).grid
    assert off is not None
    assert off.near_share < 0.3
    assert abs(off.lag_ms) == pytest.approx(100, abs=8)


def test_a_silent_layer_has_no_level_and_no_likeness() -> None:
    layer = compare_layer(SONG, np.zeros_like(SONG), RATE, 120)
    assert (layer.level_db, layer.correlation, layer.likeness, layer.grid) == (None, 0, 0, None)


def test_clips_of_another_length_are_cut_to_the_shorter() -> None:
    assert compare_layer(SONG, SONG[:, : 6 * RATE], RATE, 120).correlation > 0.99
    assert compare_outside(SONG, SONG[:, : 6 * RATE], RATE, WINDOW, 0.01) is not None
