"""Style coverage: recognised, not recognised, and not told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.music.evaluation.coverage import StyledClip, coverage_by_text, coverage_by_tracks

Vector = NDArray[np.float64]
CENTRES = {"CORE-01": (0.0, 0.0), "CORE-02": (4.0, 0.0), "CORE-03": (0.0, 4.0)}


def track(style: str, seed: int, noise: float = 0.3) -> tuple[Vector, tuple[str, ...]]:
    away = np.random.default_rng(seed).normal(size=2)
    return np.array(CENTRES[style]) + noise * away, (style,)


def real(noise: float = 0.3) -> list[tuple[Vector, tuple[str, ...]]]:
    return [track(style, 10 * i + j, noise) for i, style in enumerate(CENTRES) for j in range(4)]


def clip(style: str, place: tuple[float, float], usable: bool = True) -> StyledClip:
    return StyledClip(style, np.array(place), usable)


def test_a_clip_is_recognised_by_the_nearest_centre() -> None:
    found = coverage_by_tracks(
        [
            clip("CORE-01", (0.2, 0.1)),
            clip("CORE-02", (0.1, 3.8)),  # lies where CORE-03 does
            clip("CORE-03", (0.1, 3.8), usable=False),  # right, and silent
            clip("INST-07", (0.0, 0.0)),  # nobody plays it here
        ],
        real(),
    )
    assert found.styles == {"CORE-01": True, "CORE-02": False, "CORE-03": False, "INST-07": None}
    assert found.method == "nearest style centre"
    assert found.real_accuracy == 1.0
    assert "INST-07" in str(found.reason)
    assert found.to_json() | {"chance": 0} == {
        "method": "nearest style centre",
        "measured": 3,
        "recognised": 1,
        "asked": 4,
        "real_accuracy": 1.0,
        "chance": 0,
        "reason": "there are no real tracks of INST-07",
    }


def test_any_recognised_clip_covers_its_style() -> None:
    clips = [clip("CORE-01", (4.0, 0.0)), clip("CORE-01", (0.0, 0.0)), clip("CORE-01", (4.0, 0.0))]
    assert coverage_by_tracks(clips, real()).styles == {"CORE-01": True}


def test_real_tracks_that_cannot_be_told_apart_judge_nobody() -> None:
    found = coverage_by_tracks([clip("CORE-01", (0.0, 0.0))], real(noise=300.0))
    assert found.styles == {"CORE-01": None}
    assert found.method == "none"
    assert "cannot be told apart" in str(found.reason)
    assert found.real_accuracy is not None


def test_one_track_a_style_cannot_test_the_rule() -> None:
    alone = [track(style, i) for i, style in enumerate(CENTRES)]
    assert "cannot be tested" in str(coverage_by_tracks([clip("CORE-01", (0, 0))], alone).reason)


@pytest.mark.parametrize("styles", [(), ("CORE-01",)])
def test_fewer_than_two_styles_are_no_choice(styles: tuple[str, ...]) -> None:
    found = coverage_by_tracks([clip("CORE-01", (0, 0))], [(np.zeros(2), styles)] * 4)
    assert found.styles == {"CORE-01": None}
    assert "two styles at least" in str(found.reason)


def test_nothing_asked_is_nothing_told() -> None:
    assert coverage_by_tracks([], real()).styles == {}


def test_with_texts_the_rank_of_the_own_one_decides() -> None:
    texts = {f"S-{i:02d}": np.eye(16)[i] for i in range(16)}
    first, second = np.eye(16)[3], np.eye(16)[4]
    found = coverage_by_text(
        [
            StyledClip("S-03", first, True),
            StyledClip("S-04", 0.9 * first + 0.1 * second, True),  # second of sixteen: near enough
            StyledClip("S-05", 0.6 * first + 0.4 * second, True),
            StyledClip("X-01", first, True),
        ],
        texts,
    )
    assert found.styles == {"S-03": True, "S-04": True, "S-05": False, "X-01": None}
    assert found.chance == 2 / 16
    assert coverage_by_text([StyledClip("S-03", first, True)], {"S-03": first}).styles == {
        "S-03": None
    }
