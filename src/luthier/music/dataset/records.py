"""What the contract's metadata says of a track, a checkpoint and a data set, as types.

They are the source of `config/schemas/`, by which editors and other programs check such files.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.music.dataset.style_preset import Category

_StyleId = Annotated[str, Field(pattern=r"^[A-Z]+-\d{2}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Track(BaseModel):
    """One recording on its way into a training set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    track_id: str = Field(min_length=1, description="the audio file's name without suffix")
    filename: str = Field(min_length=1)
    audio_path: PurePosixPath
    prompt_path: PurePosixPath
    lyrics_path: PurePosixPath
    duration: float = Field(ge=30, le=240, description="seconds, as curation leaves them")
    sample_rate: Literal[48000]
    quality_score: int = Field(ge=0, le=100)
    style_ids: tuple[_StyleId, ...] = Field(min_length=1)
    source_id: str = Field(min_length=1, description="the licence record that allows training")
    split: Literal["train", "validation"]
    human_verified: bool = False


class Checkpoint(BaseModel):
    """One checkpoint of a training run, and what was measured of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint_id: str = Field(min_length=1, description="e.g. epoch=0-step=5000_lora")
    step: int = Field(ge=0)
    path: PurePosixPath
    timestamp: datetime
    is_valid: bool = Field(description="every file is there with the hash it was written with")
    config_hash: _Sha256
    dataset_hash: _Sha256
    fad_score: float | None = Field(default=None, ge=0, description="the lower, the nearer")
    clap_score: float | None = Field(default=None, ge=-1, le=1)
    samples_generated: int | None = Field(default=None, ge=0)


class Dataset(BaseModel):
    """`dataset_manifest.json`. Other fields may stand there too."""

    model_config = ConfigDict(extra="allow", frozen=True)

    dataset_id: str = Field(min_length=1)
    created: datetime
    track_count: int = Field(ge=1, description="unique tracks, before repetition")
    train_count: int = Field(ge=0)
    validation_count: int = Field(ge=0)
    total_duration: float = Field(ge=0, description="hours of the tracks, each once")
    style_distribution: dict[Category, int] = Field(description="tracks by first style's category")
    hash: _Sha256
