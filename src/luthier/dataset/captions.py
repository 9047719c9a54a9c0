"""Styles and measured music → a caption: tags in a fixed order, never longer than loaders keep."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence

from luthier.audio.keynames import parse_key
from luthier.dataset.styles import StylePreset

MAX_CAPTION = 256  # characters; ACE-Step v1 shuffles the tags first and cuts there
TAG_ORDER = (
    "genre",
    "mood",
    "instruments",
    "tempo",
    "production",
    "atmosphere",
    "vocal_type",
)
# What goes first when a caption is too long is the last of these.
_PRIORITY = (
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
    styles = [presets] if isinstance(presets, StylePreset) else list(presets)
    tags = {
        "genre": _union(s.base_tags for s in styles),
        "mood": _moods(styles, seed),
        "instruments": _union(s.instruments for s in styles),
        "tempo": [_tempo_tag(styles, bpm), *([parse_key(key).name] if key else [])],
        "production": _union(s.production for s in styles),
        "atmosphere": _union(s.atmosphere for s in styles),
        "vocal_type": _vocal(styles),
    }
    _drop_repeated(tags)
    while len(caption := _joined(tags)) > MAX_CAPTION:
        if not _drop_least(tags):
            return caption[:MAX_CAPTION].rsplit(", ", 1)[0]
    return caption


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
    return _vocal(presets) in ([], ["instrumental"])


def _union(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(tag for tags in lists for tag in tags))


def _moods(styles: Sequence[StylePreset], seed: int | str) -> list[str]:
    options = _union(s.mood_options for s in styles)
    # Python's own hash of a string differs between runs.
    number = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "big")
    chosen = random.Random(number).sample(options, min(_MOODS, len(options)))
    return [tag for tag in options if tag in chosen]


def _vocal(styles: Sequence[StylePreset]) -> list[str]:
    # A voice in one style outweighs "instrumental" in another.
    tags = _union(s.vocal_type for s in styles)
    voices = [tag for tag in tags if tag != "instrumental"]
    return voices or tags


def _tempo_tag(styles: Sequence[StylePreset], bpm: float | None) -> str:
    if bpm:
        return f"{round(bpm)} bpm"
    middle = sum(sum(s.tempo_range) for s in styles) / (2 * len(styles))
    return next((word for limit, word in _TEMPO_WORDS if middle < limit), "upbeat tempo")


def _drop_repeated(tags: dict[str, list[str]]) -> None:
    """Keep each tag only in the first category that has it."""
    seen: set[str] = set()
    for category in TAG_ORDER:
        tags[category] = [t for t in tags[category] if t.lower() not in seen]
        seen.update(tag.lower() for tag in tags[category])


def _joined(tags: dict[str, list[str]]) -> str:
    return ", ".join(tag for category in TAG_ORDER for tag in tags[category])


def _drop_least(tags: dict[str, list[str]]) -> bool:
    """Take the last tag of the least important category; False when one tag is all there is."""
    if sum(map(len, tags.values())) <= 1:
        return False
    category = next(c for c in reversed(_PRIORITY) if tags[c])
    tags[category].pop()
    return True
