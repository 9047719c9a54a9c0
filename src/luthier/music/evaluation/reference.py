"""A validation set → real tracks, with their own prompts and styles where those are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.dataset.track_names import find_facts
from luthier.errors import DatasetError, LuthierError
from luthier.files import existing_folder, read_json
from luthier.music.dataset.prompts import MAPPING_NAME, load_mapping
from luthier.music.evaluation.clip_measures import audio_files

_MANIFEST = "dataset_manifest.json"
_SPLIT = "validation"


@dataclass(frozen=True)
class RealTrack:
    """One real recording.

    Attributes:
        file: its name in reports.
        path: where it lies.
        prompt: what it would be asked for with; None where nobody wrote one.
        style_ids: what it is said to be; empty where nobody said.
    """

    file: str
    path: Path
    prompt: str | None
    style_ids: tuple[str, ...]


def real_tracks(validation_set: Path) -> tuple[RealTrack, ...]:
    """The tracks of a folder of audio, or the validation part of a data set.

    In a folder, `<name>_prompt.txt` and `<name>.json` beside a track and `style_mapping.json` are
    read, as `luthier prompts` writes them.

    Raises:
        PathError: no such folder, or no audio in it.
        DatasetError: the data set has no validation tracks, or its audio is gone.
    """
    existing_folder(validation_set, "validation set")
    if (validation_set / _MANIFEST).is_file():
        return _of_dataset(validation_set)
    if validation_set.name == _SPLIT and (validation_set.parent / _MANIFEST).is_file():
        return _of_dataset(validation_set.parent)
    names = audio_files(validation_set, "validation set")
    path = validation_set / MAPPING_NAME
    mapping = load_mapping(path) if path.is_file() else {}
    return tuple(_of_file(validation_set, name, mapping) for name in names)


def _of_dataset(folder: Path) -> tuple[RealTrack, ...]:
    from luthier.music.dataset.build import load_rows

    rows = load_rows(folder, _SPLIT)
    if not rows:
        raise DatasetError(
            f"the data set {folder} has no validation tracks: build it with a larger "
            "--validation-split, or name a folder of held-out recordings."
        )
    tracks = tuple(
        RealTrack(
            file=row["keys"] + Path(row["filename"]).suffix,
            path=Path(row["filename"]),
            prompt=row.get("caption") or None,
            style_ids=tuple(row.get("style_ids") or ()),
        )
        for row in rows
    )
    gone = [track.path for track in tracks if not track.path.is_file()]
    if gone:
        raise DatasetError(
            f"{len(gone)} of the {len(tracks)} validation tracks are gone, first {gone[0]}: "
            "put them back, or build the data set again."
        )
    return tracks


def _of_file(folder: Path, name: str, mapping: dict[str, list[str]]) -> RealTrack:
    path = folder / name
    words = path.with_name(f"{path.stem}_prompt.txt")
    prompt = words.read_text(encoding="utf-8", errors="replace").strip() if words.is_file() else ""
    styles = mapping.get(path.stem) or _facts(find_facts(folder, path.stem)).get("style_ids")
    return RealTrack(name, path, prompt or None, tuple(styles or ()))


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = read_json(path)
    except LuthierError:  # missing, or another tool's file of that name
        return {}
    return facts if isinstance(facts, dict) else {}
