"""Rows of a matrix as `explore` records them, with what a test wants to be different."""

from __future__ import annotations

from typing import Any


def row(task: str = "text2music", *, wall_s: float = 5.0, **values: Any) -> dict[str, Any]:
    """A cell of 10 s that keeps to everything; `piece` overrides parts of its piece."""
    piece = _piece(task) | values.pop("piece", {})
    known = {
        "model": "mini", "task": task, "bpm": 120, "key": "C major", "duration_s": 10.0,
        "seed": 1, "steps": None, "batch": 1, "state": "ok", "error": None, "tracks": [],
        "load_1min": 0.5, "source": None,
    }  # fmt: skip
    found = known | {k: v for k, v in values.items() if k != "peak_bytes"}
    axes = (found[n] for n in ("model", "task", "bpm", "key", "duration_s", "seed", "steps"))
    found["name"] = "_".join(map(str, axes)) + f"_{found['batch']}"
    if found["state"] != "ok":
        return found | {"pieces": []}
    audio_s = found["duration_s"] * found["batch"]
    return found | {
        "pieces": [piece] * found["batch"],
        "runtime": {
            "wall_s": wall_s, "load_s": 1.0, "audio_s": audio_s,
            "audio_s_per_s": round(audio_s / wall_s, 4), "timed_by": "process",
        },
        "memory": {"peak_bytes": values.get("peak_bytes", 10**9), "gpu_peak_bytes": None},
    }  # fmt: skip


def _piece(task: str) -> dict[str, Any]:
    grid = {
        "onsets": 30, "median_ms": 5.0, "mean_ms": 9.0, "near_share": 0.9, "chance_share": 0.32,
        "phase_ms": 4.0, "lag_ms": 0.0,
    }  # fmt: skip
    piece: dict[str, Any] = {
        "file": "audio/a.flac",
        "sha256": "0",
        "seed": 1,
        "levels": {
            "duration_s": 10.0, "loudness_lufs": -16.0, "peak_db": -1.0, "silence_ratio": 0.0,
            "silent": False,
        },
        "tempo": {
            "requested_bpm": 120, "measured_bpm": 120.1, "octave": "same", "passed": True,
            "error_percent": 0.1,
        },
        "key": {"requested": "C major", "measured": "C major", "relation": "same", "passed": True},
        "grid": grid,
    }  # fmt: skip
    if task == "repaint":
        seam = {"at_s": 1.0, "click": 0.1, "rise_rank": 0.9, "level_step_db": 0, "smooth": True}
        piece["edit"] = {"seams": [seam, seam]}
        piece["outside"] = {"exact": True, "largest_db": -200.0}
    if task.startswith("lego"):
        piece["layer"] = {"grid": grid, "correlation": 0.1, "likeness": 0.2, "level_db": -3.0}
    return piece
