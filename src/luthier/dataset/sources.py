"""`sources.json`: where tracks came from, and what their licences allow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from luthier.dataset.json_locations import (
    Document,
    Step,
    model_problems,
    raise_problems,
    read_document,
)
from luthier.errors import DatasetError

SOURCES_NAME = "sources.json"

SourceType = Literal["commissioned", "royalty_free", "creative_commons", "partnership"]
CcFlag = Literal["BY", "NC", "ND", "SA"]

_CC_NAME = re.compile(r"\bCC[ _-]?((?:BY|NC|ND|SA)(?:[ _-](?:BY|NC|ND|SA))*)\b", re.IGNORECASE)


class SourceRecord(BaseModel):
    """Where some tracks came from and what may be done with them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source_id: str = Field(min_length=1)
    track_ids: tuple[str, ...] = Field(description="file names without suffix")
    source_type: SourceType
    provider: str = Field(min_length=1, description="who gave the tracks")
    license_type: str = Field(min_length=1, description="e.g. CC0-1.0, CC-BY-4.0, work for hire")
    date_acquired: date = Field(description="YYYY-MM-DD")
    ai_training_allowed: StrictBool | None = Field(
        default=None, description="true only where the licence says so; unknown counts as no"
    )
    cost: float | None = Field(default=None, ge=0, description="what was paid; for commissioned")
    verified_by: str | None = Field(default=None, description="who read the licence")
    evidence: str | None = Field(default=None, description="link or file that shows the licence")
    attribution: str | None = Field(default=None, description="the line that the licence asks for")
    cc_flags: tuple[CcFlag, ...] = Field(
        default=(), description="BY, NC, ND, SA; taken from license_type where that names them"
    )
    notes: str | None = None

    @field_validator("source_type", mode="before")
    @classmethod
    def _folder_spelling(cls, value: Any) -> Any:
        # Folders of tracks are named "royalty-free" and "partnerships".
        name = value.replace("-", "_") if isinstance(value, str) else value
        return "partnership" if name == "partnerships" else name

    @field_validator("date_acquired", mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        if not isinstance(value, str | date):
            raise ValueError(f'a date is written "YYYY-MM-DD", not {value!r}')
        return value

    @model_validator(mode="after")
    def _consistent(self) -> SourceRecord:
        if self.source_type == "commissioned" and self.cost is None:
            raise ValueError("a commissioned source needs its cost (0 is allowed)")
        if self.date_acquired > date.today():
            raise ValueError(f"date_acquired {self.date_acquired} lies in the future")
        for track_id, count in Counter(self.track_ids).items():
            if count > 1:
                raise ValueError(f"track_ids names {track_id!r} {count} times")
        named = cc_flags_of(self.license_type)
        if self.cc_flags and named and set(self.cc_flags) != set(named):
            raise ValueError(
                f"cc_flags {', '.join(self.cc_flags)} contradict license_type {self.license_type}"
            )
        if {"ND", "SA"} <= set(self.flags):
            raise ValueError("ND and SA exclude each other")
        return self

    @property
    def flags(self) -> tuple[CcFlag, ...]:
        """The Creative Commons flags, stated or named by the licence."""
        return self.cc_flags or cc_flags_of(self.license_type)

    @property
    def attribution_line(self) -> str:
        """The credit to print: as stated, else composed where the licence asks for one."""
        composed = f"{self.provider}, {self.license_type}" if "BY" in self.flags else ""
        return self.attribution or composed

    def to_row(self) -> dict[str, Any]:
        """The record as `sources.json` holds it, without what was not said."""
        return self.model_dump(mode="json", exclude_defaults=True)


def cc_flags_of(license_type: str) -> tuple[CcFlag, ...]:
    """The flags that a licence's name states: "CC-BY-NC-4.0" → BY, NC."""
    match = _CC_NAME.search(license_type)
    words = re.split(r"[ _-]", match[1].upper()) if match else []
    return tuple(flag for flag in get_args(CcFlag) if flag in words)


def load_sources(path: Path) -> list[SourceRecord]:
    """Read `sources.json`: an array of records, or an object of them by track id.

    Raises:
        PathError: the file is missing, unreadable or not JSON.
        DatasetError: records are wrong, each said with line and field; or an id stands twice.
    """
    return sources_of(read_document(path))


def sources_of(document: Document) -> list[SourceRecord]:
    """The records of a document that was read; raises as `load_sources` does."""
    records: dict[str, SourceRecord] = {}
    problems: list[str] = []
    for steps, row in _rows(document):
        try:
            record = SourceRecord.model_validate(row)
        except ValidationError as error:
            problems += model_problems(error, document, *steps)
            continue
        known = records.get(record.source_id)
        if known is None:
            records[record.source_id] = record
        elif isinstance(document.value, dict) and _same_source(known, record):
            tracks = (*known.track_ids, *record.track_ids)
            records[record.source_id] = known.model_copy(update={"track_ids": tracks})
        else:
            problems.append(
                f"{document.at(*steps)}: the source {record.source_id!r} is there twice"
                + (" with different facts." if isinstance(document.value, dict) else ".")
            )
    raise_problems(problems)
    return list(records.values())


def _rows(document: Document) -> Iterator[tuple[tuple[Step, ...], Any]]:
    value = document.value
    if isinstance(value, list):
        yield from (((place,), row) for place, row in enumerate(value))
    elif isinstance(value, dict):
        for name, row in value.items():
            # Keyed by track, or (where the record lists its tracks) by source.
            given = (
                {"source_id": name, "track_ids": [name], **row} if isinstance(row, dict) else row
            )
            yield (name,), given
    else:
        raise DatasetError(
            f"{document.path} should be a JSON array of source records, or an object of them "
            "by track id."
        )


def _same_source(one: SourceRecord, other: SourceRecord) -> bool:
    return one.model_copy(update={"track_ids": other.track_ids}) == other


def records_by_track(sources: Iterable[SourceRecord]) -> Mapping[str, list[SourceRecord]]:
    """Every record that names a track, by track id."""
    index: dict[str, list[SourceRecord]] = {}
    for source in sources:
        for track_id in source.track_ids:
            index.setdefault(track_id, []).append(source)
    return index


def record_of(track_id: str, sources: Sequence[SourceRecord]) -> SourceRecord | None:
    """The record that names a track; one that does not allow training goes before one that does."""
    return strictest(records_by_track(sources).get(track_id, []))


def strictest(records: Sequence[SourceRecord]) -> SourceRecord | None:
    """Of the records of one track the one that counts."""
    return min(records, key=lambda r: r.ai_training_allowed is True, default=None)
