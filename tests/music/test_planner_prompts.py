"""The prompts of the planner's language model, byte for byte."""

from __future__ import annotations

import pytest
import yaml

from luthier.music.planner import prompts
from luthier.music.planner.facts import Facts, parse_facts, think_block


def test_the_prompt_that_asks_for_facts_and_codes() -> None:
    assert prompts.compose_prompt("calm piano", "[Instrumental]") == (
        "<|im_start|>system\n# Instruction\n"
        "Generate audio semantic tokens based on the given conditions:\n\n<|im_end|>\n"
        "<|im_start|>user\n# Caption\ncalm piano\n\n# Lyric\n[Instrumental]\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(("instrumental", "word"), [(True, "true"), (False, "false")])
def test_the_prompt_of_simple_mode(instrumental: bool, word: str) -> None:
    assert prompts.inspiration_prompt("a song of rain", instrumental=instrumental) == (
        "<|im_start|>system\n# Instruction\n"
        "Expand the user's input into a more detailed and specific musical description:"
        "\n\n<|im_end|>\n"
        f"<|im_start|>user\na song of rain\n\ninstrumental: {word}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_nothing_said_is_said_in_words() -> None:
    assert "user\nNO USER INPUT\n\ninstrumental" in prompts.inspiration_prompt(
        " ", instrumental=True
    )
    assert "# Caption\nNO USER INPUT\n\n# Lyric\n[Instrumental]<|im_end|>" in (
        prompts.format_prompt("", "")
    )


def test_the_prompt_to_format_has_its_own_instruction() -> None:
    text = prompts.format_prompt("pop", "la la")
    assert "Format the user's input into a more detailed and specific musical description:" in text
    assert "user\n# Caption\npop\n\n# Lyric\nla la<|im_end|>\n" in text


def test_codes_to_understand_are_written_as_their_tokens() -> None:
    text = prompts.understand_prompt((7, 63999))
    assert "user\n<|audio_code_7|><|audio_code_63999|><|im_end|>\n" in text
    assert (
        "Understand the given musical conditions and describe the audio semantics accordingly:\n\n"
        in text
    )


def test_before_the_codes_the_turn_stays_open() -> None:
    facts = Facts(bpm=120, duration=180, keyscale="A minor", language="en", timesignature="4")
    assert prompts.codes_prompt("c", "l", facts).endswith(
        "assistant\n<think>\nbpm: 120\nduration: 180\nkeyscale: A minor\nlanguage: en\n"
        "timesignature: 4\n</think>\n\n"
    )
    assert prompts.codes_unconditional("c", "l").endswith("assistant\n<think>\n\n</think>\n\n")
    assert "# Caption\nc\n" in prompts.codes_unconditional("c", "l")
    assert "# Caption\nnoise\n" in prompts.codes_unconditional("c", "l", "noise")


def test_facts_are_guided_away_from_the_lyrics_alone_or_from_what_is_not_wanted() -> None:
    assert "user\n# Lyric\nl\n<|im_end|>" in prompts.compose_unconditional("l")
    assert "user\n# Caption\nnoise\n\n# Lyric\nl\n<|im_end|>" in (
        prompts.compose_unconditional("l", "noise")
    )


def test_the_block_of_facts_is_sorted_yaml_wrapped_at_eighty_columns() -> None:
    caption = "A très long description of a warm and slow piece: " + "strings and piano, " * 6
    block = think_block(Facts(bpm=90, caption=caption.strip(), timesignature="3/4"))
    lines = block.split("\n")
    assert lines[0] == "<think>"
    assert lines[-1] == "</think>"
    assert lines[-2] == "timesignature: 3"
    assert [line[:2] for line in lines if line.startswith(" ")] == ["  "] * 2
    assert max(map(len, lines)) <= 100
    assert yaml.safe_load("\n".join(lines[1:-1])) == {
        "bpm": 90,
        "caption": caption.strip(),
        "timesignature": 3,
    }


@pytest.mark.parametrize(
    "facts",
    [
        Facts(),
        Facts(bpm=300, caption="it's: quoted # here", duration=600, keyscale="C♯ major"),
        Facts(caption="word " * 60 + "end", language="no", timesignature="6", genres="jazz, pop"),
    ],
)
def test_facts_survive_being_written_and_read(facts: Facts) -> None:
    assert parse_facts(think_block(facts)) == facts


def test_what_is_out_of_range_is_not_read() -> None:
    text = "<think>\nbpm: 29\nduration: 601\nkeyscale: H major\nlanguage: xx\ntimesignature: 5\n"
    assert parse_facts(text + "</think>bpm: 100") == Facts()


def test_lyrics_are_what_follows_the_thoughts() -> None:
    text = "<think>\nbpm: 90\n</think>\n# Lyric\n[Verse]\nrain\n<|im_end|>"
    assert prompts.lyrics_of(text) == "[Verse]\nrain"
    assert prompts.lyrics_of("never ended") == ""
