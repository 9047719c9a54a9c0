"""One clip → what is measured on it: embedding windows, levels, loops; tempo, key and edits if
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import AUDIO_SUFFIXES, read_audio
from luthier.audio.key import estimate_key
from luthier.audio.measure import Measures, measure
from luthier.audio.tempo import estimate_tempo
from luthier.dataset.tracks import is_audio, is_rejected
from luthier.errors import PathError
from luthier.evaluation.cache import MeasureCache
from luthier.evaluation.clap import Clap
from luthier.evaluation.embedding import Embedding
from luthier.files import existing_folder, refuse_odd_name
from luthier.music.evaluation.adherence import KeyCheck, TempoCheck, check_key, check_tempo
from luthier.music.evaluation.edits import EditReport, check_edit
from luthier.music.evaluation.repetition import Repetition, repetition
from luthier.music.evaluation.requests import ClipRequest

_MAX_SILENCE = 0.5  # shares above which a clip is not counted as music
_MAX_CLIPPING = 0.001
_REPETITION = "repetition-v1"  # its name in the cache


@dataclass(frozen=True)
class Ears:
    """What audio is listened to with.

    Attributes:
        space: the embedding that FAD is measured in.
        clap: for the likeness to prompts; None where there is none.
        cache: for what takes long.
    """

    space: Embedding
    clap: Clap | None
    cache: MeasureCache


@dataclass(frozen=True)
class Heard:
    """What was measured on one clip.

    `windows` is (n, dim) in the embedding of FAD, `clap_windows` likewise in CLAP, where there is
    one.
    """

    file: str
    windows: NDArray[np.float64]
    clap_windows: NDArray[np.float64] | None
    measures: Measures
    repetition: Repetition
    tempo: TempoCheck | None
    key: KeyCheck | None
    edit: EditReport | None
    style_id: str | None
    prompt: str | None

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
            "repetition": self.repetition.score,
            "repetition_period_s": self.repetition.period_s,
            "windows": len(self.windows),
        }


@dataclass(frozen=True)
class HeardTrack:
    """What is needed of a real track: its windows, and how much it repeats itself."""

    windows: NDArray[np.float64]
    clap_windows: NDArray[np.float64] | None
    repetition: float


def audio_files(folder: Path, what: str) -> list[str]:
    """The audio files under `folder`, relative and sorted; `PathError` when there are none.

    What a curation rejected is left out.
    """
    existing_folder(folder, what)
    found = [
        path
        for path in folder.rglob("*")
        if is_audio(path) and path.is_file() and not _was_rejected(path, folder)
    ]
    for path in found:
        refuse_odd_name(path)
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    if not names:
        raise PathError(
            f"the {what} {folder} has no audio in it: {', '.join(AUDIO_SUFFIXES)} are read."
        )
    return names


def _was_rejected(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder).parents
    return any(is_rejected(folder / parent) for parent in inside if parent.name)


def listen(folder: Path, name: str, ears: Ears, request: ClipRequest | None) -> Heard:
    """Decode one clip and measure it; what `request` does not ask for is not estimated."""
    path = folder / name
    samples, rate = read_audio(path)
    asked = request or ClipRequest(file=name)
    return Heard(
        file=name,
        windows=ears.space.embed(samples, rate),
        clap_windows=_in_clap(path, ears, lambda: (samples, rate)),
        measures=measure(samples, rate),
        repetition=repetition(samples, rate),
        tempo=check_tempo(name, asked.bpm, estimate_tempo(samples, rate)) if asked.bpm else None,
        key=check_key(name, asked.key, estimate_key(samples, rate)) if asked.key else None,
        edit=_edit(asked, samples, rate),
        style_id=asked.style_id,
        prompt=asked.prompt,
    )


def listen_to_real(path: Path, ears: Ears) -> HeardTrack:
    """Measure a real track, once: the cache knows it by its contents."""
    decoded: list[tuple[NDArray[np.float32], int]] = []

    def audio() -> tuple[NDArray[np.float32], int]:
        if not decoded:
            decoded.append(read_audio(path))
        return decoded[0]

    loop = ears.cache.get(path, _REPETITION, lambda: np.array([repetition(*audio()).score]))
    return HeardTrack(
        windows=ears.cache.get(path, ears.space.name, lambda: ears.space.embed(*audio())),
        clap_windows=_in_clap(path, ears, audio),
        repetition=float(loop[0]),
    )


def _in_clap(
    path: Path, ears: Ears, audio: Callable[[], tuple[NDArray[np.float32], int]]
) -> NDArray[np.float64] | None:
    clap = ears.clap
    if clap is None:
        return None
    return ears.cache.get(path, clap.name, lambda: clap.embed(*audio()))


def _edit(asked: ClipRequest, samples: NDArray[np.float32], rate: int) -> EditReport | None:
    source = asked.edited
    if source is None:
        return None
    original, _ = read_audio(source, sample_rate=rate)
    end_s = asked.repaint_end_s or original.shape[1] / rate
    return check_edit(original, samples, rate, asked.repaint_start_s, end_s)
