"""What was asked for and what is heard → whether tempo and key were met, with the raw values.

Tempo is met within 4 %, at half or at double tempo too (the rule of the MIREX tempo tasks without
their triple metres): where the beat is felt is a matter of taste. A key is met when tonic and mode
agree; near misses are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from luthier.audio.keynames import Key, parse_key
from luthier.audio.tempo import Tempo

TEMPO_TOLERANCE = 0.04

Octave = Literal["same", "half", "double"]
Relation = Literal["same", "relative", "parallel", "fifth", "other"]
_OCTAVES: dict[Octave, float] = {"same": 1.0, "half": 0.5, "double": 2.0}


@dataclass(frozen=True)
class TempoCheck:
    """One clip's tempo.

    Attributes:
        file: the clip.
        requested_bpm: asked for.
        measured_bpm: estimated; 0 when nothing pulses.
        confidence: the estimator's, 0..1.
        octave: at which multiple of the request it was met; None when it was missed.
        passed: whether it was met.
    """

    file: str
    requested_bpm: float
    measured_bpm: float
    confidence: float
    octave: Octave | None
    passed: bool


@dataclass(frozen=True)
class KeyCheck:
    """One clip's key.

    Attributes:
        file: the clip.
        requested, measured: key names.
        confidence: the estimator's, 0..1.
        relation: how the measured key stands to the requested one.
        passed: whether tonic and mode agree.
    """

    file: str
    requested: str
    measured: str
    confidence: float
    relation: Relation
    passed: bool


@dataclass(frozen=True)
class Adherence:
    """How often something that was asked for was met."""

    checks: tuple[TempoCheck | KeyCheck, ...]

    @property
    def passed(self) -> int:
        """Number of clips that met it."""
        return sum(check.passed for check in self.checks)

    @property
    def ratio(self) -> float:
        """Share of clips that met it."""
        return self.passed / len(self.checks)

    def to_json(self) -> dict[str, Any]:
        """Ratio, N, how the clips fall, and every raw value."""
        how = Counter(
            (c.octave or "missed") if isinstance(c, TempoCheck) else c.relation for c in self.checks
        )
        return {
            "ratio": round(self.ratio, 4),
            "passed": self.passed,
            "n": len(self.checks),
            "counts": dict(sorted(how.items())),
            "checks": [asdict(check) for check in self.checks],
        }


def adherence(checks: Sequence[TempoCheck | KeyCheck]) -> Adherence | None:
    """The summary of `checks`, or None when nothing was asked for."""
    return Adherence(tuple(checks)) if checks else None


def tempo_octave(requested_bpm: float, measured_bpm: float) -> Octave | None:
    """At which octave `measured_bpm` meets `requested_bpm` within 4 %, or None."""
    for octave, factor in _OCTAVES.items():
        wanted = requested_bpm * factor
        if abs(measured_bpm - wanted) <= TEMPO_TOLERANCE * wanted:
            return octave
    return None


def check_tempo(file: str, requested_bpm: float, tempo: Tempo) -> TempoCheck:
    """Compare a clip's estimated tempo with the one asked for."""
    octave = tempo_octave(requested_bpm, tempo.bpm)
    return TempoCheck(
        file=file,
        requested_bpm=requested_bpm,
        measured_bpm=round(tempo.bpm, 2),
        confidence=round(tempo.confidence, 3),
        octave=octave,
        passed=octave is not None,
    )


def key_relation(requested: Key, measured: Key) -> Relation:
    """How `measured` stands to `requested`; "fifth" is the same mode a fifth above or below."""
    if measured.same_as(requested):
        return "same"
    if measured.same_as(requested.relative):
        return "relative"
    if measured.tonic == requested.tonic:
        return "parallel"
    near = (measured.tonic - requested.tonic) % 12 in (5, 7)
    return "fifth" if near and measured.mode == requested.mode else "other"


def check_key(file: str, requested: str, key: Key) -> KeyCheck:
    """Compare a clip's estimated key with the one asked for; `RequestError` for no key name."""
    wanted = parse_key(requested)
    relation = key_relation(wanted, key)
    return KeyCheck(
        file=file,
        requested=wanted.name,
        measured=key.name,
        confidence=round(key.confidence, 3),
        relation=relation,
        passed=relation == "same",
    )
