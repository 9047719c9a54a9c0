"""What an evaluation found: the numbers, as JSON for programs and as a table for people."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from luthier.evaluation.frechet import FadResult
from luthier.evaluation.gates import ClapAnchors, Gate
from luthier.evaluation.outliers import TrackDistance
from luthier.music.evaluation.adherence import Adherence
from luthier.music.evaluation.clip_measures import Heard
from luthier.music.evaluation.coverage import StyleCoverage


@dataclass(frozen=True)
class ClapResult:
    """How well the clips fit their prompts.

    Attributes:
        score: mean cosine of clips and their prompts; None where there is none.
        model: the CLAP model with the hash of its weights.
        n: clips with a prompt.
        anchors: the same of the real tracks, with own and foreign prompts.
        reason: why there is no score.
    """

    score: float | None
    model: str | None = None
    n: int = 0
    anchors: ClapAnchors | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one set of clips.

    Attributes:
        checkpoint: what made the clips: a checkpoint's name, else the folder's.
        fad: distance to the reference tracks.
        tempo, key: adherence; None when no clip's request names one.
        clips: every clip's own measures.
        reference_tracks: number of real tracks.
        clap: how well the clips fit their prompts.
        coverage: which styles are recognised.
        gates: thresholds that are passed or not.
        distances: every clip's own distance to the real tracks, the furthest first.
        real_distances: the same of each real track to the others.
        real_repetition: the real tracks' median repetition.
    """

    checkpoint: str
    fad: FadResult
    tempo: Adherence | None
    key: Adherence | None
    clips: tuple[Heard, ...]
    reference_tracks: int
    clap: ClapResult
    coverage: StyleCoverage
    gates: tuple[Gate, ...]
    distances: tuple[TrackDistance, ...]
    real_distances: tuple[TrackDistance, ...]
    real_repetition: float

    @property
    def loudness_lufs(self) -> float | None:
        """Median integrated loudness; None when every clip is silent."""
        known = [c.measures.loudness_lufs for c in self.clips]
        heard = [value for value in known if value is not None]
        return round(statistics.median(heard), 2) if heard else None

    @property
    def clipping_ratio(self) -> float:
        """The worst clip's share of clipped samples."""
        return max(c.measures.clipping_ratio for c in self.clips)

    @property
    def silence_ratio(self) -> float:
        """Mean share of silence."""
        return round(statistics.fmean(c.measures.silence_ratio for c in self.clips), 4)

    @property
    def repetition(self) -> float:
        """Median repetition of the clips."""
        return round(statistics.median(c.repetition.score for c in self.clips), 4)

    @property
    def style_coverage(self) -> dict[str, bool | None]:
        """For every style asked for, whether a clip of it is recognised; None: cannot be told."""
        return self.coverage.styles

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that were not passed."""
        return tuple(gate for gate in self.gates if gate.passed is False)

    def to_json(self) -> dict[str, Any]:
        """The checkpoint validator's keys (`checkpoint` to `samples_generated`), then ours."""
        return {
            "checkpoint": self.checkpoint,
            "fad_score": round(self.fad.value, 6),
            "clap_score": None if self.clap.score is None else round(self.clap.score, 6),
            "style_coverage": self.style_coverage,
            "samples_generated": len(self.clips),
            "reference_tracks": self.reference_tracks,
            "fad": self.fad.to_json(),
            "clap": asdict(self.clap),
            "styles": self.coverage.to_json(),
            "gates": [gate.to_json() for gate in self.gates],
            "tempo": self.tempo.to_json() if self.tempo else None,
            "key": self.key.to_json() if self.key else None,
            "loudness_lufs": self.loudness_lufs,
            "clipping_ratio": self.clipping_ratio,
            "silence_ratio": self.silence_ratio,
            "repetition": {"clips": self.repetition, "real": round(self.real_repetition, 4)},
            "edits": [{"file": c.file} | c.edit.to_json() for c in self.clips if c.edit],
            "outliers": [t.file for t in self.distances if t.outlier],
            "real_outliers": [t.file for t in self.real_distances if t.outlier],
            "clips": [self._clip(clip) for clip in self.clips],
        }

    def _clip(self, clip: Heard) -> dict[str, Any]:
        distance = next(t.distance for t in self.distances if t.file == clip.file)
        return clip.to_json() | {"distance": round(distance, 4)}

    def to_text(self) -> str:
        """A table for people."""
        head = f"{self.checkpoint}: {len(self.clips)} clips against {self.reference_tracks} tracks"
        lines = [f"  {a:<10} {b:>12}   {c}".rstrip() for a, b, c in self._rows()]
        lines += [gate_line(gate) for gate in self.gates]
        notes = [self.fad.warning, self._outlier_note()]
        return "\n".join([head, *lines, *(f"  note: {note}" for note in notes if note)])

    def _rows(self) -> list[tuple[str, str, str]]:
        fad = self.fad
        windows = f"{fad.embedding}, {fad.n_candidate} against {fad.n_reference} windows"
        if fad.interval:
            windows += f", 95 % {fad.interval[0]:.3f} to {fad.interval[1]:.3f}"
        rows = [("FAD", f"{fad.value:.3f}", f"{windows}; lower is nearer to the reference")]
        if fad.infinite is not None:
            note = f"extrapolated to endlessly many windows, r² {fad.infinite_r2:.2f}"
            rows.append(("FAD∞", f"{fad.infinite:.3f}", note))
        measured = self.coverage.measured
        share = f"{sum(measured)}/{len(measured)}" if measured else "not told"
        clap = "none" if self.clap.score is None else f"{self.clap.score:.3f}"
        return [
            *rows,
            ("CLAP", clap, self.clap.reason or f"{self.clap.model}, {self.clap.n} clips"),
            ("styles", share, self.coverage.reason or f"by {self.coverage.method}"),
            ("tempo met", _share(self.tempo), "within 4 %, half and double count"),
            ("key met", _share(self.key), "tonic and mode"),
            ("loudness", _unit(self.loudness_lufs, "LUFS"), "median"),
            ("clipping", f"{self.clipping_ratio:.3%}", "worst clip"),
            ("silence", f"{self.silence_ratio:.1%}", "mean"),
            ("repetition", f"{self.repetition:.2f}", f"real tracks {self.real_repetition:.2f}"),
        ]

    def _outlier_note(self) -> str | None:
        apart = [t.file for t in self.distances if t.outlier]
        return f"far from the other clips: {', '.join(apart)}" if apart else None


def gate_line(gate: Gate) -> str:
    """A gate as a line of the table."""
    mark = {True: "passed", False: "FAILED", None: "open  "}[gate.passed]
    if gate.value is None:
        return f"  {mark} {gate.name}: {gate.note}"
    word = "below" if gate.better == "lower" else "at least"
    wanted = f"{word} {gate.threshold:.3g} is wanted"
    return f"  {mark} {gate.name}: {gate.value:.3g}, {wanted}; {gate.note}"


def _share(result: Adherence | None) -> str:
    return "not asked" if result is None else f"{result.passed}/{len(result.checks)}"


def _unit(value: float | None, unit: str) -> str:
    return "silent" if value is None else f"{value:.1f} {unit}"
