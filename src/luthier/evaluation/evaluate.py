"""A folder of generated clips and one of real tracks → numbers, as JSON and as a table.

    luthier evaluate samples/ --reference dataset/validation/

The same folders give the same numbers, whatever the order of files on disk.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.audio.decode import read_audio
from luthier.evaluation.adherence import Adherence, adherence
from luthier.evaluation.embedding import DEFAULT_EMBEDDING, get_embedding
from luthier.evaluation.frechet import FadResult, fad
from luthier.evaluation.listen import Heard, audio_files, listen
from luthier.evaluation.requests import parse_requests, recorded_requests
from luthier.files import write_json
from luthier.progress import SILENT, Display
from luthier.provenance import write_run

CLAP_REASON = (
    "no CLAP score: it needs the weights of a CLAP model, which luthier does not ship or download."
)


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one set of clips.

    Attributes:
        checkpoint: what made the clips: a checkpoint's name, else the folder's.
        fad: distance to the reference tracks.
        tempo, key: adherence; None when no clip's request names one.
        clips: every clip's own measures.
        reference_tracks: number of real tracks.
    """

    checkpoint: str
    fad: FadResult
    tempo: Adherence | None
    key: Adherence | None
    clips: tuple[Heard, ...]
    reference_tracks: int

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
    def style_coverage(self) -> dict[str, bool]:
        """For every style asked for, whether a clip of it holds sound (see `Heard.usable`)."""
        covered: dict[str, bool] = {}
        for clip in self.clips:
            if clip.style_id:
                covered[clip.style_id] = covered.get(clip.style_id, False) or clip.usable
        return dict(sorted(covered.items()))

    def to_json(self) -> dict[str, Any]:
        """The checkpoint validator's keys (`checkpoint` to `samples_generated`), then ours."""
        return {
            "checkpoint": self.checkpoint,
            "fad_score": round(self.fad.value, 6),
            "clap_score": None,
            "clap_reason": CLAP_REASON,
            "style_coverage": self.style_coverage,
            "samples_generated": len(self.clips),
            "reference_tracks": self.reference_tracks,
            "fad": self.fad.to_json(),
            "tempo": self.tempo.to_json() if self.tempo else None,
            "key": self.key.to_json() if self.key else None,
            "loudness_lufs": self.loudness_lufs,
            "clipping_ratio": self.clipping_ratio,
            "silence_ratio": self.silence_ratio,
            "clips": [clip.to_json() for clip in self.clips],
        }

    def to_text(self) -> str:
        """A table for people."""
        fad = self.fad
        rows = [
            ("FAD", f"{fad.value:.3f}", f"{fad.embedding}, {fad.n_candidate} against "
             f"{fad.n_reference} windows; lower is nearer to the reference"),
            ("tempo met", _share(self.tempo), "within 4 %, half and double count"),
            ("key met", _share(self.key), "tonic and mode"),
            ("loudness", _unit(self.loudness_lufs, "LUFS"), "median"),
            ("clipping", f"{self.clipping_ratio:.3%}", "worst clip"),
            ("silence", f"{self.silence_ratio:.1%}", "mean"),
        ]  # fmt: skip
        if fad.infinite is not None:
            note = f"extrapolated to endlessly many windows, r² {fad.infinite_r2:.2f}"
            rows.insert(1, ("FAD∞", f"{fad.infinite:.3f}", note))
        head = f"{self.checkpoint}: {len(self.clips)} clips against {self.reference_tracks} tracks"
        return "\n".join([head, *(f"  {a:<10} {b:>12}   {c}".rstrip() for a, b, c in rows)])


def _share(result: Adherence | None) -> str:
    return "not asked" if result is None else f"{result.passed}/{len(result.checks)}"


def _unit(value: float | None, unit: str) -> str:
    return "silent" if value is None else f"{value:.1f} {unit}"


def evaluate_folder(
    candidate_dir: Path,
    reference_dir: Path,
    *,
    requests: Sequence[Mapping[str, Any]] | None = None,
    embedding: str = DEFAULT_EMBEDDING,
    checkpoint: str | None = None,
    out: Path | None = None,
    display: Display = SILENT,
) -> Evaluation:
    """Measure the clips under `candidate_dir` against the real tracks under `reference_dir`.

    Args:
        candidate_dir: generated audio.
        reference_dir: held-out real audio.
        requests: what was asked of the clips (`file`, `bpm`, `key`, `style_id`); None takes it from
            the records that `generate` left beside them.
        embedding: the space FAD is measured in.
        checkpoint: the name to report; None takes the folder's.
        out: where to write the evaluation as JSON, with its `run.json`; None writes nothing.
        display: shows progress.

    Raises:
        PathError: a folder is missing or has no audio.
        AudioError: a file cannot be decoded, or there is too little audio.
        RequestError: an unknown embedding, or a request about a clip that is not there.
    """
    space = get_embedding(embedding)
    names = audio_files(candidate_dir, "folder of generated clips")
    tracks = audio_files(reference_dir, "reference folder")
    rows = recorded_requests(candidate_dir, names) if requests is None else requests
    asked = parse_requests(rows, names)
    reference, clips = [], []
    with display.task("evaluate", len(names) + len(tracks)) as task:
        for name in tracks:
            reference.append(space.embed(*read_audio(reference_dir / name)))
            task.advance(note=name)
        for name in names:
            clips.append(listen(candidate_dir, name, space, asked.get(name)))
            task.advance(note=name)
    result = Evaluation(
        checkpoint=checkpoint or candidate_dir.resolve().name,
        fad=fad(
            np.concatenate(reference),
            np.concatenate([clip.windows for clip in clips]),
            embedding=space.name,
        ),
        tempo=adherence([clip.tempo for clip in clips if clip.tempo]),
        key=adherence([clip.key for clip in clips if clip.key]),
        clips=tuple(clips),
        reference_tracks=len(tracks),
    )
    if out is not None:
        write_json(out, result.to_json())
        write_run(
            out,
            stage="evaluate",
            inputs=[candidate_dir, reference_dir],
            config={"embedding": embedding, "requests": [r.model_dump() for r in asked.values()]},
        )
    return result
