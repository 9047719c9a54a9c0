"""The planner's grammar: whatever the logits, what comes out parses and is in range."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.music.planner.facts import (
    BPM,
    DURATION_S,
    KEYS,
    LANGUAGES,
    TIME_SIGNATURES,
    Facts,
    parse_facts,
)
from luthier.music.planner.fields import Grammars
from luthier.music.planner.grammar import Grammar
from luthier.music.planner.vocabulary import Vocabulary
from tiny_lm import CODES, tiny_lm_tokenizer

ILLEGAL = 7  # slots of the vocabulary that are no codes of the quantiser


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    tokenizer = tiny_lm_tokenizer()
    first = tokenizer.token_to_id("<|audio_code_0|>")
    return Vocabulary(tokenizer, first, CODES - ILLEGAL)


@pytest.fixture(scope="module")
def grammars(vocabulary: Vocabulary) -> Grammars:
    return Grammars(vocabulary, caption_tokens=12)


def say(grammar: Grammar, draw: np.random.Generator) -> list[int]:
    """A text under random logits: whatever is allowed, equally likely."""
    while not grammar.finished:
        allowed = grammar.allowed
        grammar.accept(int(allowed[int(draw.random() * len(allowed))]))
    return grammar.tokens


def test_ten_thousand_texts_under_random_logits_all_parse(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    draw = np.random.default_rng(0)
    seen = []
    for _ in range(10_000):
        text = vocabulary.decode(say(grammars.facts(Facts()), draw))
        assert text.startswith("<think>\nbpm: ")
        assert text.endswith("\n</think>")
        facts = parse_facts(text)
        assert None not in (facts.bpm, facts.duration, facts.keyscale, facts.language), text
        assert facts.timesignature is not None, text
        assert facts.caption, text
        seen.append(facts)
    # Tokens are equally likely, not values: some are rare.
    assert {min(BPM), max(BPM)} <= {f.bpm for f in seen} <= set(BPM)
    assert {max(DURATION_S)} <= {f.duration for f in seen} <= set(DURATION_S)
    assert {f.keyscale for f in seen} == set(KEYS)
    assert {f.language for f in seen} == set(LANGUAGES)
    assert {f.timesignature for f in seen} == set(TIME_SIGNATURES)


def test_what_the_user_gave_appears_exactly(grammars: Grammars, vocabulary: Vocabulary) -> None:
    draw = np.random.default_rng(1)
    for _ in range(300):
        given = Facts(
            bpm=int(draw.integers(30, 301)) if draw.random() < 0.5 else None,
            # Shorter than what the model would choose: the user's word counts.
            duration=int(draw.integers(1, 601)) if draw.random() < 0.5 else None,
            keyscale=str(draw.choice(KEYS)) if draw.random() < 0.5 else None,
            language=str(draw.choice(LANGUAGES)) if draw.random() < 0.5 else None,
            timesignature=str(draw.choice(TIME_SIGNATURES)) if draw.random() < 0.5 else None,
        )
        text = vocabulary.decode(say(grammars.facts(given), draw))
        lines = text.split("\n")
        for name, value in given.given().items():
            assert f"{name}: {value}" in lines


def test_a_given_caption_of_any_shape_appears(grammars: Grammars, vocabulary: Vocabulary) -> None:
    caption = "quiet: 'piano' # " + "and strings " * 12 + "end"
    text = vocabulary.decode(say(grammars.facts(Facts(caption=caption)), np.random.default_rng(0)))
    assert parse_facts(text).caption == caption


def test_when_all_is_given_nothing_is_left_to_choose(grammars: Grammars) -> None:
    everything = Facts(90, "piano", 30, None, "C major", "en", "4")
    grammar = grammars.facts(everything)
    grammar.accept_forced()
    assert grammar.finished


def test_fields_can_be_left_out(grammars: Grammars, vocabulary: Vocabulary) -> None:
    grammar = grammars.facts(Facts(), skip=frozenset({"caption", "language"}))
    text = vocabulary.decode(say(grammar, np.random.default_rng(0)))
    assert [line.partition(":")[0] for line in text.split("\n")[1:-1]] == [
        *("bpm", "duration", "keyscale", "timesignature")
    ]


def test_genres_may_be_named_where_they_are_asked_for(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    draw = np.random.default_rng(0)
    found = [
        parse_facts(vocabulary.decode(say(grammars.facts(Facts(), genres=True), draw)))
        for _ in range(100)
    ]
    assert 20 < sum(facts.genres is not None for facts in found) < 80
    assert all(facts.keyscale in KEYS for facts in found)


def test_the_states_are_passed_in_order(grammars: Grammars) -> None:
    grammar, states = grammars.facts(Facts(), genres=False), []
    draw = np.random.default_rng(0)
    while not grammar.finished:
        if not states or states[-1] != grammar.state:
            states.append(grammar.state)
        grammar.accept(int(draw.choice(grammar.allowed)))
    fields = ("BPM", "CAPTION", "DURATION", "KEYSCALE", "LANGUAGE", "TIMESIG")
    expected = [f"{field}_{part}" for field in fields for part in ("NAME", "VALUE")]
    # The first token of a name decides that the caption is over.
    assert states == ["THINK_TAG", "NEWLINE", *expected, "THINK_END_TAG"]
    assert grammar.state == "COMPLETED"


def test_only_the_language_is_taken_greedily(grammars: Grammars) -> None:
    grammar, greedy = grammars.facts(Facts()), set()
    draw = np.random.default_rng(0)
    while not grammar.finished:
        if grammar.greedy:
            greedy.add(grammar.state)
        grammar.accept(int(draw.choice(grammar.allowed)))
    assert greedy == {"LANGUAGE_VALUE"}


@pytest.mark.parametrize("count", [1, 50, 3000])
def test_the_number_of_codes_is_right_and_none_is_illegal(
    grammars: Grammars, vocabulary: Vocabulary, count: int
) -> None:
    tokens = np.array(say(grammars.codes(count), np.random.default_rng(0)))
    codes = tokens - vocabulary.first_code
    assert len(codes) == count
    assert codes.min() >= 0
    assert codes.max() < CODES - ILLEGAL


def test_captions_and_lyrics_hold_no_codes_and_no_marks(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    draw = np.random.default_rng(2)
    for _ in range(50):
        tokens = say(grammars.facts(Facts(), lyrics=True), draw)
        assert tokens[-1] in (vocabulary.end, vocabulary.pad)
        text = vocabulary.decode(tokens[:-1])
        assert "audio_code" not in text
        assert text.count("<think>") == text.count("</think>") == 1
        assert "<|im_start|>" not in text
        assert "`" not in text.split("</think>")[0]


def test_a_caption_ends_at_its_limit(vocabulary: Vocabulary) -> None:
    grammar = Grammars(vocabulary, caption_tokens=3).facts(Facts())
    letter = vocabulary.encode("a")[0]
    while grammar.state != "CAPTION_VALUE":
        grammar.accept(int(grammar.allowed[0]))
    for _ in range(3):
        grammar.accept(letter)
    assert grammar.allowed.tolist() == [vocabulary.newline]


def test_a_caption_goes_on_over_indented_lines(grammars: Grammars, vocabulary: Vocabulary) -> None:
    grammar = grammars.facts(Facts())
    while grammar.state != "CAPTION_VALUE":
        grammar.accept(int(grammar.allowed[0]))
    for token in vocabulary.encode("piano") + vocabulary.encode("\n") + vocabulary.encode("  a"):
        assert token in grammar.allowed
        grammar.accept(token)
    assert grammar.state == "CAPTION_VALUE"
