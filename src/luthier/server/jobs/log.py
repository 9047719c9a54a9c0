"""What a job's command wrote → how far it is, its last lines, its result or its sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from luthier.files import read_json

_TAIL = 64 * 1024
_MOST_RESULT = 2**20


class Progress(NamedTuple):
    """What is being done, how much of it (0 to 1), and seconds left where that is known."""

    stage: str
    progress: float
    note: str
    eta_s: float | None


def tail(path: Path, most: int = _TAIL) -> str:
    """The last `most` bytes of a text; whole lines; nothing when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            data = file.read(most)
    except OSError:
        return ""
    text = data.decode("utf-8", "replace")
    return text.partition("\n")[2] if size > most else text


def progress_of(log: Path) -> Progress | None:
    """The last line of progress that the command's display wrote (`--json`)."""
    for line in reversed(tail(log).splitlines()):
        row = _object(line)
        if row is None or "task" not in row:
            continue
        try:
            done, total = float(row["done"]), float(row["total"])
            share = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
            eta = None if row.get("eta_s") is None else float(row["eta_s"])
        except (KeyError, TypeError, ValueError):
            continue
        note = str(row.get("note", ""))[:200]
        return Progress(str(row["task"])[:200], round(share, 4), note, eta)
    return None


def result_of(out: Path) -> dict[str, Any] | None:
    """What the command printed as its result, when that is an object of a sane size."""
    try:
        if out.stat().st_size > _MOST_RESULT:
            return None
        found = read_json(out)
    except Exception:  # noqa: BLE001 - a command that was cut off
        return None
    return found if isinstance(found, dict) else None


def loss_history(metrics: Path, most: int = 1000) -> list[dict[str, Any]]:
    """The last rows of a training's `metrics.jsonl`; a torn line is left out."""
    rows = [_object(line) for line in tail(metrics, 512 * 1024).splitlines()]
    return [row for row in rows if row is not None and "step" in row][-most:]


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
