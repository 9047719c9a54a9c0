"""Lyrics files: `[Instrumental]`, or a sheet with section headers for what is sung."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from luthier.music.dataset.captions import is_instrumental, voices
from luthier.music.dataset.style_preset import StylePreset

INSTRUMENTAL = "[Instrumental]"
WORDLESS = ("chopped vocals", "humming", "wordless vocals")
_SHORT_S = 60.0
_SHORT_FORM = ("Verse", "Chorus")
_LONG_FORM = ("Intro", "Verse 1", "Chorus", "Verse 2", "Chorus", "Outro")
_HEADER = re.compile(r"\[[^\[\]]+\]")
# Of the languages that the lyrics tokenizer knows, those that a script gives away.
_SCRIPTS = (
    ("ja", re.compile(r"[぀-ヿ]")),
    ("ko", re.compile(r"[가-힣]")),
    ("zh", re.compile(r"[一-鿿]")),
    ("ru", re.compile(r"[Ѐ-ӿ]")),
    ("ar", re.compile(r"[؀-ۿ]")),
    ("hi", re.compile(r"[ऀ-ॿ]")),
)
_LETTER = re.compile(r"[^\W\d_]")


def lyric_sheet(styles: Sequence[StylePreset], duration_s: float) -> str:
    """`[Instrumental]`, or sections with a note in parentheses of what the voice does.

    The notes are to be replaced by the words that are sung; those of wordless styles may stay.
    """
    if is_instrumental(styles):
        return INSTRUMENTAL
    sung = voices(styles)
    sections = _SHORT_FORM if duration_s < _SHORT_S else _LONG_FORM
    blocks = []
    for number, section in enumerate(sections):
        quiet = section in ("Intro", "Outro")
        note = "instrumental" if quiet else sung[number % len(sung)]
        blocks.append(f"[{section}]\n({note})")
    return "\n\n".join(blocks)


def has_words_to_write(styles: Sequence[StylePreset]) -> bool:
    """Whether a style has a voice with words, which no sheet can know."""
    return not is_instrumental(styles) and any(v not in WORDLESS for v in voices(styles))


def language_of(lyrics: str) -> str | None:
    """The language that the lyrics' script gives away, e.g. "ja"; None for Latin or no letters."""
    letters = _LETTER.findall(_HEADER.sub("", lyrics))
    counts = Counter(
        next((name for name, script in _SCRIPTS if script.match(letter)), "latin")
        for letter in letters
    )
    if not counts:
        return None
    # Japanese is written with kana and Chinese characters together.
    language = counts.most_common(1)[0][0]
    if language == "zh" and counts["ja"]:
        return "ja"
    return None if language == "latin" else language


def lyrics_problems(lyrics: str) -> list[str]:
    """What a person should look at, a sentence each."""
    lines = [line.strip() for line in lyrics.splitlines()]
    problems = []
    if not any(_HEADER.fullmatch(line) for line in lines):
        problems.append("the lyrics have no section header such as [Verse] on a line of its own.")
    if any(line.startswith("[") and not _HEADER.match(line) for line in lines):
        problems.append("the lyrics have a line that begins with [ and has no ] after it.")
    return problems
