from __future__ import annotations

import pytest

from luthier.music import templates


def test_prompt_is_the_wire_format() -> None:
    metas = templates.metas_text(bpm=84, time_signature="4", key="A minor", duration_s=10.9)
    text = templates.prompt_text(
        "calm piano", metas, instruction=templates.instruction_for("text2music")
    )
    assert text == (
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n"
        "# Caption\ncalm piano\n\n"
        "# Metas\n- bpm: 84\n- timesignature: 4\n- keyscale: A minor\n- duration: 10 seconds\n"
        "<|endoftext|>\n"
    )


def test_what_is_not_given_is_not_available() -> None:
    assert templates.metas_text() == (
        "- bpm: N/A\n- timesignature: N/A\n- keyscale: N/A\n- duration: 30 seconds\n"
    )


@pytest.mark.parametrize("words", ["", "  ", "[inst]", "[Instrumental]"])
def test_no_words_are_instrumental(words: str) -> None:
    expected = "# Languages\nen\n\n# Lyric\n[Instrumental]<|endoftext|>"
    assert templates.lyrics_text(words) == expected


def test_words_stay_as_they_are() -> None:
    assert templates.lyrics_text("[verse]\nla", "fr") == (
        "# Languages\nfr\n\n# Lyric\n[verse]\nla<|endoftext|>"
    )


@pytest.mark.parametrize(
    ("task", "tracks", "expected"),
    [
        ("extract", ("drums",), "Extract the DRUMS track from the audio:"),
        ("extract", (), "Extract the track from the audio:"),
        ("lego", ("bass",), "Generate the BASS track based on the audio context:"),
        ("complete", ("drums", "bass"), "Complete the input track with DRUMS | BASS:"),
        ("complete", (), "Complete the input track:"),
        ("repaint", (), "Repaint the mask area based on the given conditions:"),
        ("cover", (), "Generate audio semantic tokens based on the given conditions:"),
    ],
)
def test_instructions(task: str, tracks: tuple[str, ...], expected: str) -> None:
    assert templates.instruction_for(task, tracks) == expected


def test_an_instruction_gets_its_colon() -> None:
    assert "# Instruction\nDo it:\n" in templates.prompt_text("x", "", instruction="Do it")
