"""A score's stems as tracks: what a layer is called, what it is a layer to, how it is asked for.

ACE-Step 1.5 names twelve tracks. Stems that share a name are one track, as they would be for anyone
who separates a recording.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .compose import Score, Stem

Array = NDArray[np.float32]

_FAMILIES = {
    "keyboard": ("piano", "rhodes", "electric piano", "organ", "accordion"),
    "percussion": ("vibraphone", "music box"),
    "guitar": ("acoustic guitar", "jazz guitar", "electric guitar", "distorted guitar"),
    "strings": ("violin", "cello", "strings"),
    "backing_vocals": ("choir",),
    "brass": ("trumpet", "brass"),
    "woodwinds": ("saxophone", "clarinet", "flute"),
    "synth": ("synth lead", "synth pads"),
}
_TRACK_OF = {name: family for family, names in _FAMILIES.items() for name in names}
_PEAKS = (0.7, 1.0)  # of a mix: recordings are not all equally loud


@dataclass(frozen=True)
class Part:
    """One track of a clip: its name, its instruments' names, and its audio (2, samples)."""

    track: str
    instruments: tuple[str, ...]
    audio: Array


def track_of(stem: Stem) -> str:
    """ACE-Step's name for a stem's track; whatever plays the bass is the bass."""
    return stem.role if stem.role in ("drums", "bass") else _TRACK_OF[stem.instrument]


def parts_of(score: Score, stems: Mapping[str, Array], samples: int, seed: int) -> list[Part]:
    """The tracks of a rendered score, cut to `samples`, with one gain for all, so that they add up
    to the mix.
    """
    low, high = _PEAKS
    total = np.sum(list(stems.values()), axis=0)
    peak = random.Random(f"peak {seed}").uniform(low, high)
    gain = np.float32(peak / max(1e-6, float(np.abs(total).max())))
    by_track: dict[str, list[Stem]] = {}
    for stem in score.stems:
        by_track.setdefault(track_of(stem), []).append(stem)
    return [
        Part(
            track,
            tuple(dict.fromkeys(stem.instrument for stem in members)),
            gain * np.sum([stems[stem.role] for stem in members], axis=0)[:, :samples],
        )
        for track, members in by_track.items()
    ]


def summed(parts: Sequence[Part]) -> Array:
    """What parts sound like together, (2, samples)."""
    return np.asarray(np.sum([part.audio for part in parts], axis=0), np.float32)


def drawn_pair(parts: Sequence[Part], rng: random.Random) -> tuple[int, int]:
    """Two of the parts, by index, at random and different."""
    first, second = rng.sample(range(len(parts)), 2)
    return first, second


def layer_caption(
    whole: Sequence[str],
    style: str,
    mood: str,
    instruments: Sequence[str],
    rng: random.Random,
) -> str:
    """How people ask for a layer: by its instrument, by the whole song's caption, or in no words
    beside the track's name.
    """
    way = rng.random()
    if way < 0.3:
        return ""
    if way < 0.6:
        return rng.choice(whole)
    words = [rng.choice((style, mood, f"{mood} {style}", "")), *instruments]
    rng.shuffle(words)
    return ", ".join(word for word in words if word)
