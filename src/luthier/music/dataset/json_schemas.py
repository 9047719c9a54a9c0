"""The models of metadata files → JSON Schemas (draft 2020-12) for editors and other programs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from luthier.dataset.sources import SourceRecord
from luthier.music.dataset.records import Checkpoint, Dataset, Track
from luthier.music.dataset.style_preset import StylePreset

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: dict[str, type[BaseModel]] = {
    "track": Track,
    "style_preset": StylePreset,
    "source_record": SourceRecord,
    "checkpoint": Checkpoint,
    "dataset": Dataset,
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """A schema a model, by the name of its file without suffix."""
    return {
        name: {"$schema": DIALECT, **model.model_json_schema()} for name, model in MODELS.items()
    }
