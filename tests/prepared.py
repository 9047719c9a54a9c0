"""A prepared folder of real (tiny) recordings with prompts, lyrics, facts and licence records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from luthier.audio.encode import write_audio
from luthier.files import write_json, write_text

RATE = 8000
STYLES = {f"t{i}": ["CORE-01"] if i < 3 else ["INST-01"] for i in range(5)}


def source(**changes: Any) -> dict[str, Any]:
    """A record that allows training on all tracks of `STYLES`, changed as asked."""
    row: dict[str, Any] = {
        "source_id": "own",
        "track_ids": list(STYLES),
        "source_type": "commissioned",
        "provider": "a | b",
        "license_type": "CC0-1.0",
        "date_acquired": "2025-01-01",
        "cost": 0,
        "ai_training_allowed": True,
    }
    return row | changes


def write_track(folder: Path, name: str, number: int, **facts: Any) -> None:
    """A tone whose pitch is the number's, 30 seconds long by what its metadata says."""
    tone = 0.3 * np.sin(2 * np.pi * (220 + 10 * number) * np.arange(RATE // 4) / RATE)
    write_audio(folder / f"{name}.wav", tone[None].astype(np.float32), RATE)
    write_text(folder / f"{name}_prompt.txt", f"lofi hip hop, chill, piano, {80 + number} bpm\n")
    write_text(folder / f"{name}_lyrics.txt", "[Instrumental]\n")
    row = {
        "caption": "",
        "bpm": 80.0 + number,
        "keyscale": "C major",
        "timesignature": "4",
        "duration": 30.0,
        "style_ids": STYLES.get(name, ["CORE-01"]),
        "language": "en",
        "instrumental": True,
        "needs_review": False,
    }
    write_json(folder / f"{name}.json", row | facts)


def prepare(root: Path, tracks: Mapping[str, list[str]] = STYLES) -> Path:
    """Write `root`/data and `root`/meta; return the first."""
    for number, name in enumerate(tracks):
        write_track(root / "data", name, number)
    write_json(root / "meta" / "sources.json", [source(track_ids=list(tracks))])
    write_json(root / "meta" / "style_mapping.json", dict(tracks))
    return root / "data"
