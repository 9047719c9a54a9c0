"""What a track can teach: for each task of a run, what is made, what is shown, and the prompt.

text2music, repaint and cover need only the track. extract, lego and complete need its stems: the
optional column `stems` of the data set, track name → audio file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import TrainingError
from luthier.music.request import request_from
from luthier.music.templates import (
    TRACK_NAMES,
    instruction_for,
    lyrics_text,
    metas_text,
    prompt_text,
)
from luthier.music.training.task_mix import STEM_TASKS


@dataclass(frozen=True)
class Sound:
    """Audio to encode: the sum of files; `as_codes` then says it as the audio codes do."""

    files: tuple[Path, ...]
    as_codes: bool = False


@dataclass(frozen=True)
class Planned:
    """One way to train on a track. A `source` of None is silence."""

    task: str
    tracks: tuple[str, ...]
    target: Sound
    source: Sound | None


def variants_of(row: Mapping[str, Any], tasks: Sequence[str]) -> list[Planned]:
    """Every way in which `row` serves one of `tasks`.

    Raises:
        TrainingError: its stems are named wrongly, or it serves none of the tasks.
    """
    mix = Sound((Path(row["filename"]),))
    stems = _stems(row)
    found: list[Planned] = []
    for task in tasks:
        if task == "text2music":
            found.append(Planned(task, (), mix, None))
        elif task == "repaint":
            found.append(Planned(task, (), mix, mix))
        elif task == "cover":
            found.append(Planned(task, (), mix, Sound(mix.files, as_codes=True)))
        else:
            found += _of_stems(task, stems, mix)
    if not found:
        raise TrainingError(
            f"it has no stems, which {', '.join(t for t in tasks if t in STEM_TASKS)} need: name "
            "them in the data set's column stems, or add text2music to the tasks."
        )
    return found


def _of_stems(task: str, stems: Mapping[str, Path], mix: Sound) -> list[Planned]:
    found = []
    for name, path in stems.items():
        others = {other: file for other, file in stems.items() if other != name}
        alone, rest = Sound((path,)), Sound(tuple(others.values()))
        if task == "extract":
            found.append(Planned(task, (name,), alone, mix))
        elif others and task == "lego":
            found.append(Planned(task, (name,), alone, rest))
        elif others:
            found.append(Planned(task, tuple(others), mix, alone))
    return found


def _stems(row: Mapping[str, Any]) -> dict[str, Path]:
    # Arrow gives every row all the names that any row has, with None for what it lacks.
    stems = {name: Path(path) for name, path in sorted((row.get("stems") or {}).items()) if path}
    unknown = [name for name in stems if name not in TRACK_NAMES]
    if unknown:
        raise TrainingError(
            f"it has a stem named {unknown[0]!r}: there are {', '.join(TRACK_NAMES)}."
        )
    return stems


def prompts_of(
    row: Mapping[str, Any], seconds: float, task: str = "text2music", tracks: Sequence[str] = ()
) -> tuple[str, str]:
    """Text prompt and lyric prompt of a track, word for word as a request for it gets them."""
    bpm = bpm_of(row)
    asked = request_from(
        {
            "prompt": row["caption"],
            "lyrics": row.get("lyrics") or "",
            "instrumental": bool(row.get("instrumental")),
            "vocal_language": row.get("language") or "en",
            "bpm": None if bpm is None else round(bpm),
            "key": row.get("keyscale"),
            "time_signature": row.get("timesignature"),
        }
    )
    metas = metas_text(
        bpm=asked.bpm, time_signature=asked.time_signature, key=asked.key, duration_s=seconds
    )
    text = prompt_text(asked.prompt, metas, instruction=instruction_for(task, tracks))
    return text, lyrics_text(asked.sung, asked.vocal_language)


def bpm_of(row: Mapping[str, Any]) -> float | None:
    """The tempo of a row; None where it is not said (empty, 0 or no number)."""
    bpm = row.get("bpm")
    return float(bpm) if bpm and math.isfinite(bpm) else None
