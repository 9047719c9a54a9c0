"""One clip → what is measured on it: embedding windows, levels, tempo and key if asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import AUDIO_SUFFIXES, read_audio
from luthier.audio.key import estimate_key
from luthier.audio.measure import Measures, measure
from luthier.audio.tempo import estimate_tempo
from luthier.errors import PathError
from luthier.evaluation.adherence import KeyCheck, TempoCheck, check_key, check_tempo
from luthier.evaluation.embedding import Embedding
from luthier.evaluation.requests import ClipRequest
from luthier.files import existing_folder

_MAX_SILENCE = 0.5  # shares above which a clip is not counted as music
_MAX_CLIPPING = 0.001


@dataclass(frozen=True)
class Heard:
    """What was measured on one clip; `windows` is (n, dim)."""

    file: str
    windows: NDArray[np.float64]
    measures: Measures
    tempo: TempoCheck | None
    key: KeyCheck | None
    style_id: str | None

    @property
    def usable(self) -> bool:
        """Whether it holds sound: at most half silent, at most 0.1 % clipped."""
        silent = self.measures.silence_ratio > _MAX_SILENCE
        return not silent and self.measures.clipping_ratio <= _MAX_CLIPPING

    def to_json(self) -> dict[str, Any]:
        """The clip's row in an evaluation."""
        return {
            "file": self.file,
            "style_id": self.style_id,
            "duration_s": self.measures.duration_s,
            "peak_db": self.measures.peak_db,
            "loudness_lufs": self.measures.loudness_lufs,
            "clipping_ratio": self.measures.clipping_ratio,
            "silence_ratio": self.measures.silence_ratio,
            "windows": len(self.windows),
        }


def audio_files(folder: Path, what: str) -> list[str]:
    """The audio files under `folder`, relative and sorted; `PathError` when there are none."""
    existing_folder(folder, what)
    found = (p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    names = sorted(p.relative_to(folder).as_posix() for p in found if not p.name.startswith("."))
    if not names:
        raise PathError(
            f"the {what} {folder} has no audio in it: {', '.join(AUDIO_SUFFIXES)} are read."
        )
    return names


def listen(folder: Path, name: str, embedding: Embedding, request: ClipRequest | None) -> Heard:
    """Decode one clip and measure it; what `request` does not ask for is not estimated."""
    samples, rate = read_audio(folder / name)
    bpm = request.bpm if request else None
    key = request.key if request else None
    return Heard(
        file=name,
        windows=embedding.embed(samples, rate),
        measures=measure(samples, rate),
        tempo=check_tempo(name, bpm, estimate_tempo(samples, rate)) if bpm else None,
        key=check_key(name, key, estimate_key(samples, rate)) if key else None,
        style_id=request.style_id if request else None,
    )
