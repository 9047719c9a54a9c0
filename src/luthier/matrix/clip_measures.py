"""One clip of a cell → what is heard in it, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import read_audio
from luthier.audio.key import estimate_key
from luthier.audio.measure import measure
from luthier.audio.tempo import estimate_tempo
from luthier.matrix.compare_audio import compare_layer, compare_outside
from luthier.matrix.grid import LAYERS, Cell, crossfade_s
from luthier.matrix.onsets import find_onsets, fit_grid
from luthier.music.evaluation.adherence import check_key, check_tempo
from luthier.music.evaluation.edits import check_edit

Floats = NDArray[np.float32]
_OCTAVES = {"same": 1.0, "half": 0.5, "double": 2.0}
_SILENT_DB = -60.0
_LEVELS = (
    *("duration_s", "sample_rate", "channels", "loudness_lufs", "peak_db", "true_peak_db"),
    *("rms_db", "silence_ratio", "clipping_ratio", "dc_offset"),
)


def listen(
    path: Path, cell: Cell, source: Path | None, window_s: tuple[float, float]
) -> dict[str, Any]:
    """Measure one piece of `cell`.

    Args:
        path: the piece.
        source: the recording that it was made of; None for text2music.
        window_s: of a repaint.

    Returns:
        levels, tempo, key and grid; `edit` and `outside` of a repaint; `layer` of a lego, extract
        or complete.

    Raises:
        AudioError: the file is damaged, or holds values that are no numbers.
    """
    samples, rate = read_audio(path)
    tempo = _tempo(path.name, cell, samples, rate)
    heard = {
        "levels": _levels(samples, rate),
        "tempo": tempo,
        "key": _key(path.name, cell, samples, rate),
        "grid": _grid(samples, rate, cell.bpm, tempo),
    }
    if source is None:
        return heard
    original, original_rate = read_audio(source)
    if cell.job.task == "repaint":
        return heard | _repaint(original, original_rate, samples, rate, window_s)
    if cell.job.task in LAYERS:
        context, _ = read_audio(source, sample_rate=rate)
        heard["layer"] = compare_layer(context, samples, rate, cell.bpm).to_json()
    return heard


def _levels(samples: Floats, rate: int) -> dict[str, Any]:
    found = asdict(measure(samples, rate))
    levels = {name: found[name] for name in _LEVELS}
    return levels | {"silent": found["rms_db"] < _SILENT_DB}


def _tempo(name: str, cell: Cell, samples: Floats, rate: int) -> dict[str, Any]:
    """Found and asked; `error_percent` is that of the octave it was met at, else of the tempo."""
    check = asdict(check_tempo(name, cell.bpm, estimate_tempo(samples, rate)))
    check.pop("file")
    wanted = cell.bpm * _OCTAVES.get(str(check["octave"]), 1.0)
    heard = check["measured_bpm"]
    check["error_percent"] = round(100 * (heard / wanted - 1), 2) if heard else None
    return check


def _key(name: str, cell: Cell, samples: Floats, rate: int) -> dict[str, Any]:
    check = asdict(check_key(name, cell.key, estimate_key(samples, rate)))
    check.pop("file")
    return check


def _grid(samples: Floats, rate: int, bpm: int, tempo: Mapping[str, Any]) -> dict[str, Any] | None:
    """On the grid of the tempo asked for; `steady_share`, on that of the tempo heard, tells a clip
    that drifts off the grid from one that has none.
    """
    onsets = find_onsets(samples, rate)
    fit = fit_grid(onsets, bpm)
    if fit is None:
        return None
    octave = _OCTAVES.get(str(tempo["octave"]))
    own = fit_grid(onsets, tempo["measured_bpm"] / octave) if octave else None
    return fit.to_json() | {"steady_share": own.near_share if own else None}


def _repaint(
    source: Floats, source_rate: int, edited: Floats, rate: int, window_s: tuple[float, float]
) -> dict[str, Any]:
    if source_rate != rate:
        why = f"the source has {source_rate} Hz, the result {rate} Hz"
        return {"edit": None, "outside": None, "not_compared": why}
    outside = compare_outside(source, edited, rate, window_s, crossfade_s())
    return {
        "edit": check_edit(source, edited, rate, *window_s).to_json(),
        "outside": outside and outside.to_json(),
    }
