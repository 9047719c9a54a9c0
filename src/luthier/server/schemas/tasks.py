"""What is said of tasks: when they are accepted, when clients ask, and in our own shape."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from luthier.server.schemas.envelope import Asked, Shape

AnyState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_Unknown = Literal["N/A"]


class Queued(Shape):
    """An accepted task: it is on the disk."""

    task_id: str
    status: AnyState = Field(description="`queued`; of a request that was sent before, what it is")
    queue_position: int = Field(ge=0, description="1 is next; 0: it waits no more")


class RowsAsked(Asked):
    """Which tasks to tell of."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"task_id_list": ["0b6e5f9e-4f1c-4f8a-9d55-1d4ff1a1a9b1"]}]}
    )

    task_id_list: list[Any] | str | None = Field(
        None, max_length=1000, description="ids; a list, or JSON text of one"
    )


class Metas(Shape):
    """The facts of a piece as they were settled; `N/A` where there is none."""

    bpm: float | _Unknown
    duration: float | _Unknown = Field(description="seconds")
    genres: str
    keyscale: str
    timesignature: str
    prompt: str = Field(description="as it was sent")
    lyrics: str = Field(description="as they were sent")


class Waiting(Shape):
    """What `result` holds, in a list of one, until a task has succeeded, and when it failed."""

    file: Literal[""]
    wave: Literal[""]
    status: Literal[0, 2]
    create_time: int = Field(description="seconds since 1970")
    env: str
    stage: str = Field(description="what is being done, for people")
    progress: float = Field(ge=0, le=1)
    prompt: str
    lyrics: str
    metas: dict[str, Any]
    error: str | None = Field(description="of a failed or cancelled task, a sentence")
    eta_seconds: float | None = Field(description="until it is done, as far as is known")


class PieceItem(Shape):
    """What `result` holds for each piece of a succeeded task."""

    file: str = Field(description="where to download it, on this server")
    wave: Literal[""]
    status: Literal[1]
    create_time: int
    env: str
    stage: str
    progress: float
    prompt: str = Field(description="as it was played: the planner may have written it")
    lyrics: str
    metas: Metas
    generation_info: str = Field(description="Markdown: how long each part took")
    seed_value: str = Field(description="the seeds of all pieces, by commas")
    lm_model: str
    dit_model: str
    error: None
    seed: int = Field(description="of this piece")
    duration_s: float
    sample_rate: int
    request: dict[str, Any] = Field(description="everything as it was settled")


class FoundItem(Shape):
    """What `result` holds of a succeeded task that made no music: an analysis, audio codes."""

    file: Literal[""]
    wave: Literal[""]
    status: Literal[1]
    create_time: int
    env: str
    stage: str
    progress: float
    status_message: str
    bpm: float | None
    keyscale: str
    timesignature: str
    duration: float | None = Field(description="seconds")
    genre: str
    prompt: str = Field(description="a caption, where a planner heard the recording")
    lyrics: str
    language: str
    metas: Metas
    audio_codes: str = Field(description="`<|audio_code_N|>` one after another")
    audio_paths: list[str] = Field(max_length=0)
    error: None


_ITEMS: dict[str, Any] = {
    "type": "array",
    "items": {
        "anyOf": [
            {"$ref": f"#/components/schemas/{kind.__name__}"}
            for kind in (PieceItem, FoundItem, Waiting)
        ]
    },
}


class Row(Shape):
    """A task as `/query_result` answers it."""

    task_id: str
    result: str = Field(
        description="JSON text of a list: an item for each piece; one for a task without pieces; "
        "none for an unknown id",
        json_schema_extra={"contentMediaType": "application/json", "contentSchema": _ITEMS},
    )
    status: Literal[0, 1, 2] = Field(description="0 queued or running, 1 succeeded, 2 ended else")
    progress_text: str | None = None


class TaskFacts(Shape):
    """A task in this server's own shape."""

    task_id: str
    state: AnyState
    stage: str = Field(description="what is being done, for people")
    progress: float = Field(ge=0, le=1)
    queue_position: int = Field(ge=0, description="1 is next; 0: it does not wait")
    eta_seconds: float | None = Field(description="until it is done, as far as is known")
    attempts: int = Field(ge=0, description="how often it was begun")
    cancel_asked: bool
    created: float = Field(description="seconds since 1970")
    started: float | None = Field(description="of the last attempt")
    ended: float | None
    error: str | None = Field(description="of a failed task, a sentence")
    results: list[PieceItem | FoundItem] = Field(description="of a succeeded task")


class Page(Shape):
    """Some tasks, the newest first."""

    tasks: list[TaskFacts]
    next: int | None = Field(description="the `before` of the next page; none at the end")


class Deleted(Shape):
    """A task that is forgotten."""

    task_id: str
    deleted: Literal[True]


EXAMPLE_ROW = {
    "task_id": "0b6e5f9e-4f1c-4f8a-9d55-1d4ff1a1a9b1",
    "result": '[{"file": "", "wave": "", "status": 0, "create_time": 1790000000, '
    '"env": "development", "stage": "queued", "progress": 0.0, "prompt": "", "lyrics": "", '
    '"metas": {}, "error": null, "eta_seconds": 12.5}]',
    "status": 0,
    "progress_text": "queued",
}
EXAMPLE_TASK = {
    "task_id": EXAMPLE_ROW["task_id"],
    "state": "running",
    "stage": "Generating music (batch size: 1)...",
    "progress": 0.6,
    "queue_position": 0,
    "eta_seconds": 3.1,
    "attempts": 1,
    "cancel_asked": False,
    "created": 1790000000.0,
    "started": 1790000001.5,
    "ended": None,
    "error": None,
    "results": [],
}
