"""The cells of a matrix → heat maps: one for each thing that was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from statistics import fmean
from typing import Any

from luthier.matrix.page_cells import anchor
from luthier.report.heatmap import Heat, HeatMap

Row = Mapping[str, Any]
Found = tuple[str, float] | None  # what stands in a cell, and how bad it is, from 0 to 1


@dataclass(frozen=True)
class _Measure:
    """What a map shows: a cell's numbers → text and badness."""

    identity: str
    title: str
    note: str
    scale: tuple[str, str]
    value: Callable[[Row], Found]


def heat_maps(rows: Sequence[Row]) -> list[HeatMap]:
    """A map for each measure that any cell has."""
    maps = [_map(measure, rows) for measure in _MEASURES]
    return [one for one in maps if one.cells]


def _map(measure: _Measure, rows: Sequence[Row]) -> HeatMap:
    columns: dict[str, dict[str, None]] = {}
    sides: dict[str, dict[str, None]] = {}
    cells: dict[tuple[str, str, str, str], Heat] = {}
    extra = [
        name for name in ("model", "seed", "steps", "batch") if len({r[name] for r in rows}) > 1
    ]
    for row in rows:
        length, tempo = f"{row['duration_s']:g} s", f"{row['bpm']} bpm"
        task = str(row["task"])
        name = " · ".join([row["key"], *(_axis(row, axis) for axis in extra)])
        heat = _heat(measure, row)
        columns.setdefault(length, {})[tempo] = None
        if heat is not None:
            sides.setdefault(task, {})[name] = None
            cells[task, name, length, tempo] = heat
    return HeatMap(
        measure.identity,
        measure.title,
        measure.note,
        measure.scale,
        tuple((group, tuple(names)) for group, names in columns.items()),
        tuple((group, tuple(names)) for group, names in sides.items()),
        cells,
    )


def _axis(row: Row, name: str) -> str:
    value = row[name]
    if name == "model":
        return str(value)
    return f"{name} {'own' if value is None else value}"


def _heat(measure: _Measure, row: Row) -> Heat | None:
    """A cell of a map; None where the task cannot have such a number."""
    about = f"{row['task']}, {row['bpm']} bpm, {row['key']}, {row['duration_s']:g} s"
    if row["state"] != "ok":
        if measure.identity != "runtime":  # once is enough
            return None
        return Heat("–" if row["state"] == "not supported" else "✕", None,
                    f"{about}: {row['state']}. {row['error']}", anchor(row))  # fmt: skip
    found = measure.value(row)
    if found is None:
        return None
    text, badness = found
    return Heat(text, badness, f"{about}: {measure.title.lower()} {text}", anchor(row))


def _anchor(row: Row) -> str:
    return f"c-{row['name']}"


def _mean(row: Row, path: Sequence[str]) -> float | None:
    values = []
    for piece in row["pieces"]:
        value: Any = piece
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            values.append(float(value))
    return fmean(values) if values else None


def _runtime(row: Row) -> Found:
    speed = row["runtime"]["audio_s_per_s"]
    # Live is the middle of the scale; four times as fast is as good as it gets.
    return (f"{row['runtime']['wall_s']:.1f}", 0.5 - log2(speed) / 4) if speed else None


def _tempo_error(row: Row) -> Found:
    error = _mean(row, ("tempo", "error_percent"))
    if error is None:
        return "none", 1.0
    octaves = {piece["tempo"]["octave"] for piece in row["pieces"]}
    mark = {"half": " ½", "double": " ×2"}.get(str(next(iter(octaves))), "") if octaves else ""
    return f"{_signed(error, 1)}{mark}", abs(error) / 4.8


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def _key(row: Row) -> Found:
    rank = {"same": 0.0, "relative": 0.4, "fifth": 0.6, "parallel": 0.6, "other": 1.0}
    keys = [piece["key"] for piece in row["pieces"]]
    worst = max(keys, key=lambda key: rank[key["relation"]])
    name = worst["measured"].replace(" major", "").replace(" minor", "m")
    met = sum(key["passed"] for key in keys)
    many = f" {met}/{len(keys)}" if len(keys) > 1 else ""
    return name + many, fmean(rank[key["relation"]] for key in keys)


