"""Recorded cells → matrix.json, a table as CSV and Markdown, and the record of the folder."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from luthier.files import write_json, write_text
from luthier.matrix.grid import Grid
from luthier.matrix.recommend import RULES, recommended
from luthier.provenance import library_versions, write_run

JSON_NAME, PAGE_NAME = "matrix.json", "index.html"
_CSV_NAME, _MARKDOWN_NAME = "matrix.csv", "matrix.md"

# column → where it stands in a cell, or in one of its pieces
_OF_CELL = {
    "runtime_s": ("runtime", "wall_s"),
    "sound_s_per_s": ("runtime", "audio_s_per_s"),
    "load_s": ("runtime", "load_s"),
    "peak_bytes": ("memory", "peak_bytes"),
    "gpu_peak_bytes": ("memory", "gpu_peak_bytes"),
}
_OF_PIECE = {
    "tempo_found": ("tempo", "measured_bpm"),
    "tempo_error_percent": ("tempo", "error_percent"),
    "tempo_octave": ("tempo", "octave"),
    "key_found": ("key", "measured"),
    "key_relation": ("key", "relation"),
    "grid_median_ms": ("grid", "median_ms"),
    "grid_mean_ms": ("grid", "mean_ms"),
    "grid_near_share": ("grid", "near_share"),
    "grid_steady_share": ("grid", "steady_share"),
    "grid_chance_share": ("grid", "chance_share"),
    "first_beat_ms": ("grid", "phase_ms"),
    "outside_exact": ("outside", "exact"),
    "outside_largest_db": ("outside", "largest_db"),
    "layer_near_share": ("layer", "grid", "near_share"),
    "layer_lag_ms": ("layer", "grid", "lag_ms"),
    "layer_correlation": ("layer", "correlation"),
    "layer_likeness": ("layer", "likeness"),
    "layer_level_db": ("layer", "level_db"),
    "loudness_lufs": ("levels", "loudness_lufs"),
    "peak_db": ("levels", "peak_db"),
    "silence_ratio": ("levels", "silence_ratio"),
}
_AXES = ("model", "task", "bpm", "key", "duration_s", "seed", "steps", "batch", "state")


def collect(grid: Grid, rows: Sequence[Mapping[str, Any]], environment: Any) -> dict[str, Any]:
    """Everything that is known, as one JSON object.

    Args:
        rows: the recorded cells, in order.
        environment: the player's.
    """
    states = dict(sorted(Counter(str(row["state"]) for row in rows).items()))
    words = ["DIR" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["luthier", *words]),
        "environment": environment,
        "versions": library_versions(),
        "grid": grid.to_json(),
        "counts": {"cells": len(grid.cells()), "recorded": len(rows), **states},
        "rules": RULES,
        "recommended": recommended(rows, environment["machine"]),
        "cells": [dict(row) for row in rows],
    }


def write_result(folder: Path, result: Mapping[str, Any], models: Sequence[Path]) -> None:
    """Write what programs and people read, but for the page.

    Args:
        models: the folders that played, for the record; none over HTTP.
    """
    write_json(folder / JSON_NAME, dict(result))
    lines = flat(result["cells"])
    write_text(folder / _CSV_NAME, _csv(lines))
    write_text(folder / _MARKDOWN_NAME, _markdown(lines))
    write_run(folder, stage="matrix", inputs=models, config=result["grid"])


def flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each piece, and for each cell without one; what was not measured is None."""
    return [_line(row, piece) for row in rows for piece in row["pieces"] or [{}]]


def _line(row: Mapping[str, Any], piece: Mapping[str, Any]) -> dict[str, Any]:
    line = {name: row[name] for name in _AXES}
    line |= {name: _at(row, path) for name, path in _OF_CELL.items()}
    line |= {name: _at(piece, path) for name, path in _OF_PIECE.items()}
    seams = (piece.get("edit") or {}).get("seams", [])
    line["seam_click"] = max((seam["click"] for seam in seams), default=None)
    line["seam_rise_rank"] = max((seam["rise_rank"] for seam in seams), default=None)
    line["seams_smooth"] = all(seam["smooth"] for seam in seams) if seams else None
    return line | {"file": piece.get("file"), "error": row["error"]}


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    if lines:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return stream.getvalue()


_COLUMNS = (
    *("task", "bpm", "key", "duration_s", "state", "runtime_s", "sound_s_per_s"),
    *("peak_bytes", "tempo_found", "tempo_octave", "key_found", "key_relation"),
    *("grid_median_ms", "grid_near_share", "seams_smooth", "outside_exact"),
    *("layer_near_share", "layer_level_db", "loudness_lufs"),
)


def _markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """The columns that people look at first; an axis that varies beyond them comes in front."""
    varied = [n for n in ("model", "seed", "steps", "batch") if len({x[n] for x in lines}) > 1]
    columns = [*varied, *_COLUMNS]
    rows = [columns, ["---"] * len(columns)]
    rows += [[_cell(line[name]) for name in columns] for line in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "\\|")
