"""Which styles a collection has, which it lacks, and what people thought of its tracks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from luthier.errors import RequestError
from luthier.music.dataset.style_mapping import StyleMapping
from luthier.music.dataset.style_preset import Category, StylePreset

CATEGORIES: tuple[Category, ...] = get_args(Category)
# Shares of the tracks by category, for a collection of all styles.
DEFAULT_TARGETS: Mapping[Category, float] = {
    "core": 0.4,
    "seasonal": 0.2,
    "thematic": 0.2,
    "instrumental": 0.1,
    "vocal": 0.1,
}


@dataclass(frozen=True)
class CategoryCount:
    """One of the five categories. A track counts once, in the category of its first style."""

    category: Category
    tracks: int
    share: float
    target_share: float
    lacking: int


@dataclass(frozen=True)
class StyleCount:
    """One style. A track counts in every style that it has.

    Attributes:
        lacking: tracks missing from an even part of what the category should have.
    """

    style_id: str
    name: str
    category: Category
    tracks: int
    lacking: int


@dataclass(frozen=True)
class StyleReport:
    """A collection by styles; `lacking` counts the tracks missing from a target."""

    tracks: int
    categories: tuple[CategoryCount, ...]
    styles: tuple[StyleCount, ...]
    untagged: tuple[str, ...]
    scored: int
    verified: int
    mean_score: float | None

    @property
    def gaps(self) -> tuple[str, ...]:
        """The styles without a track."""
        return tuple(style.style_id for style in self.styles if not style.tracks)

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return asdict(self) | {"gaps": list(self.gaps)}


def report_styles(
    mapping: StyleMapping,
    presets: Mapping[str, StylePreset],
    tracks: Iterable[str] | None = None,
    *,
    targets: Mapping[Category, float] = DEFAULT_TARGETS,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
) -> StyleReport:
    """Count tracks by style and category against targets.

    Args:
        mapping: style ids by track id, all of them known.
        presets: the styles that exist.
        tracks: every track of the collection; None takes those of the mapping.
        targets: share of the tracks by category, from `parse_targets`.
        scores: `quality_scores.json`.
    """
    everything = sorted(set(mapping) if tracks is None else set(tracks))
    styled = [track for track in everything if mapping.get(track)]
    firsts = Counter(presets[mapping[track][0]].category for track in styled)
    mentions = Counter(style for track in styled for style in mapping[track])
    sizes = Counter(preset.category for preset in presets.values())
    total = len(styled)

    def wanted(category: Category) -> float:
        return targets.get(category, 0.0) * total

    judged = [row for track, row in (scores or {}).items() if track in set(everything)]
    points = [row["score"] for row in judged]
    return StyleReport(
        tracks=len(everything),
        categories=tuple(
            CategoryCount(
                category,
                firsts[category],
                round(firsts[category] / total, 4) if total else 0.0,
                targets.get(category, 0.0),
                _lacking(wanted(category), firsts[category]),
            )
            for category in CATEGORIES
        ),
        styles=tuple(
            StyleCount(
                preset.style_id,
                preset.name,
                preset.category,
                mentions[preset.style_id],
                _lacking(
                    wanted(preset.category) / sizes[preset.category], mentions[preset.style_id]
                ),
            )
            for preset in presets.values()
        ),
        untagged=tuple(track for track in everything if not mapping.get(track)),
        scored=len(judged),
        verified=sum(bool(row.get("verified")) for row in judged),
        mean_score=round(sum(points) / len(points), 2) if points else None,
    )


def parse_targets(words: Iterable[str]) -> dict[Category, float]:
    """Read `category=share` words; what none of them names shares the rest in the usual ratio.

    Raises:
        RequestError: an unknown category, a share outside 0..1, or more than 1 in all.
    """
    given: dict[Category, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        category = next((c for c in CATEGORIES if c == name), None)
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if category is None or not 0 <= value <= 1:
            raise RequestError(
                f"a target is a category and a share from 0 to 1, such as core=0.4, not {word!r}; "
                f"the categories are {', '.join(CATEGORIES)}."
            )
        given[category] = value
    if sum(given.values()) > 1 + 1e-9:
        raise RequestError(f"targets are shares of one whole, not {sum(given.values()):g} of it.")
    others = [category for category in CATEGORIES if category not in given]
    usual = sum(DEFAULT_TARGETS[category] for category in others)
    rest = max(0.0, 1 - sum(given.values()))
    return given | {c: round(rest * DEFAULT_TARGETS[c] / usual, 4) for c in others}


def _lacking(wanted: float, tracks: int) -> int:
    # Rounded down: half a track is nothing that could be added.
    return max(0, math.floor(wanted + 1e-9) - tracks)
