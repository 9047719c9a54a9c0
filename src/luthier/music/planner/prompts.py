"""The prompts of the language model: the exact strings it was trained on. A wire format."""

from __future__ import annotations

from luthier.music.planner.facts import Facts, think_block

NO_INPUT = "NO USER INPUT"
_INSTRUMENTAL = "[Instrumental]"
_TURNS = (
    "<|im_start|>system\n# Instruction\n{instruction}\n\n<|im_end|>\n"
    "<|im_start|>user\n{user}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
_COMPOSE = "Generate audio semantic tokens based on the given conditions:"
_EXPAND = "Expand the user's input into a more detailed and specific musical description:"
_FORMAT = "Format the user's input into a more detailed and specific musical description:"
_UNDERSTAND = (
    "Understand the given musical conditions and describe the audio semantics accordingly:"
)


def chat(instruction: str, user: str) -> str:
    """A system and a user turn, and the beginning of the assistant's."""
    return _TURNS.format(instruction=instruction, user=user)


def compose_prompt(caption: str, lyrics: str) -> str:
    """Asks for the facts of a described piece, then for its codes."""
    return chat(_COMPOSE, f"# Caption\n{caption}\n\n# Lyric\n{lyrics}\n")


def compose_unconditional(lyrics: str, negative: str = NO_INPUT) -> str:
    """The same without the description, or with one of what is not wanted: to guide facts."""
    if negative != NO_INPUT:
        return compose_prompt(negative, lyrics)
    return chat(_COMPOSE, f"# Lyric\n{lyrics}\n")


def codes_prompt(caption: str, lyrics: str, facts: Facts) -> str:
    """Asks for codes: the assistant's turn has stated its facts and is still open."""
    return f"{compose_prompt(caption, lyrics)}{think_block(facts)}\n\n"


def codes_unconditional(caption: str, lyrics: str, negative: str = NO_INPUT) -> str:
    """The same with nothing thought: to guide codes."""
    shown = caption if negative == NO_INPUT else negative
    return f"{compose_prompt(shown, lyrics)}{think_block(Facts())}\n\n"


def inspiration_prompt(query: str, *, instrumental: bool) -> str:
    """Asks for a whole piece from a few words."""
    said = query.strip() or NO_INPUT
    return chat(_EXPAND, f"{said}\n\ninstrumental: {'true' if instrumental else 'false'}")


def format_prompt(caption: str, lyrics: str) -> str:
    """Asks for a better caption and better lyrics."""
    return chat(
        _FORMAT,
        f"# Caption\n{caption.strip() or NO_INPUT}\n\n# Lyric\n{lyrics.strip() or _INSTRUMENTAL}",
    )


def understand_prompt(codes: tuple[int, ...]) -> str:
    """Asks what the music that the codes stand for is like."""
    return chat(_UNDERSTAND, "".join(f"<|audio_code_{code}|>" for code in codes))


def lyrics_of(text: str) -> str:
    """The lyrics in an answer: what follows the thoughts, without heading and end mark."""
    after = text.split("</think>", 1)[-1] if "</think>" in text else ""
    after = after.strip().removesuffix("<|im_end|>").removesuffix("<|endoftext|>").strip()
    if after.startswith("# Lyric"):
        after = after.partition("\n")[2].strip()
    return after
