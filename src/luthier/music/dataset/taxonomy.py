"""The words that prompts are made of: seven categories in the order of a prompt, each tag in its
canonical form.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from luthier.audio.keynames import parse_key
from luthier.errors import RequestError

CategoryName = Literal[
    "genre", "mood", "instruments", "tempo", "production", "atmosphere", "vocal_type"
]
TAG_ORDER: tuple[CategoryName, ...] = get_args(CategoryName)
LONGEST_TAG = 64  # characters
_BPM = re.compile(r"\d{2,3} bpm")


def tidy(text: str) -> str:
    """A tag with single spaces and no capitals, but for the letter of a key ("A minor")."""
    words = " ".join(text.split())
    if re.fullmatch(r"\S+ (major|minor)", words, re.IGNORECASE):
        try:
            return parse_key(words).name
        except RequestError:
            pass
    return words.lower()


def tag_problem(text: str) -> str | None:
    """Why `text` cannot be a tag, as half a sentence; None when it can."""
    if not text.strip():
        return "a tag is not empty"
    if "," in text or not text.isprintable():
        return f"a tag is a word or a few, without commas and line breaks, not {text!r}"
    if len(text) > LONGEST_TAG:
        return f"a tag has at most {LONGEST_TAG} characters, not {len(text)}: {text!r}"
    return None


def _checked(tag: str) -> str:
    if problem := tag_problem(tag):
        raise ValueError(problem)
    return tag


TagText = Annotated[
    str,
    AfterValidator(_checked),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": LONGEST_TAG, "pattern": r"^[^,\n\r]+$"}
    ),
]


class TagCategory(BaseModel):
    """One category: its tags, and other spellings with the tag that each stands for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: CategoryName
    tags: tuple[TagText, ...] = Field(description="canonical forms, lower case")
    canonical_forms: dict[str, str] = Field(default={}, description="other spelling -> tag")

    @field_validator("tags")
    @classmethod
    def _canonical(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for tag in value:
            if tag != tidy(tag):
                raise ValueError(f"the canonical form of {tag!r} is {tidy(tag)!r}")
        if repeated := {tag for tag in value if value.count(tag) > 1}:
            raise ValueError(f"{', '.join(sorted(repeated))} is there twice")
        return value

    @model_validator(mode="after")
    def _aliases_lead_to_tags(self) -> TagCategory:
        for alias, tag in self.canonical_forms.items():
            if alias in self.tags:
                raise ValueError(f"{alias!r} is a tag itself, so it has no other canonical form")
            if alias != tidy(alias):
                raise ValueError(f"the other spelling {alias!r} is looked up as {tidy(alias)!r}")
            if tag not in self.tags:
                raise ValueError(f"{alias!r} stands for {tag!r}, which is no tag of the category")
        return self


class Taxonomy:
    """What tags there are. A tag may be in two categories (vinyl crackle is)."""

    def __init__(self, categories: Iterable[TagCategory]) -> None:
        self._tags: dict[CategoryName, dict[str, None]] = {name: {} for name in TAG_ORDER}
        self._aliases: dict[str, str] = {}
        for row in categories:
            self._tags[row.category].update(dict.fromkeys(row.tags))
            self._aliases.update(row.canonical_forms)

    def canonical(self, tag: str) -> str:
        """The one spelling of a tag: "Rhodes  Piano" is "rhodes". Unknown ones are only tidied."""
        tag = tidy(tag)
        return self._aliases.get(tag, tag)

    def tags(self, category: CategoryName) -> tuple[str, ...]:
        """The canonical tags of a category."""
        return tuple(self._tags[category])

    def holds(self, category: CategoryName, tag: str) -> bool:
        """Whether the canonical `tag` belongs to `category`."""
        if category == "tempo" and (_BPM.fullmatch(tag) or tag.endswith((" major", " minor"))):
            return True
        return tag in self._tags[category]

    def category_of(self, tag: str) -> CategoryName | None:
        """The first category with the canonical `tag`; None when there is none."""
        return next((name for name in TAG_ORDER if self.holds(name, tag)), None)

    def nearest(self, tag: str, categories: Sequence[CategoryName] = TAG_ORDER) -> str:
        """The known tag that is most like `tag`."""
        known = {spelling: spelling for name in categories for spelling in self._tags[name]}
        known |= {a: t for a, t in self._aliases.items() if t in known}
        near = difflib.get_close_matches(tidy(tag), known, n=1, cutoff=0.0)
        return known[near[0]] if near else ""
