"""Numbers → passed or not, with everything that a threshold needs to be read.

The contract's thresholds (Fréchet distance below 5, CLAP at least 0.7) were written for one
embedding and for scores that raw CLAP cosines never reach. Here they count in units of the real
validation tracks: how far these lie from each other, and how well they fit their own prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.frechet import Statistics, distance_to_windows

FAD_LIMIT = 5.0
CLAP_LIMIT = 0.7
STYLE_LIMIT = 1.0
USABLE_LIMIT = 1.0
_SPLITS = 16
_LEAST_SPREAD = 0.02  # cosine; own and foreign prompts this alike cannot be told apart

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Gate:
    """One threshold and what was held against it.

    Attributes:
        name: what is measured.
        raw: as measured; None when it was not.
        value: in the unit of the threshold: the raw value, calibrated.
        threshold: `value` must be below it ("lower") or at least it ("higher").
        n: how many windows or clips were measured.
        embedding: what it was measured in.
        passed: None when it cannot be told, for the reason in `note`.
        note: how it was calibrated, or why it was not.
    """

    name: str
    raw: float | None
    value: float | None
    threshold: float
    better: Better
    n: int
    embedding: str | None
    passed: bool | None
    note: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Measured:
    """What a gate is about: how many windows or clips, measured in which embedding."""

    n: int
    embedding: str | None = None


@dataclass(frozen=True)
class ClapAnchors:
    """Mean cosines of the real tracks: with their own prompts, and with each other's."""

    own: float
    foreign: float
    tracks: int


def fad_unit(tracks: Sequence[NDArray[np.float64]], seed: int = 0) -> float | None:
    """How far one half of the real tracks lies from the other: the median over random halves.

    None below two tracks: halves of one recording are too alike to be a measure of music.
    """
    usable = [track for track in tracks if len(track) > 1]
    if len(usable) < 2:
        return None
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(_SPLITS):
        order = generator.permutation(len(usable))
        half = len(usable) // 2
        first = np.concatenate([usable[i] for i in order[:half]])
        second = np.concatenate([usable[i] for i in order[half:]])
        values.append(distance_to_windows(Statistics.from_windows(first), second))
    return float(np.median(values)) or None


def clap_anchors(
    tracks: Mapping[str, NDArray[np.float64]],
    prompts: Mapping[str, str],
    text_of: Mapping[str, NDArray[np.float64]],
) -> ClapAnchors | None:
    """How real tracks (unit vectors) fit their own prompts and, on average, the others'.

    None when fewer than two different prompts are known.
    """
    names = sorted(tracks.keys() & prompts.keys())
    if len({prompts[name] for name in names}) < 2:
        return None
    own = [float(tracks[a] @ text_of[prompts[a]]) for a in names]
    foreign = [
        float(tracks[a] @ text_of[prompts[b]])
        for a in names
        for b in names
        if prompts[a] != prompts[b]
    ]
    return ClapAnchors(float(np.mean(own)), float(np.mean(foreign)), len(names))


def fad_gate(raw: float, unit: float | None, measured: Measured) -> Gate:
    """Below 5 times the distance between halves of the real tracks."""
    if unit is None:
        note = "not calibrated: there must be two real tracks at least, that are not all alike"
        return _gate("fad", raw, None, FAD_LIMIT, "lower", measured, note)
    note = f"in units of the distance between halves of the real tracks, {unit:.4g}"
    return _gate("fad", raw, raw / unit, FAD_LIMIT, "lower", measured, note)


def clap_gate(
    raw: float | None, anchors: ClapAnchors | None, measured: Measured, reason: str | None
) -> Gate:
    """At least 0.7 of the way from foreign prompts to the real tracks' own."""
    if raw is None:
        return _gate("clap", None, None, CLAP_LIMIT, "higher", measured, reason or "not measured")
    if anchors is None:
        note = "not calibrated: the real tracks have no prompts of their own, or all the same"
        return _gate("clap", raw, None, CLAP_LIMIT, "higher", measured, note)
    spread = anchors.own - anchors.foreign
    told = f"own prompts {anchors.own:.3f}, foreign {anchors.foreign:.3f}, {anchors.tracks} tracks"
    if spread < _LEAST_SPREAD:
        note = f"not calibrated: real tracks fit foreign prompts as well as their own ({told})"
        return _gate("clap", raw, None, CLAP_LIMIT, "higher", measured, note)
    value = (raw - anchors.foreign) / spread
    note = f"0 is how real tracks fit foreign prompts, 1 how they fit their own ({told})"
    return _gate("clap", raw, value, CLAP_LIMIT, "higher", measured, note)


def share_gate(
    name: str, passed: int, measured: Measured, limit: float, note: str, *, of: str = "clips"
) -> Gate:
    """A share of clips or styles that must reach `limit`; nothing to judge is None."""
    if not measured.n:
        return _gate(name, None, None, limit, "higher", measured, note)
    share = passed / measured.n
    told = f"{passed} of {measured.n} {of}" + (f"; {note}" if note else "")
    return _gate(name, share, share, limit, "higher", measured, told)


def _gate(
    name: str,
    raw: float | None,
    value: float | None,
    threshold: float,
    better: Better,
    measured: Measured,
    note: str,
) -> Gate:
    passed = None
    if value is not None:
        passed = value < threshold if better == "lower" else value >= threshold
    return Gate(name, raw, value, threshold, better, measured.n, measured.embedding, passed, note)


def relative_gate(
    name: str,
    value: float,
    baseline: float,
    *,
    better: Better,
    tolerance: float,
    floor: float,
    measured: Measured,
) -> Gate:
    """Not worse than `baseline` by more than `tolerance`; better never fails.

    Args:
        tolerance: share of the baseline's size, e.g. 0.05.
        floor: what is allowed in any case, in the unit of the value: a share of a tiny baseline
            would fail on noise.
    """
    room = max(tolerance * abs(baseline), floor)
    limit = baseline + room if better == "lower" else baseline - room
    passed = value <= limit if better == "lower" else value >= limit
    note = f"baseline {baseline:.4g}, worse by at most {room:.4g} ({tolerance:.0%}, or {floor:g})"
    return Gate(
        name, value, value, limit, better, measured.n, measured.embedding, bool(passed), note
    )
