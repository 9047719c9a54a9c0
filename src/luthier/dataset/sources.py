"""The licence gate: which tracks may train a model, by the records of where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from luthier.errors import DatasetError, LicenceError
from luthier.files import read_json

SOURCES_NAME = "sources.json"
_NAMED_TRACKS = 20  # how many refused tracks a message lists before it counts the rest

SourceType = Literal["commissioned", "royalty_free", "creative_commons", "partnership"]


class SourceRecord(BaseModel):
    """Where some tracks came from and what may be done with them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_id: str = Field(min_length=1)
    track_ids: tuple[str, ...] = Field(description="file names without suffix")
    source_type: SourceType
    provider: str = Field(min_length=1, description="who gave the tracks")
    license_type: str = Field(min_length=1, description="e.g. CC0-1.0, CC-BY-4.0, work for hire")
    date_acquired: date
    ai_training_allowed: bool = Field(
        default=False, description="true only where the licence says so; unclear means no"
    )
    cost: float | None = Field(default=None, ge=0, description="what was paid; for commissioned")
    verified_by: str | None = None
    evidence: str | None = Field(default=None, description="link or file that shows the licence")
    attribution: str | None = Field(default=None, description="the line that the licence asks for")
    notes: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SourceRecord:
        if self.source_type == "commissioned" and self.cost is None:
            raise ValueError("a commissioned source needs its cost (0 is allowed)")
        if self.date_acquired > date.today():
            raise ValueError(f"date_acquired {self.date_acquired} lies in the future")
        return self


def load_sources(path: Path) -> list[SourceRecord]:
    """Read `sources.json`, an array of records; `DatasetError` names a wrong record and field."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DatasetError(f"{path} should be a JSON array of source records.")
    return [_parsed(row, path, position) for position, row in enumerate(rows, start=1)]


def _parsed(row: Any, path: Path, position: int) -> SourceRecord:
    try:
        return SourceRecord.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        name = row.get("source_id", "") if isinstance(row, dict) else ""
        field = ".".join(map(str, first["loc"])) or "the record"
        reason = first["msg"].removeprefix("Value error, ")
        raise DatasetError(f"{path}, record {position} {name}: {field}: {reason}.") from error


def record_of(track_id: str, sources: Sequence[SourceRecord]) -> SourceRecord | None:
    """The record that names a track; one that forbids training goes before one that allows it."""
    found = [source for source in sources if track_id in source.track_ids]
    return min(found, key=lambda s: s.ai_training_allowed, default=None)


def require_licences(track_ids: Iterable[str], sources: Sequence[SourceRecord]) -> list[str]:
    """The licences of the tracks, sorted; `LicenceError` listing every track that may not train."""
    licences: set[str] = set()
    refused: list[str] = []
    for track_id in sorted(set(track_ids)):
        record = record_of(track_id, sources)
        if record is None:
            refused.append(f"{track_id} (no source record)")
        elif not record.ai_training_allowed:
            refused.append(f"{track_id} ({record.source_id} does not allow AI training)")
        else:
            licences.add(record.license_type)
    if refused:
        more = len(refused) - _NAMED_TRACKS
        names = ", ".join(refused[:_NAMED_TRACKS]) + (f" and {more} more" if more > 0 else "")
        raise LicenceError(
            f"{len(refused)} tracks may not be trained on: {names}. Add a record with "
            f'"ai_training_allowed": true to {SOURCES_NAME} where the licence says so, '
            "or take the tracks out."
        )
    return sorted(licences)
