"""A few seconds of tones, dressed up as a data set: real files, real build."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from luthier.audio.encode import write_audio
from luthier.files import write_json, write_text
from luthier.music.dataset.build import BuildSettings, build_dataset

RATE = 8000
TRACKS = {"calm": (2.0, 4.0), "dusk": (3.0, 5.0), "rain": (5.0, 3.0), "walk": (4.0, 2.6)}


def write_tracks(folder: Path, tracks: dict[str, tuple[float, float]]) -> None:
    """Tones of a harmonic series and a length in seconds each, with prompts, facts and licences."""
    for name, (harmonic, seconds) in tracks.items():
        time = np.arange(int(seconds * RATE)) / RATE
        tone = 0.3 * np.sin(2 * np.pi * 110 * harmonic * time) * (1 + np.sin(12 * time)) / 2
        write_audio(folder / f"{name}.wav", np.stack([tone, 0.8 * tone]).astype(np.float32), RATE)
        write_text(folder / f"{name}_prompt.txt", f"lofi, calm piano, {name}")
        write_text(folder / f"{name}_lyrics.txt", "[Instrumental]")
        facts = {"bpm": 120.0, "keyscale": "A minor", "timesignature": "4", "duration": seconds}
        other = {"style_ids": ["CORE-01"], "language": "en", "instrumental": True}
        write_json(folder / f"{name}.json", facts | other)
    source = {
        "source_id": "own",
        "track_ids": list(tracks),
        "source_type": "commissioned",
        "provider": "this test",
        "license_type": "CC0-1.0",
        "date_acquired": "2025-01-01",
        "ai_training_allowed": True,
        "cost": 0,
    }
    write_json(folder / "sources.json", [source])


def make_dataset(folder: Path, *, validation_split: float = 0.25) -> Path:
    """Three tracks to train on and one to validate with."""
    write_tracks(folder / "tracks", TRACKS)
    build_dataset(
        folder / "tracks",
        folder / "tracks",
        folder / "set",
        BuildSettings(validation_split=validation_split, repeat_count=2),
    )
    return folder / "set"
