"""One style: its tags by kind and its tempo range; and how to find the one that was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from luthier.errors import DatasetError
from luthier.music.dataset.taxonomy import CategoryName, TagText
from luthier.spelling import nearest

# The fields that hold tags, and the category of a prompt that each fills.
TAG_FIELDS: dict[str, CategoryName] = {
    "base_tags": "genre",
    "mood_options": "mood",
    "instruments": "instruments",
    "production": "production",
    "atmosphere": "atmosphere",
    "vocal_type": "vocal_type",
}

Category = Literal["core", "seasonal", "thematic", "instrumental", "vocal"]


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_Tags = tuple[TagText, ...]
_OneOrMany = BeforeValidator(_one_or_many, json_schema_input_type=str | _Tags)
_Bpm = Annotated[int, Field(ge=20, le=300)]


class StylePreset(BaseModel):
    """One style. Tags are words without commas; the lists of a parent follow the own ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style_id: str = Field(
        pattern=r"^(_[a-z0-9_]+|[A-Z]+-\d{2})$",
        description="such as CORE-01; one that begins with _ only serves as a parent",
    )
    name: str = Field(min_length=1)
    category: Category
    base_tags: _Tags = Field(description="genre")
    instruments: _Tags
    production: _Tags
    mood_options: _Tags = Field(description="moods, of which a track gets some")
    tempo_range: tuple[_Bpm, _Bpm] = Field(description="lowest and highest BPM")
    extends: Annotated[tuple[str, ...], _OneOrMany] = Field(
        default=(), description="parents, by style id"
    )
    atmosphere: Annotated[_Tags, _OneOrMany] = ()
    vocal_type: Annotated[_Tags, _OneOrMany] = ()

    @field_validator("tempo_range")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"[lowest, highest] BPM is the order, not [{value[0]}, {value[1]}]")
        return value

    @property
    def is_abstract(self) -> bool:
        """Whether it only serves as a parent (its id begins with an underscore)."""
        return self.style_id.startswith("_")


def find(style_id: str, presets: Mapping[str, StylePreset]) -> StylePreset:
    """The preset of `style_id`; `DatasetError` with the nearest known id when there is none."""
    if style_id in presets:
        return presets[style_id]
    near = nearest_style(style_id, presets)
    raise DatasetError(
        f"there is no style {style_id!r}; the nearest is {near!r} ({presets[near].name})."
    )


def nearest_style(text: str, presets: Mapping[str, StylePreset]) -> str:
    """The id of the style whose id or name is most like `text`."""
    names = {style_id.upper(): style_id for style_id in presets}
    names |= {preset.name.upper(): style_id for style_id, preset in presets.items()}
    return names[nearest(text.upper(), names)]
