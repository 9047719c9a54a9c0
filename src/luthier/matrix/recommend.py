"""Measured cells → which tasks are worth offering on this device, and with which values.

Rules, no taste: each verdict says the number that it comes from, and nothing is said of what was
not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from luthier.matrix.grid import LAYERS

LIVE, SLOW, WEAK, UNSTABLE, NOT_SUPPORTED = "live", "slow", "weak", "unstable", "not supported"
RULES = {
    UNSTABLE: "fewer than 95 % of the cells gave sound",
    WEAK: "of text2music, repaint and cover: the tempo was met (half and double allowed) in fewer "
    "than 75 % of the pieces, or the key in fewer than 50 %; of repaint also: fewer than 75 % of "
    "the edges are smooth, or a sample outside changed; of layers: half of them have fewer than "
    "50 % of their onsets within 40 ms of the context's eighth notes, or are like the context "
    "itself (likeness above 0.9)",
    LIVE: "every cell took no longer to make than it plays",
    SLOW: "some cell took longer than it plays",
}
_STABLE, _TEMPO, _KEY, _SMOOTH, _ON_GRID, _COPY = 0.95, 0.75, 0.5, 0.75, 0.5, 0.9
_NEAR_BEST = 0.1  # what fewer steps may cost, as a share of pieces
_MEMORY_SHARE, _MEMORY_ROOM = 0.6, 1.2

Row = Mapping[str, Any]


def recommended(rows: Sequence[Row], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Model → tasks with verdicts, and values to offer.

    Args:
        rows: of one matrix.
        machine: `memory_gb`, where it is known, bounds the batch.
    """
    models = dict.fromkeys(str(row["model"]) for row in rows)
    return {name: _model([r for r in rows if r["model"] == name], machine) for name in models}


def _model(rows: Sequence[Row], machine: Mapping[str, Any]) -> dict[str, Any]:
    played = [row for row in rows if row["state"] == "ok"]
    steps = _steps(played)
    batch = _batch([row for row in played if row["steps"] == steps], machine)
    chosen = [r for r in rows if r["steps"] == steps and r["batch"] == batch] if played else rows
    tasks = {
        name: _task([row for row in chosen if row["task"] == name])
        for name in dict.fromkeys(str(row["task"]) for row in rows)
    }
    peaks = [p for row in chosen if row["state"] == "ok" for p in _peaks(row)]
    offered = [name for name, task in tasks.items() if task["verdict"] in (LIVE, SLOW)]
    return {
        "tasks": tasks,
        "offer": offered,
        "steps": steps,
        "steps_measured": sorted({r["steps"] for r in played}, key=lambda n: n or 0),
        "batch": batch,
        "batches_measured": sorted({r["batch"] for r in played}),
        "longest_live_s": _longest_live([r for r in chosen if r["task"] in offered]),
        "longest_measured_s": max((r["duration_s"] for r in played), default=None),
        "memory_gb": _room(max(peaks)) if peaks else None,
    }


def _task(rows: Sequence[Row]) -> dict[str, Any]:
    facts = _facts(rows)
    verdict, why = _verdict(rows, facts)
    return {"verdict": verdict, "why": why} | facts


def _facts(rows: Sequence[Row]) -> dict[str, Any]:
    """What the cells of one task have in common: shares are of pieces."""
    good = [row for row in rows if _gives_sound(row)]
    pieces = [piece for row in good for piece in row["pieces"]]
    edits = [piece["edit"] for piece in pieces if piece.get("edit")]
    seams = [seam for edit in edits for seam in edit["seams"]]
    outside = [piece["outside"] for piece in pieces if piece.get("outside")]
    layers = [piece["layer"] for piece in pieces if piece.get("layer")]
    speeds = [row["runtime"]["audio_s_per_s"] for row in good]
    return {
        "cells": len(rows),
        "gave_sound": len(good),
        "speed": round(median(speeds), 3) if speeds else None,
        "slowest": min(speeds, default=None),
        "tempo_met": _share(pieces, lambda piece: piece["tempo"]["passed"]),
        "key_met": _share(pieces, lambda piece: piece["key"]["passed"]),
        "on_grid": _middle([p["grid"]["near_share"] for p in pieces if p["grid"]]),
        "smooth_seams": _share(seams, lambda seam: seam["smooth"]),
        "outside_exact": _share(outside, lambda part: part["exact"]),
        "layer_on_grid": _middle([x["grid"]["near_share"] if x["grid"] else 0.0 for x in layers]),
        "layer_likeness": _middle([layer["likeness"] for layer in layers]),
    }


