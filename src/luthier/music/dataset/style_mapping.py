"""`style_mapping.json`: the style ids of each track."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.dataset.json_locations import Document, raise_problems, read_document
from luthier.dataset.tracks import find_audio
from luthier.music.dataset.style_preset import StylePreset, nearest_style
from luthier.music.dataset.styles import DEFAULT_STYLE
from luthier.spelling import nearest

MAPPING_NAME = "style_mapping.json"

StyleMapping = Mapping[str, Sequence[str]]


def default_mapping(audio_dir: Path) -> dict[str, list[str]]:
    """Every track of a folder as CORE-01: a start that wants review."""
    return {track_id: [DEFAULT_STYLE] for track_id in find_audio(audio_dir)}


def load_mapping(
    path: Path,
    presets: Mapping[str, StylePreset] | None = None,
    tracks: Collection[str] | None = None,
) -> dict[str, list[str]]:
    """Read `{track id: [style id, …]}`; a single style may stand without brackets.

    Args:
        path: the file.
        presets: the styles that exist; None does not look.
        tracks: the tracks that exist; None does not look.

    Raises:
        PathError: the file is missing or not JSON.
        DatasetError: all that is wrong with it, each with file, line and column.
    """
    document = read_document(path)
    if not isinstance(document.value, dict):
        raise_problems([f'{document.at()}: {{"track id": ["style id", ...]}} should be here.'])
    raise_problems([*_wrong_shapes(document)])
    mapping = {
        track_id: [styles] if isinstance(styles, str) else list(styles)
        for track_id, styles in document.value.items()
    }
    problems = []
    for track_id, place, problem in unknown_names(mapping, presets, tracks):
        # Without brackets there is no place to step into, and `at` stays at the style itself.
        where = (track_id,) if place is None else (track_id, place)
        problems.append(f"{document.at(*where, key=place is None)}: {problem}")
    raise_problems(problems)
    return mapping


def unknown_names(
    mapping: StyleMapping,
    presets: Mapping[str, StylePreset] | None,
    tracks: Collection[str] | None,
) -> Iterator[tuple[str, int | None, str]]:
    """(track id, place in its list or None for the track itself, what is wrong with it)."""
    for track_id, styles in mapping.items():
        if tracks is not None and track_id not in tracks:
            near = f"; the nearest there is {nearest(track_id, tracks)!r}" if tracks else ""
            yield track_id, None, f"the track {track_id!r} is not in the audio folder{near}."
        for place, style in enumerate(styles):
            if presets is not None and style not in presets:
                near = nearest_style(style, presets)
                yield (
                    track_id,
                    place,
                    f"there is no style {style!r}; the nearest is {near!r} ({presets[near].name}).",
                )


def _wrong_shapes(document: Document) -> Iterator[str]:
    for track_id, styles in document.value.items():
        names: Any = [styles] if isinstance(styles, str) else styles
        if not isinstance(names, list) or not names:
            yield f"{document.at(track_id)}: {track_id} should have a list of style ids."
            continue
        for place, name in enumerate(names):
            if not isinstance(name, str):
                yield f"{document.at(track_id, place)}: {name!r} should be a style id in quotes."
            elif name in names[:place]:
                yield f"{document.at(track_id, place)}: {track_id} has the style {name} twice."
