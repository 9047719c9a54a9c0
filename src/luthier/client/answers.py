"""What a server answers, with types. Fields that are not known here are left aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from luthier import __version__
from luthier.client.errors import ServerError
from luthier.server.queue.task import ENDED, STATES, State


@dataclass(frozen=True)
class Submitted:
    """An accepted task.

    Attributes:
        queue_position: 1 is next.
        notes: what of the request was ignored or put right, in sentences.
    """

    id: str
    queue_position: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A piece of music that a task made.

    Attributes:
        file: where the server keeps it, for `Client.download`.
        sample_rate: Hz.
        model: that made it.
        request: as it was settled: every default filled in.
    """

    file: str
    seed: int
    duration_s: float
    sample_rate: int
    model: str
    request: dict[str, Any]


@dataclass(frozen=True)
class RemoteTask:
    """A task as it stands.

    Attributes:
        stage: what is being done, for people.
        progress: 0 to 1.
        queue_position: 1 is next; 0 when it does not wait.
        created, started, ended: seconds since 1970.
        error: of a failed task, a sentence.
        pieces: of a succeeded one.
    """

    id: str
    state: State
    stage: str
    progress: float
    queue_position: int
    attempts: int
    created: float
    started: float | None
    ended: float | None
    error: str | None
    pieces: tuple[Piece, ...]

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more by itself."""
        return self.state in ENDED

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took, by the server's calendar; 0 where that was set back."""
        if self.started is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.started)


@dataclass(frozen=True)
class Model:
    """A model of the server, and the tasks that it does."""

    name: str
    is_default: bool
    is_loaded: bool
    tasks: tuple[str, ...]


def submitted_of(data: Mapping[str, Any], extra: Any) -> Submitted:
    """Read the answer of `/release_task`."""
    try:
        notes = extra.get("notes", ()) if isinstance(extra, Mapping) else ()
        position = int(data.get("queue_position") or 0)
        return Submitted(str(data["task_id"]), position, tuple(map(str, notes)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange("an accepted task") from error


def task_of(data: Mapping[str, Any]) -> RemoteTask:
    """Read a task in the server's own shape."""
    try:
        if data["state"] not in STATES:
            raise ValueError(data["state"])
        return RemoteTask(
            id=str(data["task_id"]),
            state=cast(State, data["state"]),
            stage="".join(filter(str.isprintable, str(data["stage"]))),
            progress=float(data["progress"]),
            queue_position=int(data["queue_position"]),
            attempts=int(data["attempts"]),
            created=float(data["created"]),
            started=_seconds(data["started"]),
            ended=_seconds(data["ended"]),
            error=None if data["error"] is None else str(data["error"]),
            pieces=tuple(_piece(item) for item in data["results"] if item.get("file")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange("a task") from error


def model_of(data: Mapping[str, Any]) -> Model:
    """Read a row of `/v1/models`."""
    try:
        tasks = tuple(map(str, data["supported_task_types"]))
        return Model(str(data["name"]), bool(data["is_default"]), bool(data["is_loaded"]), tasks)
    except (KeyError, TypeError) as error:
        raise _strange("a model") from error


def _piece(item: Mapping[str, Any]) -> Piece:
    return Piece(
        file=str(item["file"]),
        seed=int(item["seed"]),
        duration_s=float(item["duration_s"]),
        sample_rate=int(item["sample_rate"]),
        model=str(item["dit_model"]),
        request=dict(item["request"]),
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _strange(what: str) -> ServerError:
    return ServerError(f"the server's answer is not {what} as luthier {__version__} knows it.")
