"""Ranking checkpoints: what decides, what is told, and what is not compared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from luthier.errors import RequestError
from luthier.music.evaluation.compare import Scored, rank, scored

BASE = Scored(
    name="epoch=0-step=100_lora",
    step=100,
    fad=4.0,
    interval=(3.6, 4.4),
    embedding="mel-stats-v1",
    n_reference=90,
    n_candidate=380,
    clap=None,
    styles=None,
    adherence=0.5,
    usable=1.0,
    validation_loss=None,
    failed=(),
)


def at(step: int, fad: float, **changes: object) -> Scored:
    name = f"epoch=0-step={step}_lora"
    spread = (fad - 0.4, fad + 0.4)
    values = {"name": name, "step": step, "fad": fad, "interval": spread} | changes
    return replace(BASE, **values)  # type: ignore[arg-type]


def test_the_nearest_is_best_and_the_reason_is_told() -> None:
    ranking = rank([at(100, 6.0), at(300, 4.0), at(200, 5.0)])
    assert [row.step for row in ranking.rows] == [300, 200, 100]
    assert "step=300_lora is best: it is nearest" in ranking.reason
    assert "FAD 4.000 against 5.000" in ranking.reason
    assert ranking.warnings == ()
    told = ranking.to_json()
    assert json.loads(json.dumps(told)) == told | {
        "ranking": json.loads(json.dumps(told["ranking"]))
    }
    assert [row["rank"] for row in told["ranking"]] == [1, 2, 3]
    assert ranking.to_text().splitlines()[1].startswith("* epoch=0-step=300_lora")


def test_order_of_the_arguments_does_not_matter() -> None:
    rows = [at(100, 6.0), at(300, 4.0), at(200, 5.0)]
    assert rank(rows).rows == rank(rows[::-1]).rows


def test_broken_clips_count_first() -> None:
    ranking = rank([at(100, 6.0), at(200, 2.0, usable=0.9)])
    assert ranking.best.step == 100
    assert "silent or clipped" in ranking.reason


@pytest.mark.parametrize(
    ("first", "second", "best", "why"),
    [
        ({"clap": 0.3}, {"clap": 0.35}, 200, "fits its prompts better"),
        ({"adherence": 0.9}, {"adherence": 0.4}, 100, "tempo and key"),
        ({}, {}, 100, "fewer steps (100 against 200)"),
    ],
)
def test_where_the_distance_cannot_tell_others_decide(
    first: dict[str, object], second: dict[str, object], best: int, why: str
) -> None:
    ranking = rank([at(100, 4.2, **first), at(200, 4.0, **second)])
    assert ranking.best.step == best
    assert "cannot be told from" in ranking.reason
    assert why in ranking.reason


def test_later_checkpoints_that_are_further_away_over_fit() -> None:
    ranking = rank([at(100, 6.0), at(200, 3.0), at(300, 4.5), at(400, 7.0)])
    assert ranking.best.step == 200
    assert "over-fit" in ranking.warnings[0]
    assert "FAD rose from 3.000 to 7.000 at step 400" in ranking.warnings[0]
    # The best being the last is no sign of it, nor is a rise within the interval.
    assert rank([at(100, 6.0), at(200, 3.0)]).warnings == ()
    assert rank([at(100, 3.0), at(200, 3.2)]).warnings == ()


def test_a_rising_validation_loss_is_told_too() -> None:
    rows = [at(100, 3.0, validation_loss=0.50), at(200, 3.9, validation_loss=0.56)]
    assert "the validation loss rose from 0.5000 to 0.5600" in rank(rows).warnings[0]


def test_failed_gates_of_the_best_are_named() -> None:
    assert "does not pass: fad" in rank([at(1, 3.0, failed=("fad",)), at(2, 9.0)]).reason


def test_unequal_amounts_are_warned_of() -> None:
    assert "unequal amounts" in rank([at(1, 3.0), at(2, 9.0, n_candidate=100)]).warnings[-1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([at(1, 3.0)], "at least two"),
        ([at(1, 3.0), at(1, 4.0)], "two of the checkpoints are called"),
        ([at(1, 3.0), at(2, 4.0, embedding="notes-v1")], "embedding differs"),
        ([at(1, 3.0), at(2, 4.0, n_reference=7)], "number of reference windows differs"),
    ],
)
def test_what_is_not_compared(rows: list[Scored], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        rank(rows)


@pytest.mark.parametrize("value", [{}, {"fad": 3}, {"checkpoint": "x", "fad": None}])
def test_what_is_no_evaluation(value: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="not an evaluation"):
        scored(value)
