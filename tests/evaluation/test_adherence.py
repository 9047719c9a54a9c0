"""Tempo and key: what counts as met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.audio.keynames import ALL_KEYS, Key
from luthier.audio.tempo import Tempo
from luthier.errors import RequestError
from luthier.music.evaluation.adherence import (
    adherence,
    check_key,
    check_tempo,
    key_relation,
    tempo_octave,
)


@pytest.mark.parametrize(
    ("measured", "octave"),
    [
        (100, "same"),
        (96, "same"),
        (104, "same"),
        (95.9, None),
        (104.1, None),
        (50, "half"),
        (48, "half"),
        (47.9, None),
        (52, "half"),
        (200, "double"),
        (208, "double"),
        (208.1, None),
        (150, None),
        (66.7, None),
        (0, None),
    ],
)
def test_four_percent_at_three_octaves(measured: float, octave: str | None) -> None:
    assert tempo_octave(100, measured) == octave


@given(st.floats(30, 300), st.floats(0.961, 1.039), st.sampled_from([0.5, 1.0, 2.0]))
def test_near_enough_is_met_at_every_tempo(bpm: float, off: float, factor: float) -> None:
    assert check_tempo("x", bpm, Tempo(bpm * off * factor, 0.5, ())).passed


def test_chance_is_about_a_tenth() -> None:
    """A guess spread over 40 to 220 should rarely be right by luck."""
    guesses = [40 + 0.5 * i for i in range(361)]
    share = sum(tempo_octave(90, guess) is not None for guess in guesses) / len(guesses)
    assert share < 0.15


def test_the_relations_of_keys() -> None:
    c_major = Key(0, "major")
    found = {key.name: key_relation(c_major, key) for key in ALL_KEYS}
    near = {name: relation for name, relation in found.items() if relation != "other"}
    assert near == {
        "C major": "same",
        "A minor": "relative",
        "C minor": "parallel",
        "F major": "fifth",
        "G major": "fifth",
    }


@given(st.sampled_from(ALL_KEYS), st.sampled_from(ALL_KEYS))
def test_relations_go_both_ways(first: Key, second: Key) -> None:
    assert key_relation(first, second) == key_relation(second, first)


def test_only_tonic_and_mode_count_as_met() -> None:
    assert check_key("x", "Am", Key(9, "minor", 0.4)).passed
    assert not check_key("x", "Am", Key(0, "major")).passed
    check = check_key("x", "Bbm", Key(10, "major", 0.4))
    assert (check.requested, check.measured, check.relation) == ("Bb minor", "Bb major", "parallel")


def test_a_key_that_is_none_is_a_sentence() -> None:
    with pytest.raises(RequestError, match="is not a key"):
        check_key("x", "H dur", Key(0, "major"))


def test_the_summary_keeps_every_raw_value() -> None:
    result = adherence(
        [
            check_tempo("a", 90, Tempo(90.3, 0.9, ())),
            check_tempo("b", 90, Tempo(45.0, 0.9, ())),
            check_tempo("c", 90, Tempo(70.0, 0.1, ())),
        ]
    )
    assert result is not None
    told = result.to_json()
    assert (told["ratio"], told["passed"], told["n"]) == (0.6667, 2, 3)
    assert told["counts"] == {"half": 1, "missed": 1, "same": 1}
    assert [c["measured_bpm"] for c in told["checks"]] == [90.3, 45.0, 70.0]


def test_nothing_asked_is_no_ratio() -> None:
    assert adherence([]) is None
