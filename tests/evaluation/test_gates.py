"""Gates: what they are calibrated by, and what they refuse to judge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import RequestError
from luthier.evaluation.gates import (
    ClapAnchors,
    Measured,
    clap_anchors,
    clap_gate,
    fad_gate,
    fad_unit,
    relative_gate,
    share_gate,
)
from luthier.music.evaluation.baseline import baseline_gates

N = Measured(40, "test-v1")


def test_the_unit_is_how_far_real_tracks_lie_from_each_other() -> None:
    generator = np.random.default_rng(0)
    alike = [generator.normal(size=(60, 4)) for _ in range(8)]
    apart = [track + 3 * i for i, track in enumerate(alike)]
    near, far = fad_unit(alike), fad_unit(apart)
    assert near is not None
    assert far is not None
    assert 0 < near < far
    assert fad_unit(alike) == near  # the same halves every time
    assert fad_unit(alike[:1]) is None
    assert fad_unit([alike[0][:1], alike[1]]) is None  # one window is no distribution


def test_five_units_pass_and_more_do_not() -> None:
    assert fad_gate(4.9, 1.0, N).passed
    assert not fad_gate(5.0, 1.0, N).passed
    gate = fad_gate(12.0, 4.0, N)
    assert (gate.raw, gate.value, gate.threshold, gate.n, gate.embedding) == (
        12.0,
        3.0,
        5.0,
        40,
        "test-v1",
    )
    assert gate.passed


def test_without_a_unit_nothing_is_claimed() -> None:
    gate = fad_gate(0.1, None, N)
    assert (gate.raw, gate.value, gate.passed) == (0.1, None, None)
    assert "two real tracks" in gate.note


def test_clap_counts_from_foreign_prompts_to_own_ones() -> None:
    anchors = ClapAnchors(own=0.4, foreign=0.2, tracks=6)
    assert clap_gate(0.4, anchors, N, None).value == pytest.approx(1.0)
    assert clap_gate(0.35, anchors, N, None).passed
    assert not clap_gate(0.33, anchors, N, None).passed
    assert clap_gate(0.33, anchors, N, None).raw == 0.33


def test_clap_that_cannot_tell_prompts_apart_judges_nothing() -> None:
    same = ClapAnchors(own=0.3, foreign=0.295, tracks=6)
    for gate in (
        clap_gate(0.9, same, N, None),
        clap_gate(0.9, None, N, None),
        clap_gate(None, None, N, "no weights"),
    ):
        assert gate.passed is None
        assert gate.note


def test_anchors_compare_own_and_foreign_prompts() -> None:
    axes = np.eye(3)
    tracks = {"a": axes[0], "b": axes[1], "c": axes[2]}
    prompts = {"a": "x", "b": "y", "c": "x"}
    found = clap_anchors(tracks, prompts, {"x": axes[0], "y": axes[1]})
    assert found == ClapAnchors(own=pytest.approx(2 / 3), foreign=pytest.approx(0.0), tracks=3)
    assert clap_anchors(tracks, {"a": "x", "b": "x"}, {"x": axes[0]}) is None


def test_shares() -> None:
    assert share_gate("usable", 3, Measured(3), 1.0, "").passed
    assert not share_gate("usable", 2, Measured(3), 1.0, "").passed
    assert share_gate("styles", 0, Measured(0), 1.0, "why").passed is None


@given(st.floats(0.01, 100), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_better_never_fails_against_a_baseline(
    baseline: float, tolerance: float, better_by: float
) -> None:
    def gate(value: float, way: str) -> bool | None:
        return relative_gate(
            "x", value, baseline, better=way, tolerance=tolerance, floor=0.0, measured=N
        ).passed  # type: ignore[arg-type]

    assert gate(baseline * (1 - better_by), "lower")
    assert gate(baseline * (1 + better_by), "higher")
    assert not gate(baseline * (1.001 + tolerance), "lower")
    assert not gate(baseline * (0.999 - tolerance), "higher")


def test_a_tiny_baseline_has_a_floor() -> None:
    def passed(value: float) -> bool | None:
        return relative_gate(
            "fad", value, 0.001, better="lower", tolerance=0.05, floor=0.1, measured=N
        ).passed

    assert passed(0.05)
    assert not passed(0.2)


def test_a_tolerance_is_a_share() -> None:
    with pytest.raises(RequestError, match="0 or more"):
        baseline_gates(None, {}, -0.1)  # type: ignore[arg-type]
