"""The bodies and answers of ACE-Step's data set routes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, ConfigDict, Field

from luthier.server.schemas.envelope import Asked, Shape

TagPosition = Literal["prepend", "append", "replace"]
TaskState = Literal["idle", "running", "completed", "failed"]


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class ScanAsked(Asked):
    """Make a data set of a folder's recordings."""

    model_config = _example(audio_dir="raw", dataset_name="calm", all_instrumental=True)
    audio_dir: str = Field(min_length=1, description="below a --data-root")
    dataset_name: str = Field("my_lora_dataset", min_length=1, max_length=200)
    custom_tag: str = Field("", max_length=200, description="a word that calls the style up")
    tag_position: TagPosition = Field("replace", description="of the tag, to the caption")
    all_instrumental: bool = Field(True, description="recordings without lyrics beside them")


class DatasetLoadAsked(Asked):
    """Work on a data set file of ACE-Step 1.5."""

    model_config = _example(dataset_path="raw/calm.json")
    dataset_path: str = Field(min_length=1, description="below a --data-root")


class SaveAsked(Asked):
    """Write the working data set, as ACE-Step 1.5 reads it."""

    model_config = _example(save_path="raw/calm.json", dataset_name="calm")
    save_path: str = Field(min_length=1, description="a .json file below a --data-root")
    dataset_name: str = Field("my_lora_dataset", min_length=1, max_length=200)
    custom_tag: str | None = Field(None, max_length=200, description="of all samples")
    tag_position: TagPosition | None = None
    all_instrumental: bool | None = None
    genre_ratio: int | None = Field(None, ge=0, le=100, description="kept, without effect")


class SampleChange(Asked):
    """What changes of a sample; what is left out stays. It counts as labelled afterwards."""

    model_config = _example(caption="calm piano, rain", bpm=72, keyscale="A minor")
    sample_idx: int | None = Field(None, description="the path's counts")
    caption: str = Field("", max_length=2000)
    genre: str = Field("", max_length=500)
    prompt_override: Literal["caption", "genre"] | None = Field(
        None, description="what is trained with, for this sample"
    )
    lyrics: str = Field("[Instrumental]", max_length=20_000)
    bpm: float | None = Field(None, ge=0, le=300)
    keyscale: str = Field("", max_length=32)
    timesignature: str = Field("", max_length=16)
    language: str = Field("unknown", max_length=32)
    is_instrumental: bool = True


class LabelAsked(Asked):
    """Hear the recordings: tempo, key, metre; and a caption from those and their styles."""

    model_config = _example(only_unlabeled=True)
    skip_metas: bool = Field(False, description="captions only")
    format_lyrics: bool = Field(False, description="without effect")
    transcribe_lyrics: bool = Field(False, description="without effect")
    only_unlabeled: bool = False
    lm_model_path: str | None = Field(None, description="without effect")
    save_path: str | None = Field(None, description="a .json file that the labels are saved to")
    chunk_size: int = Field(
        16,
        ge=1,
        validation_alias=AliasChoices("chunk_size", "hunk_size", "hunksize"),
        description="without effect, as batch_size",
    )
    batch_size: int = Field(1, ge=1, validation_alias=AliasChoices("batch_size", "batchsize"))


class PreprocessAsked(Asked):
    """Build the data set that a training takes as `tensor_dir`, of the labelled samples."""

    model_config = _example(output_dir="set")
    output_dir: str = Field(min_length=1, description="a new folder, or a data set, below a root")
    skip_existing: bool = Field(False, description="without effect: a data set is built whole")
    metadata: str | None = Field(
        None, description="the folder with sources.json; where the recordings or the file lie"
    )


class SampleRow(Shape):
    """A sample, as lists show it."""

    index: int
    filename: str
    audio_path: str
    duration: float = Field(description="seconds; 0 until it was heard")
    caption: str
    genre: str
    prompt_override: str | None
    lyrics: str
    bpm: float | None
    keyscale: str
    timesignature: str
    language: str
    is_instrumental: bool
    labeled: bool


class SampleWhole(SampleRow):
    """A sample with what else upstream's file says of it."""

    id: str
    raw_lyrics: str
    formatted_lyrics: str
    custom_tag: str


class Scanned(Shape):
    """What was found in a folder."""

    message: str
    num_samples: int
    samples: list[SampleRow]


class DatasetShape(Shape):
    """The working data set."""

    dataset_name: str
    num_samples: int
    labeled_count: int
    samples: list[SampleRow]


class DatasetLoaded(DatasetShape):
    """The data set that was loaded."""

    message: str


class Saved(Shape):
    """Where it was written."""

    message: str
    save_path: str


class SampleChanged(Shape):
    """The sample after the change."""

    message: str
    sample: SampleWhole


class TaskBegun(Shape):
    """Work that was accepted: a job, whose id this is. Without work there is none."""

    task_id: str | None
    message: str
    total: int = Field(description="samples")


class Labelled(Shape):
    """What labelling made."""

    message: str
    labeled_count: int
    samples: list[SampleRow]


class Preprocessed(Shape):
    """What is there to train on."""

    message: str
    output_dir: str
    num_tensors: int = Field(description="tracks")


class PreprocessStatus(Shape):
    """How building is doing."""

    task_id: str | None
    status: TaskState
    progress: str
    current: int
    total: int
    result: Preprocessed | None
    error: str | None


class LabelStatus(Shape):
    """How labelling is doing."""

    task_id: str | None
    status: TaskState
    progress: str
    current: int
    total: int
    save_path: str | None
    last_updated_index: int | None
    last_updated_sample: SampleWhole | None
    result: Labelled | None
    error: str | None
