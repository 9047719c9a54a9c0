"""Samples as the data set routes tell them: in the promised kinds, whatever a file says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_labelled(sample: Mapping[str, Any]) -> bool:
    """Whether a sample counts as labelled, and has a caption."""
    return bool(sample.get("labeled")) and bool(_text(sample.get("caption")).strip())


def row_of(place: int, sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as lists show it."""
    audio = _text(sample.get("audio_path"))
    override = sample.get("prompt_override")
    return {
        "index": place,
        "filename": _text(sample.get("filename")) or Path(audio).name,
        "audio_path": audio,
        "duration": _number(sample.get("duration")) or 0.0,
        "caption": _text(sample.get("caption")),
        "genre": _text(sample.get("genre")),
        "prompt_override": override if isinstance(override, str) else None,
        "lyrics": _text(sample.get("lyrics")),
        "bpm": _number(sample.get("bpm")),
        "keyscale": _text(sample.get("keyscale")),
        "timesignature": _text(sample.get("timesignature")),
        "language": _text(sample.get("language")) or "unknown",
        "is_instrumental": bool(sample.get("is_instrumental")),
        "labeled": bool(sample.get("labeled")),
    }


def whole_row_of(place: int, sample: Mapping[str, Any]) -> dict[str, Any]:
    """The same with what else upstream's file says of it."""
    more = ("id", "raw_lyrics", "formatted_lyrics", "custom_tag")
    return row_of(place, sample) | {name: _text(sample.get(name)) for name in more}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