def _verdict(rows: Sequence[Row], facts: Mapping[str, Any]) -> tuple[str, str]:
    refused = [row for row in rows if row["state"] == "not supported"]
    if rows and len(refused) == len(rows):
        return NOT_SUPPORTED, str(rows[0]["error"])
    if facts["gave_sound"] < _STABLE * facts["cells"] or not facts["gave_sound"]:
        why = next((row["error"] for row in rows if row["error"]), "some are silent.")
        said = f"{facts['gave_sound']} of {facts['cells']} cells gave sound"
        return UNSTABLE, f"{said}; the first that did not: {why}"
    weak = _weakness(str(rows[0]["task"]), facts)
    if weak:
        return WEAK, weak
    slowest = f"the slowest cell makes {facts['slowest']:.2f} s of sound a second."
    return (LIVE if facts["slowest"] >= 1 else SLOW), slowest


def _weakness(task: str, facts: Mapping[str, Any]) -> str | None:
    """The first rule that a task breaks, in a sentence; None when it keeps them all."""
    if task.partition(":")[0] in LAYERS:
        checks = [
            (facts["layer_on_grid"] < _ON_GRID, "onsets on the context's grid", "layer_on_grid"),
            (facts["layer_likeness"] > _COPY, "likeness to the context", "layer_likeness"),
        ]
    else:
        checks = [
            (facts["tempo_met"] < _TEMPO, "pieces with the tempo asked for", "tempo_met"),
            (facts["key_met"] < _KEY, "pieces with the key asked for", "key_met"),
        ]
    if facts["smooth_seams"] is not None:
        checks.append((facts["smooth_seams"] < _SMOOTH, "smooth edges", "smooth_seams"))
    if facts["outside_exact"] is not None:
        checks.append((facts["outside_exact"] < 1, "repaints exact outside", "outside_exact"))
    return next((f"{what}: {facts[name]:.0%}." for broken, what, name in checks if broken), None)


def _steps(rows: Sequence[Row]) -> int | None:
    """The fewest steps that meet tempo and key nearly as often as the best do."""
    by_steps: dict[int | None, list[Row]] = {}
    for row in rows:
        by_steps.setdefault(row["steps"], []).append(row)
    scores = {steps: _score(group) for steps, group in by_steps.items()}
    near = [steps for steps, s in scores.items() if s >= max(scores.values()) - _NEAR_BEST]
    counted = [steps for steps in near if steps is not None]
    return None if None in near or not counted else min(counted)


def _score(rows: Sequence[Row]) -> float:
    pieces = [piece for row in rows for piece in row["pieces"]]
    met = [piece[what]["passed"] for piece in pieces for what in ("tempo", "key")]
    met += [s["smooth"] for p in pieces if p.get("edit") for s in p["edit"]["seams"]]
    return sum(met) / len(met) if met else 0.0


def _batch(rows: Sequence[Row], machine: Mapping[str, Any]) -> int:
    """The batch of the most sound a second that leaves memory to others."""
    limit = float(machine.get("memory_gb") or math.inf) * 1e9 * _MEMORY_SHARE
    speeds: dict[int, float] = {}
    for batch in sorted({row["batch"] for row in rows}):
        group = [row for row in rows if row["batch"] == batch]
        if all(peak <= limit for row in group for peak in _peaks(row)):
            speeds[batch] = median(row["runtime"]["audio_s_per_s"] for row in group)
    return max(speeds, key=lambda batch: speeds[batch]) if speeds else 1


def _longest_live(rows: Sequence[Row]) -> float | None:
    """The longest clip up to which every cell was made in no more time than it plays."""
    live = None
    for duration_s in sorted({row["duration_s"] for row in rows}):
        group = [row for row in rows if row["duration_s"] == duration_s]
        if any(not _gives_sound(r) or r["runtime"]["wall_s"] > duration_s for r in group):
            break
        live = duration_s
    return live


def _gives_sound(row: Row) -> bool:
    return row["state"] == "ok" and not any(p["levels"]["silent"] for p in row["pieces"])


def _peaks(row: Row) -> list[int]:
    peak = row["memory"]["peak_bytes"]
    return [] if peak is None else [peak]


def _room(peak: int) -> float:
    """Memory to have, GB: a fifth above the highest peak, rounded up to 0.1."""
    return math.ceil(peak * _MEMORY_ROOM / 1e8) / 10


def _share(items: Sequence[Any], holds: Callable[[Any], bool]) -> float | None:
    return round(sum(bool(holds(item)) for item in items) / len(items), 4) if items else None


def _middle(values: Sequence[float]) -> float | None:
    return round(median(values), 4) if values else None
