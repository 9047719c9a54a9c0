"""A folder of audio → its tracks by id, and what is measured of the music in each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luthier.audio.decode import AUDIO_SUFFIXES, read_audio
from luthier.errors import DatasetError, PathError
from luthier.files import existing_folder, refuse_odd_name

REJECTED = "rejected"  # where curation moves what is no track of its folder any more
LEDGER_NAME = "curation.jsonl"  # by which such a folder is known


@dataclass(frozen=True)
class Music:
    """What a track's metadata says about its music; None where nobody knows.

    Attributes:
        duration_s: seconds.
        bpm: beats a minute.
        key: e.g. "A minor".
        time_signature: beats a bar, e.g. "4".
    """

    duration_s: float
    bpm: float | None = None
    key: str | None = None
    time_signature: str = "4"


def find_audio(folder: Path, what: str = "audio folder") -> dict[str, Path]:
    """The audio files directly in `folder` by track id (the name without suffix), sorted.

    Raises:
        PathError: no such folder, or no audio in it, or a name that is no text.
        DatasetError: two files share a track id.
    """
    existing_folder(folder, what)
    tracks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_audio(path) or not path.is_file():
            continue
        refuse_odd_name(path)
        if path.stem in tracks:
            raise DatasetError(
                f"{tracks[path.stem].name} and {path.name} in {folder} are both the track "
                f"{path.stem!r}: rename one."
            )
        tracks[path.stem] = path
    if not tracks:
        raise PathError(f"the {what} {folder} has no audio: {_suffixes()} are looked for.")
    return tracks


def walk_audio(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Every audio file under `folder`, sorted, but for hidden ones, those in `leave_out` and what
    a curation rejected.

    Links to folders are not followed. A folder that cannot be listed is yielded itself, so that
    it is reported rather than lost.
    """
    unreadable: list[Path] = []
    for parent, folders, names in os.walk(
        folder, onerror=lambda error: unreadable.append(Path(error.filename))
    ):
        here = Path(parent)
        folders[:] = sorted(
            f
            for f in folders
            if not f.startswith(".")
            and Path(os.path.realpath(here / f)) != leave_out
            and not is_rejected(here / f)
        )
        yield from (here / name for name in sorted(names) if is_audio(here / name))
    yield from unreadable


def is_rejected(folder: Path) -> bool:
    """Whether a folder is where a curation put what it rejected."""
    return folder.name == REJECTED and (folder.parent / LEDGER_NAME).is_file()


def is_audio(path: Path) -> bool:
    """Whether the name is that of an audio file; hidden files (temporary ones too) are not."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def _suffixes() -> str:
    return " ".join(AUDIO_SUFFIXES)


def measure_music(path: Path) -> Music:
    """Decode a track and estimate its tempo and key."""
    from luthier.audio.key import estimate_key
    from luthier.audio.tempo import estimate_tempo

    samples, rate = read_audio(path)
    bpm = estimate_tempo(samples, rate).bpm
    return Music(
        duration_s=round(samples.shape[1] / rate, 3),
        bpm=bpm or None,
        key=estimate_key(samples, rate).name,
    )
