"""What was asked of each clip in a folder: from a list, a JSON file, or the clips' own records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from luthier.audio.keynames import parse_key
from luthier.errors import RequestError
from luthier.files import read_json
from luthier.provenance import read_record, run_path


class ClipRequest(BaseModel):
    """What one clip was asked to be; what was not asked is None and is not checked."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    file: str = Field(min_length=1, description="the clip, relative to the folder")
    bpm: float | None = Field(default=None, gt=0, le=400, description="tempo, beats per minute")
    key: str | None = Field(default=None, description='key, e.g. "A minor"')
    style_id: str | None = Field(default=None, description='style preset, e.g. "CORE-01"')
    prompt: str | None = Field(default=None, description="the words it was asked for with")
    task: str | None = Field(default=None, description="what was done; a repaint is checked")
    source_audio: Path | None = Field(default=None, description="the recording that was edited")
    repaint_start_s: float = Field(default=0.0, ge=0, description="the edited window, seconds")
    repaint_end_s: float | None = Field(default=None, gt=0, description="None is the end")

    @property
    def edited(self) -> Path | None:
        """The recording that a repaint started from, where it is still there."""
        found = self.task == "repaint" and self.source_audio and self.source_audio.is_file()
        return self.source_audio if found else None

    @field_validator("key")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            return parse_key(value).name
        except RequestError as error:
            raise ValueError(str(error)) from error


def parse_requests(
    rows: Sequence[Mapping[str, Any]], files: Sequence[str]
) -> dict[str, ClipRequest]:
    """Check `rows` against the clips that there are; raise one `RequestError` that names the row.

    Args:
        rows: mappings with `file` and any other field of `ClipRequest`; more keys are ignored.
        files: the clips' names relative to their folder.
    """
    found: dict[str, ClipRequest] = {}
    for number, row in enumerate(rows, 1):
        try:
            request = ClipRequest.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "row"
            raise RequestError(
                f"request {number} of {len(rows)}: {field}: {first['msg'].rstrip('.')}."
            ) from error
        if request.file not in files:
            raise RequestError(
                f"request {number} of {len(rows)} is about {request.file!r}, which is not among "
                f"the {len(files)} clips of the folder. Name clips relative to it."
            )
        if request.file in found:
            raise RequestError(f"there are two requests about {request.file!r}: keep one.")
        found[request.file] = request
    return found


def read_requests(path: Path) -> list[dict[str, Any]]:
    """Read a JSON file that holds a list of requests."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RequestError(
            f"{path} must hold a JSON list such as "
            '[{"file": "a.wav", "bpm": 84, "key": "A minor"}].'
        )
    return rows


def recorded_requests(folder: Path, files: Sequence[str]) -> list[dict[str, Any]]:
    """The requests in the clips' own `run.json` records; a clip without a record has none."""
    rows = []
    for name in files:
        record = run_path(folder / name)
        if record.is_file():
            config = read_record(record).get("config", {})
            # `generate` keeps the whole request under that name, and a style beside it.
            config = config | config.get("request", {})
            fields = ClipRequest.model_fields.keys() - {"file"}
            asked = {k: config[k] for k in sorted(fields) if config.get(k) not in (None, "")}
            if asked:
                rows.append({"file": name, **asked})
    return rows
