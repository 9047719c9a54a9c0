"""A file of style presets → presets by style id, checked, with their parents' tags merged in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from luthier.dataset.json_locations import (
    Document,
    Step,
    model_problems,
    raise_problems,
    read_document,
)
from luthier.errors import DatasetError
from luthier.music.dataset.style_preset import (
    TAG_FIELDS,
    Category,
    StylePreset,
    find,
    nearest_style,
)
from luthier.music.dataset.taxonomy import TagCategory, Taxonomy
from luthier.spelling import nearest

PRESETS_NAME = "style_presets.json"
BUILT_IN = Path(str(files("luthier.music.dataset"))) / PRESETS_NAME
DEFAULT_STYLE = "CORE-01"
_NEEDED = ("base_tags", "mood_options", "instruments", "production")

_Model = TypeVar("_Model", bound=BaseModel)

__all__ = [
    "BUILT_IN",
    "DEFAULT_STYLE",
    "Category",
    "StylePreset",
    "find",
    "load_presets",
    "load_taxonomy",
    "nearest",
    "nearest_style",
]


class _Place(NamedTuple):
    """Where in which document something stands."""

    document: Document
    steps: tuple[Step, ...]

    def at(self, *more: Step) -> str:
        return self.document.at(*self.steps, *more)


def presets_path() -> Path:
    """The presets in `$LOFI_CONFIG_DIR`, if that names a folder with some, else luthier's own."""
    folder = os.environ.get("LOFI_CONFIG_DIR")
    if folder and (own := Path(folder).expanduser() / PRESETS_NAME).is_file():
        return own
    return BUILT_IN


def load_presets(path: Path | None = None) -> dict[str, StylePreset]:
    """Read presets by style id, parents merged in and left out; None takes `presets_path()`.

    Tags are brought to their canonical forms.

    Raises:
        PathError: the file is missing or not JSON.
        DatasetError: all that is wrong with it, each with file, line and column.
    """
    document, taxonomy = _read(path)
    raw: dict[str, StylePreset] = {}
    places: dict[str, _Place] = {}
    problems: list[str] = []
    for place, row in _rows(document):
        preset = _parsed(row, StylePreset, place, problems)
        if preset is None:
            continue
        if preset.style_id in raw:
            problems.append(f"{place.at('style_id')}: {preset.style_id} is there twice.")
            continue
        problems += _unknown_tags(preset, taxonomy, place)
        raw[preset.style_id] = _canonical(preset, taxonomy)
        places[preset.style_id] = place
    raise_problems(problems)
    merged = {name: _with_parents(preset, raw, places, ()) for name, preset in raw.items()}
    styles = {name: preset for name, preset in merged.items() if not preset.is_abstract}
    raise_problems([gap for name in styles for gap in _gaps(styles[name], places[name])])
    return styles


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """The tags that presets may use: luthier's own, and those that the file adds to them."""
    return _read(path)[1]


def _read(path: Path | None) -> tuple[Document, Taxonomy]:
    document = read_document(path or presets_path())
    own = document if document.path == BUILT_IN else read_document(BUILT_IN)
    categories = _categories(own)
    if own is not document:
        categories += _categories(document)
    return document, Taxonomy(categories)


def _categories(document: Document) -> list[TagCategory]:
    rows = document.value.get("taxonomy", []) if isinstance(document.value, dict) else []
    if not isinstance(rows, list):
        raise DatasetError(f"{document.at('taxonomy')}: the taxonomy should be a list.")
    problems: list[str] = []
    parsed = [
        _parsed(row, TagCategory, _Place(document, ("taxonomy", number)), problems)
        for number, row in enumerate(rows)
    ]
    raise_problems(problems)
    return [category for category in parsed if category]


def _rows(document: Document) -> list[tuple[_Place, Any]]:
    is_object = isinstance(document.value, dict)
    rows = document.value.get("presets") if is_object else document.value
    if not isinstance(rows, list) or not rows:
        raise DatasetError(
            f'{document.at("presets")}: no presets are here: {{"presets": [...]}} is needed.'
        )
    before = ("presets",) if is_object else ()
    return [(_Place(document, (*before, number)), row) for number, row in enumerate(rows)]


def _parsed(row: Any, model: type[_Model], place: _Place, problems: list[str]) -> _Model | None:
    try:
        return model.model_validate(row)
    except ValidationError as error:
        problems += model_problems(error, place.document, *place.steps, fields=model.model_fields)
        return None


def _unknown_tags(preset: StylePreset, taxonomy: Taxonomy, place: _Place) -> list[str]:
    found = []
    for field, category in TAG_FIELDS.items():
        for number, tag in enumerate(getattr(preset, field)):
            if not taxonomy.holds(category, taxonomy.canonical(tag)):
                near = taxonomy.nearest(tag, [category])
                found.append(
                    f"{place.at(field, number)}: {tag!r} is no tag of {category}; the nearest "
                    f'is {near!r}. A tag of your own goes into the "taxonomy" of the file first.'
                )
    return found


def _canonical(preset: StylePreset, taxonomy: Taxonomy) -> StylePreset:
    lists = {
        field: tuple(taxonomy.canonical(tag) for tag in getattr(preset, field))
        for field in TAG_FIELDS
    }
    return preset.model_copy(update=lists)


def _with_parents(
    preset: StylePreset,
    raw: Mapping[str, StylePreset],
    places: Mapping[str, _Place],
    path: tuple[str, ...],
) -> StylePreset:
    place = places[preset.style_id]
    if preset.style_id in path:
        circle = " -> ".join([*path[path.index(preset.style_id) :], preset.style_id])
        raise DatasetError(
            f"{place.at('extends')}: styles extend each other in a circle: {circle}."
        )
    lists = {field: list(getattr(preset, field)) for field in TAG_FIELDS}
    for number, parent_id in enumerate(preset.extends):
        if parent_id not in raw:
            raise DatasetError(
                f"{place.at('extends', number)}: there is no style {parent_id!r} to extend; "
                f"the nearest is {nearest_style(parent_id, raw)!r}."
            )
        parent = _with_parents(raw[parent_id], raw, places, (*path, preset.style_id))
        for field in TAG_FIELDS:
            lists[field] += getattr(parent, field)
    return preset.model_copy(update={n: tuple(dict.fromkeys(v)) for n, v in lists.items()})


def _gaps(preset: StylePreset, place: _Place) -> list[str]:
    """What a style that tracks can have still lacks with its parents' tags."""
    return [
        f"{place.at(field)}: {preset.style_id} has no {field}, nor has a parent of it."
        for field in _NEEDED
        if not getattr(preset, field)
    ]