def _grid(row: Row) -> Found:
    near = _mean(row, ("grid", "near_share"))
    return None if near is None else (f"{near:.0%}", (1 - near) / 0.75)


def _first_beat(row: Row) -> Found:
    late = _mean(row, ("grid", "phase_ms"))
    return None if late is None else (_signed(late, 0), abs(late) / 120)


def _seams(row: Row) -> Found:
    edits = [piece["edit"] for piece in row["pieces"] if piece.get("edit")]
    seams = [seam for edit in edits for seam in edit["seams"]]
    if not seams:
        return None
    worst = max(seam["rise_rank"] for seam in seams)
    click = max(seam["click"] for seam in seams)
    mark = "" if all(seam["smooth"] for seam in seams) else " !"
    # Half the scale for the click limit of 1, half for the last five percent of the ranks.
    badness = max(click / 2, (worst - 0.95) / 0.09)
    return f"{100 * worst:.0f}{mark}", badness


def _outside(row: Row) -> Found:
    parts = [piece["outside"] for piece in row["pieces"] if piece.get("outside")]
    if not parts:
        return None
    if all(part["exact"] for part in parts):
        return "exact", 0.0
    worst = max(float(part["largest_db"]) for part in parts)
    return f"{worst:.0f} dB".replace("-", "−"), 1 + worst / 96


def _layer(row: Row) -> Found:
    if not any(piece.get("layer") for piece in row["pieces"]):
        return None
    near = _mean(row, ("layer", "grid", "near_share"))
    return ("none", 1.0) if near is None else (f"{near:.0%}", (1 - near) / 0.75)


def _leak(row: Row) -> Found:
    likeness = _mean(row, ("layer", "likeness"))
    return None if likeness is None else (f"{likeness:.2f}".replace("-", "−"), likeness)


_MEASURES = (
    _Measure("runtime", "Seconds to make it",
             "Without opening the model. The middle of the scale is real time: a clip made in the "
             "time that it plays.", ("4 × real time", "¼ ×"), _runtime),
    _Measure("tempo", "Tempo error, percent",
             "Of the tempo heard; ½ and ×2 mark a clip that is heard at half or double tempo, "
             "which counts as met. 4 % is the limit.", ("0 %", "4.8 % or more"), _tempo_error),
    _Measure("key", "Key found",
             "Pale is the key asked for, then its relative, a fifth away or the other mode, then "
             "any other. A small m is minor.", ("same", "other"), _key),
    _Measure("grid", "Onsets on the beat grid",
             "Share of the onsets within 40 ms of an eighth note of the tempo asked for, the phase "
             "fitted. Onsets anywhere would reach 24 % at 90 bpm and 37 % at 140.",
             ("100 %", "25 %"), _grid),
    _Measure("first-beat", "First beat, milliseconds",
             "How far the fitted beat is from the start of the clip: what a host must shift to put "
             "the clip on its own grid.", ("0", "120 or more"), _first_beat),
    _Measure("seams", "Edges of a repaint",
             "The sharper edge's rank among all rises of level, of 100: above 99.5, or with a step "
             "between samples that the music does not have elsewhere, it is marked with !.",
             ("unheard", "heard"), _seams),
    _Measure("outside", "Outside a repaint",
             "The largest difference to the source beyond the cross-fade.",
             ("exact", "full scale"), _outside),
    _Measure("layer", "Layers on the context's grid",
             "Share of the layer's onsets within 40 ms of an eighth note, counted from the "
             "context's own beat.", ("100 %", "25 %"), _layer),
    _Measure("leak", "Likeness of a layer and its context",
             "Correlation of their log-mel levels: 1 would be the context played back.",
             ("0", "1"), _leak),
)  # fmt: skip
