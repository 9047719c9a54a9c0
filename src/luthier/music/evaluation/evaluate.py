"""A folder of generated clips and a validation set → numbers.

    luthier evaluate samples/ --reference dataset/validation/

The same folders give the same numbers, whatever the order of files on disk.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import MissingExtraError, ModelError
from luthier.evaluation.bootstrap import fad_interval
from luthier.evaluation.cache import MeasureCache, default_folder
from luthier.evaluation.clap import Clap, clip_vector, likeness
from luthier.evaluation.embedding import DEFAULT_EMBEDDING, get_embedding
from luthier.evaluation.frechet import Statistics, fad
from luthier.evaluation.gates import (
    STYLE_LIMIT,
    USABLE_LIMIT,
    Gate,
    Measured,
    clap_anchors,
    clap_gate,
    fad_gate,
    fad_unit,
    share_gate,
)
from luthier.evaluation.outliers import TrackDistance, track_distances
from luthier.files import write_json
from luthier.music.dataset.captions import build_caption
from luthier.music.dataset.styles import load_presets
from luthier.music.evaluation.adherence import adherence
from luthier.music.evaluation.clip_measures import (
    Ears,
    Heard,
    HeardTrack,
    audio_files,
    listen,
    listen_to_real,
)
from luthier.music.evaluation.coverage import (
    StyleCoverage,
    StyledClip,
    coverage_by_text,
    coverage_by_tracks,
)
from luthier.music.evaluation.reference import RealTrack, real_tracks
from luthier.music.evaluation.requests import parse_requests, recorded_requests
from luthier.music.evaluation.result import ClapResult, Evaluation
from luthier.progress import SILENT, Display
from luthier.provenance import write_run

__all__ = ["EvaluateOptions", "Evaluation", "evaluate_folder"]

Vectors = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class OpenedEars:
    """What audio is listened to with, and why there is no CLAP in it."""

    ears: Ears
    clap_reason: str | None


@dataclass(frozen=True)
class EvaluateOptions:
    """How to evaluate, where the defaults do not fit.

    Attributes:
        clap: a CLAP model's folder or hub name, which must be there; None takes what is there.
        cache_dir: for what was measured on real tracks; None keeps nothing.
        presets: style presets; None takes luthier's own.
        seed: of random subsets and draws.
        files: measure only these clips; None measures all that are there.
        opened: from `open_ears`, for several evaluations in a row; None opens anew.
    """

    clap: str | None = None
    cache_dir: Path | None = field(default_factory=default_folder)
    presets: Path | None = None
    seed: int = 0
    files: tuple[str, ...] | None = None
    opened: OpenedEars | None = None


def evaluate_folder(
    candidate_dir: Path,
    reference_dir: Path,
    *,
    requests: Sequence[Mapping[str, Any]] | None = None,
    embedding: str = DEFAULT_EMBEDDING,
    checkpoint: str | None = None,
    out: Path | None = None,
    display: Display = SILENT,
    options: EvaluateOptions | None = None,
) -> Evaluation:
    """Measure the clips under `candidate_dir` against the real tracks of `reference_dir`.

    Args:
        candidate_dir: generated audio.
        reference_dir: held-out real audio: a folder, or a data set with a validation part.
        requests: what was asked of the clips (the fields of `ClipRequest`); None takes it from the
            records that `generate` left beside them.
        embedding: the space FAD is measured in.
        checkpoint: the name to report; None takes the folder's.
        out: where to write the evaluation as JSON, with its `run.json`; None writes nothing.
        display: shows progress.
        options: see there.

    Raises:
        PathError: a folder is missing or has no audio.
        AudioError: a file cannot be decoded, or there is too little audio.
        RequestError: an unknown embedding, or a request about a clip that is not there.
        ModelError: the CLAP model that was named is not on this machine.
    """
    options = options or EvaluateOptions()
    opened = options.opened or open_ears(embedding, options)
    ears = opened.ears
    found = audio_files(candidate_dir, "folder of generated clips")
    names = found if options.files is None else [n for n in found if n in options.files]
    tracks = real_tracks(reference_dir)
    rows = recorded_requests(candidate_dir, names) if requests is None else requests
    asked = parse_requests(rows, names)
    real: dict[str, HeardTrack] = {}
    clips: list[Heard] = []
    with display.task("evaluate", len(names) + len(tracks)) as task:
        for track in tracks:
            real[track.file] = listen_to_real(track.path, ears)
            task.advance(note=track.file)
        for name in names:
            clips.append(listen(candidate_dir, name, ears, asked.get(name)))
            task.advance(note=name)
    result = _Evaluator(ears, options, tracks, real, clips, opened.clap_reason).evaluation(
        checkpoint or candidate_dir.resolve().name
    )
    if out is not None:
        write_json(out, result.to_json())
        write_run(
            out,
            stage="evaluate",
            inputs=[candidate_dir, reference_dir],
            config={
                "embedding": embedding,
                "requests": [r.model_dump(mode="json") for r in asked.values()],
            },
        )
    return result


def open_ears(embedding: str, options: EvaluateOptions) -> OpenedEars:
    """Load the embedding and, where there is one, the CLAP model.

    Raises:
        RequestError: an unknown embedding.
        ModelError, MissingExtraError: a model that was named cannot be had.
    """
    space, reason = get_embedding(embedding), None
    if isinstance(space, Clap) and options.clap is None:
        clap: Clap | None = space
    elif options.clap is not None:
        clap = Clap(options.clap)
    else:
        try:
            clap = Clap()
        except (ModelError, MissingExtraError) as error:
            clap, reason = None, f"no CLAP score: {error}"
    return OpenedEars(Ears(space, clap, MeasureCache(options.cache_dir)), reason)


@dataclass(frozen=True)
class _Evaluator:
    """Everything that was heard, on its way to an evaluation."""

    ears: Ears
    options: EvaluateOptions
    tracks: tuple[RealTrack, ...]
    real: dict[str, HeardTrack]
    clips: list[Heard]
    clap_reason: str | None

    def evaluation(self, name: str) -> Evaluation:
        """All measures of all clips."""
        seed, space = self.options.seed, self.ears.space
        windows = [track.windows for track in self.real.values()]
        reference = np.concatenate(windows)
        candidate = np.concatenate([clip.windows for clip in self.clips])
        distance = fad(reference, candidate, embedding=space.name, seed=seed)
        statistics_of = Statistics.from_windows(reference)
        interval = fad_interval(statistics_of, [clip.windows for clip in self.clips], seed=seed)
        clap = self._clap_result()
        coverage = self._coverage()
        measured = Measured(len(candidate), space.name)
        gates = (
            fad_gate(distance.value, fad_unit(windows, seed), measured),
            clap_gate(clap.score, clap.anchors, Measured(clap.n, clap.model), clap.reason),
            self._style_gate(coverage),
            share_gate(
                "usable",
                sum(clip.usable for clip in self.clips),
                Measured(len(self.clips)),
                USABLE_LIMIT,
                "at most half silent, at most 0.1 % clipped",
            ),
        )
        return Evaluation(
            checkpoint=name,
            fad=replace(distance, interval=interval),
            tempo=adherence([clip.tempo for clip in self.clips if clip.tempo]),
            key=adherence([clip.key for clip in self.clips if clip.key]),
            clips=tuple(self.clips),
            reference_tracks=len(self.tracks),
            clap=clap,
            coverage=coverage,
            gates=gates,
            distances=track_distances(statistics_of, {c.file: c.windows for c in self.clips}),
            real_distances=self._real_distances(),
            real_repetition=statistics.median(t.repetition for t in self.real.values()),
        )

    def _style_gate(self, coverage: StyleCoverage) -> Gate:
        measured = coverage.measured
        return share_gate(
            "styles",
            sum(measured),
            Measured(len(measured)),
            STYLE_LIMIT,
            coverage.reason or "",
            of="styles",
        )

    def _real_distances(self) -> tuple[TrackDistance, ...]:
        """Each real track against the others; one alone has none."""
        if len(self.real) < 2:
            return ()
        everything = Statistics.from_windows(
            np.concatenate([track.windows for track in self.real.values()])
        )
        return track_distances(everything, {n: t.windows for n, t in self.real.items()})

    def _clap_result(self) -> ClapResult:
        clap = self.ears.clap
        if clap is None:
            return ClapResult(None, reason=self.clap_reason)
        prompts = {clip.file: clip.prompt for clip in self.clips if clip.prompt}
        if not prompts:
            reason = "no CLAP score: no clip's request has a prompt."
            return ClapResult(None, clap.name, reason=reason)
        real_prompts = {track.file: track.prompt for track in self.tracks if track.prompt}
        texts = sorted({*prompts.values(), *real_prompts.values()})
        text_of = dict(zip(texts, clap.embed_texts(texts), strict=True))
        found = likeness(self._clap_vectors(), prompts, text_of)
        anchors = clap_anchors(_vectors(self.real), real_prompts, text_of)
        return ClapResult(statistics.fmean(found.values()), clap.name, len(found), anchors)

    def _clap_vectors(self) -> Vectors:
        return {
            clip.file: clip_vector(clip.clap_windows)
            for clip in self.clips
            if clip.clap_windows is not None
        }

    def _coverage(self) -> StyleCoverage:
        vectors, clap = self._clap_vectors(), self.ears.clap
        styled = [clip for clip in self.clips if clip.style_id]
        if clap is not None:
            presets = load_presets(self.options.presets)
            captions = {style: build_caption(preset) for style, preset in presets.items()}
            texts = dict(zip(captions, clap.embed_texts(list(captions.values())), strict=True))
            clips = [StyledClip(str(c.style_id), vectors[c.file], c.usable) for c in styled]
            return coverage_by_text(clips, texts)
        clips = [StyledClip(str(c.style_id), c.windows.mean(axis=0), c.usable) for c in styled]
        tracks = [(self.real[t.file].windows.mean(axis=0), t.style_ids) for t in self.tracks]
        return coverage_by_tracks(clips, tracks)


def _vectors(tracks: Mapping[str, HeardTrack]) -> Vectors:
    return {
        name: clip_vector(track.clap_windows)
        for name, track in tracks.items()
        if track.clap_windows is not None
    }
