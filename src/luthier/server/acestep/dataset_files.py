"""A folder of recordings, or a data set file → a working data set; and where one may be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import LuthierError, RequestError
from luthier.music.templates import INSTRUMENTAL
from luthier.server.acestep.datasets import WorkingSet
from luthier.server.http.strict_json import strict_json
from luthier.server.jobs.commands import Roots
from luthier.server.schemas.datasets import ScanAsked

if TYPE_CHECKING:
    from luthier.music.dataset.acestep_json import AceStepFile

_MOST_SAMPLES = 10_000
_MOST_BYTES = 32 * 2**20
_MOST_LYRICS = 64 * 2**10


def scanned(asked: ScanAsked, roots: Roots) -> tuple[WorkingSet, list[str]]:
    """Every recording under a folder as a sample, with the words that lie beside it.

    Nothing is decoded here: the lengths come with the labels.

    Returns:
        The data set, and what was left out.

    Raises:
        RequestError: the folder lies elsewhere, or holds no recordings or too many.
    """
    folder = roots.path(asked.audio_dir, "audio_dir", of="folder")
    samples, left_out = [], 0
    for path in _recordings(folder):
        inside = _inside(path, roots)
        if inside is None:
            left_out += 1
            continue
        samples.append(_sample(inside, folder, asked, _words(inside, roots)))
        if len(samples) > _MOST_SAMPLES:
            raise RequestError(f"audio_dir holds more than {_MOST_SAMPLES} recordings: split it.")
    if not samples:
        raise RequestError("audio_dir: no audio files were found there.")
    metadata = {
        "name": asked.dataset_name,
        "custom_tag": asked.custom_tag,
        "tag_position": asked.tag_position,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_samples": len(samples),
        "all_instrumental": asked.all_instrumental,
        "genre_ratio": 0,
    }
    notes = ["duration is 0 until auto_label has heard the recordings."]
    if left_out:
        notes.append(f"{left_out} files were left out: they are links that lead elsewhere.")
    return WorkingSet(metadata, tuple(samples), {}, folder), notes


def loaded(named: str, roots: Roots) -> tuple[WorkingSet, list[str]]:
    """The data set of a file of ACE-Step 1.5, as it stands there.

    Only where recordings are named relative to the file they are named in full: it may be saved
    elsewhere.

    Raises:
        RequestError: it lies elsewhere, or a recording that it names does; it is too large, or has
            another form.
    """
    path = roots.path(named, "dataset_path", of="file")
    if path.stat().st_size > _MOST_BYTES:
        raise RequestError(f"dataset_path: the file is larger than {_MOST_BYTES / 1e6:.0f} MB.")
    strict_json(_text(path), "dataset_path")  # what can be written, but not answered
    file = _read(path)
    if not 0 < len(file.samples) <= _MOST_SAMPLES:
        raise RequestError(
            f"dataset_path: it has {len(file.samples)} samples; 1 to {_MOST_SAMPLES} are allowed."
        )
    samples, missing = [], 0
    for place, sample in enumerate(file.samples):
        said = Path(sample["audio_path"])
        field = f"samples.{place}.audio_path"
        found = roots.path(str(path.parent / said), field, of="new")
        missing += not found.is_file()
        samples.append(sample if said.is_absolute() else {**sample, "audio_path": str(found)})
    notes = [f"{missing} recordings are not there."] if missing else []
    known = WorkingSet(file.metadata, tuple(samples), file.rest, path.parent, save_path=path)
    return known, notes


def place_to_save(named: str, field: str, roots: Roots) -> Path:
    """A file that a data set may be written to: a new one, or one that holds a data set.

    Raises:
        RequestError: it lies elsewhere, or holds something else.
    """
    path = roots.path(named, field, of="new")
    if path.suffix.lower() != ".json":
        raise RequestError(f"{field}: name a file that ends with .json.")
    if path.exists() and not _is_dataset(path):
        raise RequestError(f"{field}: what lies there is no data set file; name another.")
    return path


def _is_dataset(path: Path) -> bool:
    try:
        _read(path)
    except RequestError:
        return False
    return True


def _read(path: Path) -> AceStepFile:
    from luthier.music.dataset.acestep_json import read_acestep

    try:
        return read_acestep(path)
    except LuthierError as error:
        raise RequestError(str(error)) from error


def _recordings(folder: Path) -> Iterator[Path]:
    from luthier.dataset.tracks import walk_audio

    return walk_audio(folder)


def _inside(path: Path, roots: Roots) -> Path | None:
    try:
        return roots.path(str(path), "audio_dir", of="file")
    except RequestError:
        return None


def _words(recording: Path, roots: Roots) -> str:
    """The lyrics beside a recording, under upstream's name or ours; "" without."""
    for name in (f"{recording.stem}.txt", f"{recording.stem}_lyrics.txt"):
        path = _inside(recording.with_name(name), roots)
        if path is None or path.stat().st_size > _MOST_LYRICS:
            continue
        try:
            return path.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def _sample(path: Path, folder: Path, asked: ScanAsked, words: str) -> Mapping[str, Any]:
    wordless = words in ("", INSTRUMENTAL)
    name = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    return {
        "id": hashlib.sha256(name.encode()).hexdigest()[:8],
        "audio_path": str(path),
        "filename": path.name,
        "caption": "",
        "genre": "",
        "lyrics": INSTRUMENTAL if wordless else words,
        "raw_lyrics": "" if wordless else words,
        "formatted_lyrics": "",
        "bpm": None,
        "keyscale": "",
        "timesignature": "",
        "duration": 0,
        "language": "unknown",
        "is_instrumental": asked.all_instrumental if wordless else False,
        "custom_tag": asked.custom_tag,
        "labeled": False,
        "prompt_override": None,
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise RequestError("dataset_path: the file cannot be read as UTF-8 text.") from None
