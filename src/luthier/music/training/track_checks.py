"""The tracks of a data set before they are trained on: which would be skipped, which labels look
wrong, which may not be used at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import read_audio
from luthier.audio.key import estimate_key
from luthier.audio.keynames import parse_key
from luthier.audio.tempo import estimate_tempo
from luthier.errors import AudioError, LicenceError, LuthierError, PathError
from luthier.files import sha256_of
from luthier.music.training.training_pairs import bpm_of, prompts_of, variants_of
from luthier.progress import Display

_TEMPO_TOLERANCE = 0.05
_FOLDS = (1 / 3, 1 / 2, 2 / 3, 1.0, 3 / 2, 2.0, 3.0)  # tempos that are the same pulse
_DURATION_TOLERANCE_S = 1.0
_SHORTEST_S = 0.5
_CONFIDENT = 0.3  # of the tempo estimate; below, it says nothing about the label
_CONFIDENT_KEY = 0.6  # the same of the key's, which is a probability


@dataclass(frozen=True)
class TrackReport:
    """What was found about one track."""

    key: str
    seconds: float
    skipped: str = ""  # why it would be left out
    warnings: tuple[str, ...] = ()


def refuse_unlicensed(rows: Sequence[Mapping[str, Any]], licences: Sequence[str]) -> None:
    """Raise `LicenceError` when a track has no source record, or the data set names no licence."""
    without = [str(row["keys"]) for row in rows if not row.get("source_id")]
    if without or (rows and not licences):
        named = ", ".join(without[:10]) or "all of them"
        more = f" and {len(without) - 10} more" if len(without) > 10 else ""
        raise LicenceError(
            f"{len(without) or len(rows)} tracks have no record of a source that allows AI "
            f"training: {named}{more}. Add it to sources.json and build the data set again."
        )


def inspect_tracks(
    rows: Sequence[Mapping[str, Any]], tasks: Sequence[str], crop_s: float, display: Display
) -> list[TrackReport]:
    """Read every track as training would, and compare its labels with what is heard."""
    reports = []
    with display.task("check tracks", len(rows)) as task:
        for row in rows:
            reports.append(_inspect(row, tasks, crop_s))
            task.advance(note=row["keys"])
    return reports


def _inspect(row: Mapping[str, Any], tasks: Sequence[str], crop_s: float) -> TrackReport:
    key, path = row["keys"], Path(row["filename"])
    try:
        planned = variants_of(row, tasks)
        files = {file for p in planned for s in (p.target, p.source) if s for file in s.files}
        missing = [str(file) for file in sorted(files) if not file.is_file()]
        if missing:
            return TrackReport(key, 0.0, f"{missing[0]} is gone.")
        if sha256_of(path) != row["sha256"]:
            return TrackReport(key, 0.0, f"{path} has changed since the data set was built.")
        prompts_of(row, crop_s)
        samples, rate = read_audio(path)
    except (AudioError, PathError) as error:
        return TrackReport(key, 0.0, str(error))
    except LuthierError as error:
        return TrackReport(key, 0.0, f"its labels are not valid: {error}")
    seconds = samples.shape[1] / rate
    if seconds < _SHORTEST_S:
        return TrackReport(key, seconds, f"it is too short: {seconds:.2f} s.")
    found = (_tempo_doubt(row, samples, rate), _key_doubt(row, samples, rate))
    doubts = (*found, _length_doubt(row, seconds))
    return TrackReport(key, seconds, "", tuple(doubt for doubt in doubts if doubt))


def _tempo_doubt(row: Mapping[str, Any], samples: NDArray[np.float32], rate: int) -> str:
    said = bpm_of(row)
    if not said:
        return ""
    heard = estimate_tempo(samples, rate)
    if not heard.bpm or heard.confidence < _CONFIDENT:
        return ""
    nearest = min(abs(said / (heard.bpm * fold) - 1) for fold in _FOLDS)
    is_near = nearest <= _TEMPO_TOLERANCE
    return "" if is_near else f"labelled {said:g} bpm, heard {heard.bpm:.1f} bpm"


def _key_doubt(row: Mapping[str, Any], samples: NDArray[np.float32], rate: int) -> str:
    if not row.get("keyscale"):
        return ""
    said, heard = parse_key(row["keyscale"]), estimate_key(samples, rate)
    # The relative key has the same notes: which of the two it is can be a matter of opinion.
    is_near = heard.same_as(said) or heard.same_as(said.relative)
    if is_near or heard.confidence < _CONFIDENT_KEY:
        return ""
    return f"labelled {said.name}, heard {heard.name}"


def _length_doubt(row: Mapping[str, Any], seconds: float) -> str:
    labelled = row.get("duration")
    if labelled and abs(labelled - seconds) > _DURATION_TOLERANCE_S:
        return f"labelled {labelled:.1f} s long, found {seconds:.1f} s"
    return ""
