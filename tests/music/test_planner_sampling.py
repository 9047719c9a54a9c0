"""How a token is drawn from logits."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.music.planner.sampling import Sampling, choose, guided

LOGITS = np.log(np.array([0.05, 0.5, 0.15, 0.3], np.float32))
PLAIN = Sampling(temperature=1.0, top_k=0, top_p=1.0)


def shares(sampling: Sampling, logits: np.ndarray = LOGITS, count: int = 4000) -> np.ndarray:
    draw = np.random.default_rng(0)
    drawn = [choose(logits, sampling, draw) for _ in range(count)]
    return np.bincount(drawn, minlength=len(logits)) / count


def test_tokens_come_as_often_as_their_probability_says() -> None:
    assert shares(PLAIN) == pytest.approx([0.05, 0.5, 0.15, 0.3], abs=0.03)


def test_temperature_sharpens_what_is_left() -> None:
    squared = np.array([0.05, 0.5, 0.15, 0.3]) ** 2
    cold = Sampling(temperature=0.5, top_p=1.0)
    assert shares(cold) == pytest.approx(squared / squared.sum(), abs=0.03)


def test_no_temperature_takes_the_likeliest() -> None:
    assert shares(Sampling(temperature=0.0), count=5).tolist() == [0, 1, 0, 0]


def test_top_k_keeps_the_likeliest() -> None:
    assert np.flatnonzero(shares(Sampling(1.0, top_k=2, top_p=1.0))).tolist() == [1, 3]


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    assert np.flatnonzero(shares(Sampling(1.0, top_p=0.45))).tolist() == [1]
    assert np.flatnonzero(shares(Sampling(1.0, top_p=0.6))).tolist() == [1, 3]
    assert np.flatnonzero(shares(Sampling(1.0, top_p=0.9))).tolist() == [1, 2, 3]


def test_top_p_looks_before_temperature_does() -> None:
    # Hot enough to make all alike: were it applied first, 0.6 would keep three.
    assert np.flatnonzero(shares(Sampling(100.0, top_p=0.6))).tolist() == [1, 3]


def test_what_was_read_is_made_less_likely() -> None:
    logits = np.array([2.0, 1.5, -1.0, -1.4], np.float32)
    seen = np.array([True, False, True, False])
    rule = Sampling(temperature=0.0, repetition_penalty=1.5)
    draw = np.random.default_rng(0)
    assert choose(logits, rule, draw, seen) == 1
    assert choose(logits[2:], rule, draw, seen[2:]) == 1


def test_guidance_goes_past_the_conditional_prediction() -> None:
    with_prompt, without = np.array([1.0, 0.0], np.float32), np.array([0.0, 0.0], np.float32)
    assert guided(with_prompt, without, 2.0).tolist() == [2.0, 0.0]
    assert guided(with_prompt, without, 1.0).tolist() == [1.0, 0.0]


def test_extreme_logits_are_drawn_from_all_the_same() -> None:
    logits = np.array([-1e30, 3e4, 3e4, -1e30], np.float32)
    assert set(np.flatnonzero(shares(PLAIN, logits, 200))) == {1, 2}
