"""A task of the queue, read from its row. A damaged row becomes a failed task, not an error."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
ENDED: tuple[State, ...] = ("succeeded", "failed", "cancelled")
# What a result of music must have, so that nobody who reads it has to ask.
_RESULT = {"folder", "pieces", "model", "planner", "prompt", "lyrics", "facts", "seconds"}
_PIECE = {"path", "seed", "duration_s", "sample_rate", "timings_s", "request"}
DAMAGED = "the record of this task is damaged and cannot be read; send the request again."


@dataclass(frozen=True)
class Task:
    """One task as it stands.

    Attributes:
        turn: tasks are begun in this order.
        request: what to do, as it was accepted.
        uploads: the name of the folder with its uploaded files, if there were any.
        created, started, ended: seconds since 1970; `started` of the last attempt.
        change: grows with everything that happens to a task.
        folder: of the attempt that was just claimed, below the task's own among the results.
        attempts: how often it was begun.
        kind, model, work, client, priority: see `Traits`.
        round: of its client's tasks of that priority; see `order`.
        progress: 0 to 1.
        stage: what is being done, for people.
        result: of a succeeded task.
        error: of a failed one, a sentence.
        damaged: the row could not be read; what it says is made up from what could.
    """

    id: str
    turn: int
    state: State
    created: float
    change: int = 0
    request: dict[str, Any] = field(default_factory=dict)
    uploads: str | None = None
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    worker: str | None = None
    cancel_asked: bool = False
    progress: float = 0.0
    stage: str = "queued"
    result: dict[str, Any] | None = None
    error: str | None = None
    damaged: bool = False
    kind: str = ""
    model: str = ""
    work: float = 0.0
    client: str = ""
    priority: int = 0
    round: int = 0
    folder: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more by itself."""
        return self.state in ENDED


def task_of(row: sqlite3.Row) -> Task:
    """The task of a row of the table `tasks`."""
    try:
        return _read(row)
    except (ValueError, TypeError, KeyError, RecursionError):
        number = float(row["created"]) if isinstance(row["created"], int | float) else 0.0
        return Task(
            id=str(row["id"]),
            turn=row["turn"] if isinstance(row["turn"], int) else 0,
            state="failed",
            created=number,
            change=row["change"] if isinstance(row["change"], int) else 0,
            ended=number,
            stage="failed",
            error=DAMAGED,
            damaged=True,
        )


def _read(row: sqlite3.Row) -> Task:
    if row["state"] not in STATES:
        raise ValueError(row["state"])
    return Task(
        id=_text(row["id"]),
        turn=int(row["turn"]),
        state=row["state"],
        created=float(row["created"]),
        change=int(row["change"]),
        request=_object(row["request"]),
        uploads=None if row["uploads"] is None else _text(row["uploads"]),
        started=_seconds(row["started"]),
        ended=_seconds(row["ended"]),
        attempts=int(row["attempts"]),
        worker=row["worker"],
        cancel_asked=bool(row["cancel_asked"]),
        progress=float(row["progress"]),
        stage=_text(row["stage"]),
        result=None if row["result"] is None else _result(_object(row["result"])),
        error=None if row["error"] is None else _text(row["error"]),
        kind=_text(row["kind"]),
        model=_text(row["model"]),
        work=float(row["work"]),
        client=_text(row["client"]),
        priority=int(row["priority"]),
        round=int(row["round"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


def _object(value: Any) -> dict[str, Any]:
    found = json.loads(_text(value))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _result(found: dict[str, Any]) -> dict[str, Any]:
    if "pieces" in found:
        pieces = found["pieces"]
        if not found.keys() >= _RESULT or not isinstance(pieces, list) or not pieces:
            raise ValueError("not a result")
        if not all(isinstance(piece, dict) and piece.keys() >= _PIECE for piece in pieces):
            raise ValueError("not a piece")
    heard = found.get("heard", {"status_message": "", "audio_codes": ""})
    if not isinstance(heard, dict) or not heard.keys() >= {"status_message", "audio_codes"}:
        raise ValueError("nothing heard")
    return found


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
