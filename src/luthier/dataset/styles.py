"""Style presets: what a style id such as CORE-01 means in tags and tempo."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from luthier.errors import DatasetError
from luthier.files import read_json

BUILT_IN = Path(str(files("luthier.dataset"))) / "style_presets.json"
DEFAULT_STYLE = "CORE-01"
_LISTS = ("base_tags", "mood_options", "instruments", "production", "atmosphere", "vocal_type")

Category = Literal["core", "seasonal", "thematic", "instrumental", "vocal"]


class StylePreset(BaseModel):
    """One style. Tags are words without commas; the lists of a parent follow the own ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style_id: str = Field(pattern=r"^(_[a-z0-9_]+|[A-Z]+-\d{2})$")
    name: str
    category: Category
    base_tags: tuple[str, ...] = Field(description="genre")
    instruments: tuple[str, ...]
    production: tuple[str, ...]
    mood_options: tuple[str, ...] = Field(description="moods, of which a track gets some")
    tempo_range: tuple[int, int] = Field(description="lowest and highest BPM")
    extends: tuple[str, ...] = ()
    atmosphere: tuple[str, ...] = ()
    vocal_type: tuple[str, ...] = ()

    @field_validator("extends", "atmosphere", "vocal_type", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("tempo_range")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 20 <= value[0] <= value[1] <= 300:
            raise ValueError(f"tempo_range is [lowest, highest] within 20..300 BPM, not {value}")
        return value

    @field_validator(*_LISTS)
    @classmethod
    def _plain_tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for tag in value:
            if not tag.strip() or "," in tag or "\n" in tag:
                raise ValueError(f"a tag is a word or a few, without commas, not {tag!r}")
        return value

    @property
    def is_abstract(self) -> bool:
        """Whether it only serves as a parent (its id begins with an underscore)."""
        return self.style_id.startswith("_")


def load_presets(path: Path | None = None) -> dict[str, StylePreset]:
    """Read presets by style id, parents merged in and left out; None takes luthier's own 38.

    Raises:
        PathError: the file is missing or not JSON.
        DatasetError: a preset is wrong, said with its place and field.
    """
    source = path or BUILT_IN
    document = read_json(source)
    rows = document.get("presets") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not rows:
        raise DatasetError(f'{source} holds no presets: it should be {{"presets": [...]}}.')
    raw: dict[str, StylePreset] = {}
    for position, row in enumerate(rows, start=1):
        preset = _parsed(row, f"{source}, preset {position}")
        if preset.style_id in raw:
            raise DatasetError(f"{source}: the style {preset.style_id} is there twice.")
        raw[preset.style_id] = preset
    merged = {name: _with_parents(preset, raw, ()) for name, preset in raw.items()}
    return {name: preset for name, preset in merged.items() if not preset.is_abstract}


def _parsed(row: Any, where: str) -> StylePreset:
    try:
        return StylePreset.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        name = row.get("style_id", "") if isinstance(row, dict) else ""
        field = ".".join(map(str, first["loc"])) or "the row"
        reason = first["msg"].removeprefix("Value error, ")
        raise DatasetError(f"{where} {name}: {field}: {reason}.") from error


def _with_parents(
    preset: StylePreset, raw: Mapping[str, StylePreset], path: tuple[str, ...]
) -> StylePreset:
    if preset.style_id in path:
        raise DatasetError(f"styles extend each other in a circle: {' -> '.join(path)}.")
    lists = {name: list(getattr(preset, name)) for name in _LISTS}
    for parent_id in preset.extends:
        parent = _with_parents(find(parent_id, raw), raw, (*path, preset.style_id))
        for name in _LISTS:
            lists[name] += getattr(parent, name)
    return preset.model_copy(update={n: tuple(dict.fromkeys(v)) for n, v in lists.items()})


def find(style_id: str, presets: Mapping[str, StylePreset]) -> StylePreset:
    """The preset of `style_id`; `DatasetError` with the nearest known id when there is none."""
    if style_id in presets:
        return presets[style_id]
    near = nearest(style_id, presets)
    raise DatasetError(
        f"there is no style {style_id!r}; the nearest is {near!r} ({presets[near].name})."
    )


def nearest(text: str, known: Iterable[str]) -> str:
    """The most similar of the `known` names."""
    names = sorted(known)
    upper = {name.upper(): name for name in names}
    return upper[difflib.get_close_matches(text.upper(), upper, n=1, cutoff=0.0)[0]]
