"""Styles and measured music → a caption: tags in a fixed order, never longer than loaders keep."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luthier.audio.keynames import parse_key
from luthier.music.dataset.style_preset import TAG_FIELDS, StylePreset
from luthier.music.dataset.taxonomy import TAG_ORDER, CategoryName

MAX_CAPTION = 256  # characters; ACE-Step v1 shuffles the tags first and cuts there
SEPARATOR = ", "  # the one that loaders split at
# In which order categories give a tag each, until the caption is full.
_PRIORITY: tuple[CategoryName, ...] = (
    "genre",
    "tempo",
    "instruments",
    "mood",
    "vocal_type",
    "atmosphere",
    "production",
)
_MOODS = 2  # a track gets so many of its style's moods
_TEMPO_WORDS = ((68, "very slow tempo"), (78, "slow tempo"), (95, "medium tempo"))
_MODE_TAGS = ("major key", "minor key")


@dataclass(frozen=True)
class Tag:
    """One tag of a caption.

    Attributes:
        text: without comma.
        category: which of the seven it is of.
        rank: its place in its style's list; the lower, the sooner it gets into a full caption.
    """

    text: str
    category: CategoryName
    rank: int = 0


def build_caption(
    presets: StylePreset | Sequence[StylePreset],
    bpm: float | None = None,
    key: str | None = None,
    seed: int | str = 0,
) -> str:
    """A caption of at most 256 characters for a track of the given style or styles.

    Args:
        presets: in order of importance; their tags are united.
        bpm: beats a minute; None puts a word for the styles' tempo range there.
        key: as `parse_key` reads it; None leaves it out.
        seed: chooses the moods; the same seed gives the same caption.
    """
    return join(fit(gather(presets, bpm, key, seed)))


def gather(
    presets: StylePreset | Sequence[StylePreset],
    bpm: float | None = None,
    key: str | None = None,
    seed: int | str = 0,
) -> tuple[Tag, ...]:
    """Every tag that the styles and the music give, in the order of a caption, none twice."""
    styles = [presets] if isinstance(presets, StylePreset) else list(presets)
    found = [
        Tag(text, category, rank)
        for style in styles
        for field, category in TAG_FIELDS.items()
        if category not in ("mood", "vocal_type")
        for rank, text in enumerate(getattr(style, field))
        if not (key and text in _MODE_TAGS)  # the key itself says more, and it was measured
    ]
    found += [Tag(text, "mood", rank) for rank, text in enumerate(_moods(styles, seed))]
    found += [Tag(text, "vocal_type", rank) for rank, text in enumerate(voices(styles))]
    return arrange([*found, *tempo_tags(styles, bpm, key)])


def tempo_tags(
    styles: Sequence[StylePreset], bpm: float | None = None, key: str | None = None
) -> list[Tag]:
    """What is known of tempo and key; without `bpm` a word for the styles' tempo range."""
    tags = [Tag(_tempo_tag(styles, bpm), "tempo")]
    return [*tags, Tag(parse_key(key).name, "tempo", 1)] if key else tags


def arrange(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    """The tags by category, each text only the first time; within a category as they came."""
    first: dict[str, Tag] = {}
    for tag in sorted(tags, key=lambda tag: TAG_ORDER.index(tag.category)):
        first.setdefault(tag.text.lower(), tag)
    return tuple(first.values())


def fit(tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """As many of the tags as a caption holds, in their order; no tag is cut.

    The first genre, the tempo and the key get in first, then a tag of each category in turn.
    """

    def urgency(place: int) -> tuple[int, int, int, int]:
        tag = tags[place]
        turn = 1 if tag.category == "tempo" else 2
        return 0 if place == 0 else turn, tag.rank, _PRIORITY.index(tag.category), place

    chosen: set[int] = set()
    left = MAX_CAPTION + len(SEPARATOR)
    for place in sorted(range(len(tags)), key=urgency):
        needed = len(tags[place].text) + len(SEPARATOR)
        if needed <= left:
            chosen.add(place)
            left -= needed
    return tuple(tags[place] for place in sorted(chosen))


def join(tags: Iterable[Tag]) -> str:
    """The caption that the tags make."""
    return SEPARATOR.join(tag.text for tag in tags)


def fit_octave(bpm: float, presets: Sequence[StylePreset]) -> float:
    """Half or double `bpm` where that lies in a style's tempo range and `bpm` itself does not.

    Tempo estimates are right up to the octave; the style knows which one people would tap.
    """
    ranges = [preset.tempo_range for preset in presets]
    for candidate in (bpm, bpm / 2, bpm * 2):
        if any(low * 0.97 <= candidate <= high * 1.03 for low, high in ranges):
            return round(candidate, 2)
    return bpm


def is_instrumental(presets: Sequence[StylePreset]) -> bool:
    """Whether no style asks for a voice."""
    return voices(presets) in ([], ["instrumental"])


def voices(styles: Sequence[StylePreset]) -> list[str]:
    """The vocal tags of the styles; a voice in one outweighs "instrumental" in another."""
    tags = _union(style.vocal_type for style in styles)
    return [tag for tag in tags if tag != "instrumental"] or tags


def _union(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(tag for tags in lists for tag in tags))


def _moods(styles: Sequence[StylePreset], seed: int | str) -> list[str]:
    options = _union(s.mood_options for s in styles)
    # Python's own hash of a string differs between runs.
    number = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "big")
    chosen = random.Random(number).sample(options, min(_MOODS, len(options)))
    return [tag for tag in options if tag in chosen]


def _tempo_tag(styles: Sequence[StylePreset], bpm: float | None) -> str:
    if bpm:
        return f"{round(bpm)} bpm"
    middle = sum(sum(s.tempo_range) for s in styles) / (2 * len(styles))
    return next((word for limit, word in _TEMPO_WORDS if middle < limit), "upbeat tempo")
