"""The composer: exact labels, the same piece from the same seed, notes that belong to the key."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes.mini.compose import TEMPO_RANGE, caption, compose
from recipes.mini.corpus import labels_of
from recipes.mini.lofi import age
from recipes.mini.styles import BASE_STYLES, LOFI, PROGRAMS, STYLES
from recipes.mini.theory import PROGRESSIONS, SCALES, Harmony

from luthier.audio.keynames import parse_key


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_labels_are_exact_and_in_range(seed: int) -> None:
    score = compose(seed)
    assert TEMPO_RANGE[0] <= score.bpm <= TEMPO_RANGE[1]
    assert score.style in BASE_STYLES
    assert score.metre in (3, 4)
    key = parse_key(score.key)
    assert (key.tonic, key.mode) == (score.harmony.tonic, score.harmony.mode)
    bars = score.duration_s / (score.metre * 60 / score.bpm)
    assert bars == pytest.approx(round(bars))
    assert score.duration_s >= 12.0
    assert {stem.role for stem in score.stems} >= {"drums", "bass", "chords"}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_notes_lie_in_the_piece_and_in_the_key(seed: int) -> None:
    score = compose(seed)
    scale = {(score.harmony.tonic + s) % 12 for s in SCALES[score.harmony.mode]}
    # The major dominant of a minor key brings the leading tone.
    scale.add((score.harmony.tonic + 11) % 12)
    for stem in score.stems:
        for note in stem.notes:
            assert 0 <= note.start_s < score.duration_s
            assert note.duration_s > 0
            assert 1 <= note.velocity <= 127
            assert 0 <= note.pitch <= 127
            if stem.program is not None:
                assert note.pitch % 12 in scale


def test_the_first_beat_is_played_and_is_at_zero() -> None:
    for seed in range(30):
        score = compose(seed)
        assert min(note.start_s for stem in score.stems for note in stem.notes) == 0


def test_same_seed_same_piece() -> None:
    assert compose(5) == compose(5)
    assert compose(5) != compose(6)


def test_every_key_and_both_modes_come_up() -> None:
    scores = [compose(seed) for seed in range(400)]
    assert len({score.key for score in scores}) == 24
    assert all(labels_of(score)["keyscale"] == score.key for score in scores[:40])


def test_lofi_is_not_part_of_the_base_training() -> None:
    assert LOFI not in BASE_STYLES
    assert compose(1, styles=(LOFI,)).style == LOFI
    assert not any("lofi" in compose(seed).style for seed in range(200))


def test_captions_name_the_style_and_only_instruments_that_play() -> None:
    for seed in range(40):
        score = compose(seed)
        text = caption(score, random.Random(seed))
        assert score.style in text
        for name in PROGRAMS:
            if re.search(rf"\b{name}\b", text):
                assert any(name in instrument for instrument in score.instruments)


def test_patterns_fill_their_bars() -> None:
    for style in STYLES.values():
        for metre, kits in style.drums.items():
            for kit in kits:
                assert {len(line) for line in kit.values()} == {4 * metre}
        for table in (style.bass, style.chords):
            for metre, patterns in table.items():
                assert {len(p) for p in patterns} == {4 * metre}
                assert set("".join(patterns)) <= set("xX.")


def test_chords_are_triads_of_the_scale() -> None:
    c_major = Harmony(0, "major")
    assert [c_major.chord(d) for d in "145"] == [(0, 4, 7), (5, 9, 12), (7, 11, 14)]
    assert Harmony(9, "minor").chord("5M") == (7, 11, 14)
    for mode, progressions in PROGRESSIONS.items():
        assert all(p[0] == "1" for p in progressions), mode


def test_ageing_is_bounded_repeatable_and_takes_the_highs() -> None:
    rate = 24_000
    noise = np.random.default_rng(0).normal(0, 0.2, (2, rate)).astype(np.float32)
    aged = age(noise, rate, seed=3)
    assert aged.shape == noise.shape
    assert np.array_equal(aged, age(noise, rate, seed=3))
    assert float(np.abs(aged).max()) <= 0.81
    spectrum = np.abs(np.fft.rfft(aged[0]))
    hertz = np.fft.rfftfreq(rate, 1 / rate)
    assert spectrum[hertz > 9000].mean() < 0.3 * spectrum[(hertz > 200) & (hertz < 2000)].mean()
