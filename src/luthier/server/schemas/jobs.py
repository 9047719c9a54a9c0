"""Jobs as they are asked for and told of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from luthier.server.jobs.jobs import JobState
from luthier.server.schemas.envelope import Asked, Shape

Command = Literal[
    "curate", "prompts", "dataset_build", "dataset_check", "dataset_export",
    "train", "merge", "evaluate", "export",
]  # fmt: skip


class JobAsked(Asked):
    """A command of luthier, to be run below the server's data roots."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"command": "curate", "arguments": {"input_dir": "raw", "out": "curated"}},
                {
                    "command": "train",
                    "arguments": {"dataset": "set", "logs_dir": "runs", "exp_name": "lofi"},
                    "settings": {"rank": 16, "max_steps": 1000},
                },
            ]
        }
    )

    command: Command
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="by name; see docs/client.md for each command's"
    )
    settings: dict[str, Any] | None = Field(
        None, description="of train: its settings by the names of luthier train's flags"
    )


class JobShape(Shape):
    """A job as it stands."""

    job_id: str
    command: str
    arguments: dict[str, Any]
    state: JobState
    stage: str = Field(description="what is being done")
    progress: float = Field(description="of this stage, 0 to 1")
    note: str = Field(description="say, the loss")
    eta_s: float | None = Field(description="seconds left of this stage")
    created: float = Field(description="seconds since 1970, as started and ended")
    started: float | None
    ended: float | None
    stop_asked: bool
    code: int | None = Field(description="the command's exit code")
    error: str | None
    result: dict[str, Any] | None = Field(description="what the command printed with --json")


class JobPage(Shape):
    """Jobs, the newest first."""

    jobs: list[JobShape]
    next: int | None = Field(description="`before` of the page after")


class JobLog(Shape):
    """The end of what a job's command said."""

    job_id: str
    log: str


class JobGone(Shape):
    """A job that was deleted."""

    job_id: str
    deleted: bool
