"""A request in words: the exact strings that the text encoder was trained on.

They are a wire format: a changed space is another prompt. Training, caching and playing all build
them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Task = Literal["text2music", "cover", "repaint", "extract", "lego", "complete"]
TASKS: tuple[str, ...] = get_args(Task)
INSTRUMENTAL = "[Instrumental]"
NOT_GIVEN = "N/A"
TRACK_NAMES = (
    "woodwinds",
    "brass",
    "fx",
    "synth",
    "strings",
    "percussion",
    "keyboard",
    "guitar",
    "bass",
    "drums",
    "backing_vocals",
    "vocals",
)

_PROMPT = "# Instruction\n{instruction}\n\n# Caption\n{caption}\n\n# Metas\n{metas}<|endoftext|>\n"
_METAS = "- bpm: {}\n- timesignature: {}\n- keyscale: {}\n- duration: {} seconds\n"
_LYRICS = "# Languages\n{language}\n\n# Lyric\n{lyrics}<|endoftext|>"
_DEFAULT_DURATION_S = 30

# task: (instruction that names tracks, instruction that names none)
_INSTRUCTIONS = {
    "text2music": ("Fill the audio semantic mask based on the given conditions:",) * 2,
    "cover": ("Generate audio semantic tokens based on the given conditions:",) * 2,
    "repaint": ("Repaint the mask area based on the given conditions:",) * 2,
    "extract": (
        "Extract the {tracks} track from the audio:",
        "Extract the track from the audio:",
    ),
    "lego": (
        "Generate the {tracks} track based on the audio context:",
        "Generate the track based on the audio context:",
    ),
    "complete": ("Complete the input track with {tracks}:", "Complete the input track:"),
}
_WORDLESS = ("", "[inst]", "[instrumental]")


def instruction_for(task: str, tracks: Sequence[str] = ()) -> str:
    """The instruction of a task; the tracks it is about are named in upper case, joined by bars."""
    named, plain = _INSTRUCTIONS[task]
    return named.format(tracks=" | ".join(t.upper() for t in tracks)) if tracks else plain


def metas_text(
    *,
    bpm: int | None = None,
    time_signature: str | None = None,
    key: str | None = None,
    duration_s: float | None = None,
) -> str:
    """The block of musical facts; what is not given is N/A, but a duration is 30 seconds then."""
    return _METAS.format(
        bpm or NOT_GIVEN,
        time_signature or NOT_GIVEN,
        key or NOT_GIVEN,
        int(duration_s) if duration_s and duration_s > 0 else _DEFAULT_DURATION_S,
    )


def prompt_text(caption: str, metas: str, *, instruction: str) -> str:
    """The whole text prompt; the instruction gets its colon when it lacks one."""
    if not instruction.endswith(":"):
        instruction += ":"
    return _PROMPT.format(instruction=instruction, caption=caption, metas=metas)


def lyrics_text(lyrics: str, language: str = "en") -> str:
    """The whole lyric prompt; empty lyrics and the words for "none" become `[Instrumental]`."""
    wordless = lyrics.strip().lower() in _WORDLESS
    return _LYRICS.format(language=language, lyrics=INSTRUMENTAL if wordless else lyrics)
