"""The rules by which a task is offered, one broken at a time."""

from __future__ import annotations

from typing import Any

import pytest
from matrix_rows import row

from luthier.matrix.recommend import recommended

MACHINE = {"memory_gb": 16.0}
MISSED = {"tempo": {"passed": False, "error_percent": 20.0, "measured_bpm": 144, "octave": None}}
FOREIGN = {"key": {"passed": False, "measured": "B major", "relation": "other"}}
ROUGH = {"edit": {"seams": [{"click": 2.0, "rise_rank": 1.0, "smooth": False}] * 2}}
INEXACT = {"outside": {"exact": False, "largest_db": -40.0}}
SILENT = {"levels": {"silent": True, "duration_s": 10.0}}
OFF = {"layer": {"grid": {"near_share": 0.3}, "likeness": 0.1}}
COPY = {"layer": {"grid": {"near_share": 0.9}, "likeness": 0.97}}


def verdict(rows: list[dict[str, Any]]) -> str:
    (task,) = recommended(rows, MACHINE)["mini"]["tasks"].values()
    return str(task["verdict"])


def test_what_is_good_and_fast_is_live_and_what_is_good_and_slow_is_slow() -> None:
    assert verdict([row(), row(bpm=90)]) == "live"
    assert verdict([row(), row(bpm=90, wall_s=11)]) == "slow"


@pytest.mark.parametrize(
    ("task", "piece"),
    [
        ("text2music", MISSED),
        ("text2music", FOREIGN),
        ("cover", MISSED),
        ("repaint", ROUGH),
        ("repaint", INEXACT),
        ("lego:bass", OFF),
        ("lego:bass", COPY),
    ],
)
def test_each_broken_rule_makes_a_task_weak(task: str, piece: dict[str, Any]) -> None:
    assert verdict([row(task)] * 4) == "live"
    assert verdict([row(task, piece=piece)] * 4) == "weak"


def test_a_layer_needs_no_tempo_and_no_key_of_its_own() -> None:
    assert verdict([row("lego:bass", piece=MISSED | FOREIGN)]) == "live"


def test_a_quarter_may_miss_the_tempo_and_half_the_key() -> None:
    assert verdict([row(piece=MISSED), row(), row(), row()]) == "live"
    assert verdict([row(piece=MISSED), row(piece=MISSED), row(), row()]) == "weak"
    assert verdict([row(piece=FOREIGN), row()]) == "live"


def test_failures_and_silence_are_unstable() -> None:
    assert verdict([row(), row(state="failed", error="killed.")]) == "unstable"
    assert verdict([row(piece=SILENT)]) == "unstable"


def test_what_a_model_does_not_do_is_said_in_its_words() -> None:
    found = recommended([row("lego:bass", state="not supported", error="mini does not.")], MACHINE)
    assert found["mini"]["tasks"]["lego:bass"]["verdict"] == "not supported"
    assert found["mini"]["tasks"]["lego:bass"]["why"] == "mini does not."
    assert found["mini"]["offer"] == []
    assert found["mini"]["memory_gb"] is None


def test_the_fewest_steps_that_are_nearly_as_good() -> None:
    good = [row(steps=n, bpm=b) for n in (8, 24) for b in (90, 120)]
    bad = [row(steps=2, bpm=b, piece=MISSED) for b in (90, 120)]
    found = recommended([*bad, *good], MACHINE)["mini"]
    assert (found["steps"], found["steps_measured"]) == (8, [2, 8, 24])


def test_the_model_s_own_steps_stay_where_nothing_else_was_measured() -> None:
    assert recommended([row()], MACHINE)["mini"]["steps"] is None


def test_the_batch_of_most_sound_that_leaves_memory() -> None:
    rows = [
        row(batch=1, wall_s=5),
        row(batch=2, wall_s=7, peak_bytes=2 * 10**9),
        row(batch=4, wall_s=9, peak_bytes=12 * 10**9),
    ]
    assert recommended(rows, MACHINE)["mini"]["batch"] == 2
    assert recommended(rows, {"memory_gb": 64})["mini"]["batch"] == 4
    assert recommended(rows, {})["mini"]["batch"] == 4


def test_the_longest_clip_up_to_which_all_is_in_time() -> None:
    def rows(slow_s: float) -> list[dict[str, Any]]:
        return [
            row(duration_s=n, bpm=b, wall_s=n * (1.2 if n == slow_s else 0.5))
            for n in (10.0, 20.0, 30.0)
            for b in (90, 120)
        ]

    assert recommended(rows(20.0), MACHINE)["mini"]["longest_live_s"] == 10
    assert recommended(rows(10.0), MACHINE)["mini"]["longest_live_s"] is None
    assert recommended(rows(0.0), MACHINE)["mini"]["longest_live_s"] == 30


def test_memory_is_the_highest_peak_and_a_fifth() -> None:
    rows = [row(peak_bytes=10**9), row(bpm=90, peak_bytes=2 * 10**9)]
    assert recommended(rows, MACHINE)["mini"]["memory_gb"] == 2.4


def test_models_are_judged_apart() -> None:
    found = recommended([row(), row(model="turbo", wall_s=50)], MACHINE)
    assert found["mini"]["tasks"]["text2music"]["verdict"] == "live"
    assert found["turbo"]["tasks"]["text2music"]["verdict"] == "slow"
