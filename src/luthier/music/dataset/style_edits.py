"""Edits of the metadata files: the styles of tracks, and what people thought of them.

Each edit is read, made and written under the lock of the folder, so none is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from luthier.dataset.json_locations import model_problems, raise_problems, read_document
from luthier.dataset.metadata_lock import edit_json
from luthier.dataset.sources import SOURCES_NAME, load_sources
from luthier.dataset.tracks import find_audio
from luthier.errors import DatasetError, RequestError
from luthier.music.dataset.style_mapping import MAPPING_NAME, load_mapping
from luthier.music.dataset.style_preset import StylePreset, find
from luthier.spelling import nearest

SCORES_NAME = "quality_scores.json"


class QualityScore(BaseModel):
    """What a person thought of a track after listening to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    score: float = Field(ge=0, le=100)
    verified: bool = Field(default=False, description="the styles were found to be right")
    date: date


@dataclass(frozen=True)
class StyleEdit:
    """What to do with the styles of tracks: `replace` first, then `add`, then `remove`."""

    replace: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def of(self, styles: Sequence[str]) -> list[str]:
        """The styles after the edit."""
        found = [*(self.replace or styles), *self.add]
        return [style for style in dict.fromkeys(found) if style not in self.remove]


def assign_styles(
    metadata_dir: Path,
    tracks: Sequence[str],
    edit: StyleEdit,
    presets: Mapping[str, StylePreset],
    *,
    audio_dir: Path | None = None,
    dry_run: bool = False,
) -> dict[str, list[str]]:
    """Change the styles of tracks in `style_mapping.json`; return those of each after the edit.

    Args:
        metadata_dir: holds the file, or gets it.
        tracks: track ids, or patterns such as "rain-*".
        edit: what to do.
        presets: the styles that exist.
        audio_dir: tells which tracks there are; None knows those that the metadata files name.
        dry_run: change nothing.

    Raises:
        DatasetError: an unknown style or track with the nearest known one, or a track would be
            left without a style. Nothing is changed then.
    """
    for style in (*edit.replace, *edit.add, *edit.remove):
        find(style, presets)
    if not (edit.replace or edit.add or edit.remove):
        raise RequestError("there is nothing to do: say which styles to add, remove or set.")
    path = metadata_dir / MAPPING_NAME
    known = known_track_ids(metadata_dir, audio_dir)
    after: dict[str, list[str]] = {}
    with _editing(path, dry_run) as mapping:
        if path.exists():
            load_mapping(path)  # says what is wrong with it, by line
        for track_id in _matching(tracks, known | set(mapping)):
            before = mapping.get(track_id, [])
            styles = edit.of([before] if isinstance(before, str) else before)
            if not styles:
                raise DatasetError(
                    f"{track_id} would be left without a style: set another one instead. "
                    "Nothing was changed."
                )
            mapping[track_id] = after[track_id] = styles
    return after


def score_tracks(
    metadata_dir: Path,
    tracks: Sequence[str],
    score: QualityScore,
    *,
    audio_dir: Path | None = None,
    dry_run: bool = False,
) -> dict[str, dict[str, Any]]:
    """Note in `quality_scores.json` what a person thought of tracks; return their rows.

    Raises:
        DatasetError: an unknown track, with the nearest known one; nothing is changed then.
    """
    known = known_track_ids(metadata_dir, audio_dir)
    row = score.model_dump(mode="json")
    with _editing(metadata_dir / SCORES_NAME, dry_run) as scores:
        load_scores(metadata_dir)
        chosen = _matching(tracks, known | set(scores))
        scores.update({track_id: row for track_id in chosen})
    return dict.fromkeys(chosen, row)


def load_scores(metadata_dir: Path) -> dict[str, QualityScore]:
    """Read `quality_scores.json`; empty where there is none. `DatasetError` by line if wrong."""
    path = metadata_dir / SCORES_NAME
    if not path.exists():
        return {}
    document = read_document(path)
    try:
        return TypeAdapter(dict[str, QualityScore]).validate_python(document.value)
    except ValidationError as error:
        raise_problems(model_problems(error, document, fields=QualityScore.model_fields))
        raise


def known_track_ids(metadata_dir: Path, audio_dir: Path | None) -> set[str]:
    """The tracks in the audio folder; without one, those that the metadata files name."""
    if audio_dir is not None:
        return set(find_audio(audio_dir))
    known: set[str] = set()
    if (metadata_dir / MAPPING_NAME).is_file():
        known |= set(load_mapping(metadata_dir / MAPPING_NAME))
    if (metadata_dir / SOURCES_NAME).is_file():
        known |= {
            t for record in load_sources(metadata_dir / SOURCES_NAME) for t in record.track_ids
        }
    return known


@contextmanager
def _editing(path: Path, dry_run: bool) -> Iterator[dict[str, Any]]:
    """The object in a file, to be changed; a dry run takes the lock and throws the change away."""
    if dry_run:
        document = read_document(path).value if path.exists() else {}
        yield _object(document, path)
        return
    with edit_json(path, {}) as value:
        yield _object(value, path)


def _object(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DatasetError(f"{path} should be an object with track ids as names.")
    return value


def _matching(patterns: Sequence[str], known: Collection[str]) -> list[str]:
    """The known tracks that are named or match a pattern, in the order of the patterns."""
    found: dict[str, None] = {}
    for pattern in patterns:
        # A track may be called "take [2]", which as a pattern would not be itself.
        matches = (
            [pattern]
            if pattern in known
            else [track for track in sorted(known) if fnmatchcase(track, pattern)]
        )
        if not matches:
            near = f"; the nearest is {nearest(pattern, known)!r}" if known else ""
            raise DatasetError(
                f"no track is called {pattern!r}{near}. A track that no metadata file names yet is "
                "known by its audio: name the folder with --audio. Nothing was changed."
            )
        found |= dict.fromkeys(matches)
    return list(found)
