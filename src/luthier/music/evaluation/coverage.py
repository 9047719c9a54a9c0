"""Can the style of a clip be recognised? Asked of CLAP, else of the real tracks; null when neither
can tell.

With CLAP a style is recognised when its own description is among the nearest eighth of all
descriptions. Without, when the clip lies nearest to the centre of that style's real tracks; but
only if the same rule tells the real tracks themselves apart (each left out in turn), because a rule
that cannot do that says nothing about clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Method = Literal["clap retrieval", "nearest style centre", "none"]

_NEAREST_SHARE = 8  # a description counts among the nearest one in so many
_NAMED = 3  # styles that a reason lists
_MIN_SKILL = 0.3  # of the way from guessing to always right, on the real tracks


@dataclass(frozen=True)
class StyleCoverage:
    """For every style that was asked for: whether a clip of it is recognised.

    Attributes:
        styles: None where it cannot be told; a silent or clipped clip never counts.
        method: how it was told.
        reason: why something is None; None when nothing is.
        real_accuracy: how often the rule is right on the real tracks; None where not measured.
        chance: how often guessing would be.
    """

    styles: dict[str, bool | None]
    method: Method
    reason: str | None = None
    real_accuracy: float | None = None
    chance: float | None = None

    @property
    def measured(self) -> list[bool]:
        """The styles that could be judged."""
        return [value for value in self.styles.values() if value is not None]

    def to_json(self) -> dict[str, Any]:
        """How the styles were judged."""
        return {
            "method": self.method,
            "measured": len(self.measured),
            "recognised": sum(self.measured),
            "asked": len(self.styles),
            "real_accuracy": _rounded(self.real_accuracy),
            "chance": _rounded(self.chance),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class StyledClip:
    """A clip that was asked to be of a style; `vector` in the space that is judged in."""

    style_id: str
    vector: Vector
    usable: bool


def coverage_by_text(clips: Sequence[StyledClip], texts: Mapping[str, Vector]) -> StyleCoverage:
    """Judge by the rank of the own style's description among `texts` (unit vectors by style)."""
    names = sorted(texts)
    if len(names) < 2:
        return _unknown(clips, "there is only one style description to choose from")
    matrix = np.stack([texts[name] for name in names])
    limit = max(1, math.ceil(len(names) / _NEAREST_SHARE))

    def recognised(clip: StyledClip) -> bool | None:
        if clip.style_id not in texts:
            return None
        likeness = matrix @ clip.vector
        rank = int(np.sum(likeness > likeness[names.index(clip.style_id)]))
        return rank < limit

    styles = _styles(clips, recognised)
    missing = [style for style, value in styles.items() if value is None]
    reason = f"there is no description of {', '.join(missing)}" if missing else None
    return StyleCoverage(styles, "clap retrieval", reason, chance=limit / len(names))


def coverage_by_tracks(
    clips: Sequence[StyledClip], tracks: Sequence[tuple[Vector, Sequence[str]]]
) -> StyleCoverage:
    """Judge by the nearest centre of real tracks; each of `tracks` is a vector and its styles."""
    known = sorted({style for _, styles in tracks for style in styles})
    if len(known) < 2:
        found = f"only {known[0]}" if known else "none"
        return _unknown(
            clips, f"the real tracks would have to be of two styles at least, and {found} is named"
        )
    scale = np.stack([vector for vector, _ in tracks]).std(axis=0)
    scale[scale < 1e-9] = 1.0
    scaled = [(vector / scale, frozenset(styles)) for vector, styles in tracks]
    accuracy, chance = _real_accuracy(scaled, known)
    if accuracy is None:
        return _unknown(clips, "no style has two real tracks, so the rule cannot be tested")
    if (accuracy - chance) / max(1 - chance, 1e-9) < _MIN_SKILL:
        reason = (
            f"the styles of the real tracks themselves cannot be told apart ({accuracy:.0%} right, "
            f"guessing gives {chance:.0%})"
        )
        return _unknown(clips, reason, accuracy, chance)
    centres = _centres(scaled, known)

    def recognised(clip: StyledClip) -> bool | None:
        if clip.style_id not in centres:
            return None
        return _nearest(clip.vector / scale, centres) == clip.style_id

    styles = _styles(clips, recognised)
    missing = [style for style, value in styles.items() if value is None]
    gap = _gap(missing) if missing else None
    return StyleCoverage(styles, "nearest style centre", gap, accuracy, chance)


def _gap(missing: Sequence[str]) -> str:
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"there are no real tracks of {', '.join(missing[:_NAMED])}{more}"


def _styles(clips: Sequence[StyledClip], recognised: Any) -> dict[str, bool | None]:
    """A style is covered by any clip of it; silence and clipping are False without a judge."""
    styles: dict[str, bool | None] = {}
    for clip in clips:
        verdict = recognised(clip) if clip.usable else False
        before = styles.get(clip.style_id)
        styles[clip.style_id] = (
            True if before or verdict else (before if verdict is None else False)
        )
    return dict(sorted(styles.items()))


def _unknown(
    clips: Sequence[StyledClip],
    reason: str,
    accuracy: float | None = None,
    chance: float | None = None,
) -> StyleCoverage:
    return StyleCoverage(_styles(clips, lambda _: None), "none", reason, accuracy, chance)


def _centres(
    tracks: Sequence[tuple[Vector, frozenset[str]]], known: Sequence[str]
) -> dict[str, Vector]:
    groups = {style: [vector for vector, styles in tracks if style in styles] for style in known}
    return {style: np.mean(vectors, axis=0) for style, vectors in groups.items() if vectors}


def _nearest(vector: Vector, centres: Mapping[str, Vector]) -> str:
    return min(centres, key=lambda style: (float(np.linalg.norm(vector - centres[style])), style))


def _real_accuracy(
    tracks: Sequence[tuple[Vector, frozenset[str]]], known: Sequence[str]
) -> tuple[float | None, float]:
    """How often a track that is left out is nearest to a style of its own, and the same by luck."""
    right, lucky = [], []
    for index, (vector, styles) in enumerate(tracks):
        centres = _centres([*tracks[:index], *tracks[index + 1 :]], known)
        own = styles & centres.keys()
        if own and len(centres) > 1:
            right.append(_nearest(vector, centres) in own)
            lucky.append(len(own) / len(centres))
    if not right:
        return None, 0.0
    return float(np.mean(right)), float(np.mean(lucky))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
