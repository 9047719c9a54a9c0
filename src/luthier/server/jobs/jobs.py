"""Long work of the command line, as rows: what is asked for, which process does it, how it ends."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from luthier.server.http.errors import ConflictError, NotFoundError, QueueFullError
from luthier.server.jobs.process import Process
from luthier.server.queue.database import Store
from luthier.server.queue.folders import note, written
from luthier.server.queue.inventory import Inventory

JobState = Literal["queued", "running", "succeeded", "failed", "stopped", "interrupted"]
JOB_STATES: tuple[JobState, ...] = get_args(JobState)
ALIVE = ("queued", "running")
_MOST_WAITING = 50
# What a job's folder holds: see `job_runner`.
_FILES = (*written("exit.json", "process.json", "settings.json"), "log.txt", "result.json")
_MOST_KEPT = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    command TEXT NOT NULL,
    arguments TEXT NOT NULL,
    words TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    pid INTEGER,
    born TEXT,
    stop_asked REAL,
    code INTEGER,
    error TEXT
)
"""


@dataclass(frozen=True)
class Job:
    """One job as it stands.

    Attributes:
        command: by its name in `job_forms.COMMANDS`.
        arguments: what was asked for, for those who look.
        words: of the command line, without `luthier`.
        created, started, ended, stop_asked: seconds since 1970.
        code: the command's exit code.
        error: of a job that did not succeed, a sentence.
    """

    id: str
    number: int
    command: str
    state: JobState
    created: float
    arguments: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    started: float | None = None
    ended: float | None = None
    process: Process | None = None
    stop_asked: float | None = None
    code: int | None = None
    error: str | None = None


class Jobs:
    """The jobs of one database."""

    def __init__(self, store: Store) -> None:
        self._store, self.inventory = store, Inventory(store)
        with store.transaction() as connection:
            connection.execute(_SCHEMA)

    def add(self, command: str, arguments: Mapping[str, Any], words: Sequence[str]) -> Job:
        """Accept a job; it waits for its turn.

        Raises:
            QueueFullError: too many wait.
        """
        identity = str(uuid.uuid4())
        with self._store.transaction() as connection:
            waiting = connection.execute("SELECT COUNT(*) FROM jobs WHERE state = 'queued'")
            if waiting.fetchone()[0] >= _MOST_WAITING:
                raise QueueFullError(_MOST_WAITING, 60)
            connection.execute(
                "INSERT INTO jobs (id, command, arguments, words, state, created) "
                "VALUES (?, ?, ?, ?, 'queued', ?)",
                (identity, command, json.dumps(dict(arguments)), json.dumps(list(words)),
                 time.time()),
            )  # fmt: skip
        return self.get(identity)

    def get(self, identity: str) -> Job:
        """One job; raise `NotFoundError` when there is none of that id."""
        rows = self._store.rows("SELECT * FROM jobs WHERE id = ?", (identity,))
        if not rows:
            raise NotFoundError("there is no such job.")
        return _job(rows[0])

    def page(self, limit: int = 50, before: int | None = None) -> list[Job]:
        """Jobs, the newest first; `before` is the number of the last one of the page before."""
        rows = self._store.rows(
            "SELECT * FROM jobs WHERE (?1 IS NULL OR number < ?1) ORDER BY number DESC LIMIT ?2",
            (before, limit),
        )
        return [_job(row) for row in rows]

    def alive(self) -> list[Job]:
        """Those that wait or run, the oldest first."""
        rows = self._store.rows(
            "SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY number"
        )
        return [_job(row) for row in rows]

    def newest(self, *commands: str) -> Job | None:
        """The job of these commands that came last."""
        marks = ",".join("?" * len(commands))
        rows = self._store.rows(
            f"SELECT * FROM jobs WHERE command IN ({marks}) ORDER BY number DESC LIMIT 1", commands
        )
        return _job(rows[0]) if rows else None

    def starts(self, job: Job) -> bool:
        """It is about to begin; False when somebody stopped it meanwhile."""
        return self._changed(
            "state = 'running', started = ?, pid = NULL", job, (time.time(),), state="queued"
        )

    def runs(self, job: Job, process: Process) -> None:
        """Its process is there."""
        self._changed("pid = ?, born = ?", job, (process.pid, process.born), state="running")

    def ends(self, job: Job, state: JobState, code: int | None, error: str | None) -> None:
        """It has ended, in this state."""
        self._changed(
            "state = ?, ended = ?, code = ?, error = ?",
            job,
            (state, time.time(), code, error),
            state="running",
        )

    def stop(self, identity: str) -> Job:
        """End a waiting job, or ask a running one to stop; one that has ended stays as it is."""
        job, now = self.get(identity), time.time()
        self._changed("state = 'stopped', ended = ?", job, (now,), state="queued")
        self._changed("stop_asked = COALESCE(stop_asked, ?)", job, (now,), state="running")
        return self.get(identity)

    def again(self, identity: str, words: Sequence[str]) -> Job:
        """Put a job that did not succeed into the queue again, with these words.

        Raises:
            ConflictError: it waits, runs or has succeeded.
        """
        job = self.get(identity)
        values = (json.dumps(list(words)),)
        what = (
            "state = 'queued', words = ?, started = NULL, ended = NULL, pid = NULL, born = NULL, "
            "stop_asked = NULL, code = NULL, error = NULL"
        )
        if job.state in (*ALIVE, "succeeded") or not self._changed(
            what, job, values, state=job.state
        ):
            raise ConflictError(f"only a job that did not succeed can go on; it is {job.state}.")
        return self.get(identity)

    def delete(self, identity: str) -> Job:
        """Forget a job that has ended, with its folder; return what it was."""
        job = self.get(identity)
        with self._store.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM jobs WHERE id = ? AND state NOT IN ('queued', 'running')", (identity,)
            )
            if gone.rowcount == 1:
                _doom(connection, identity)
        if gone.rowcount != 1:
            raise ConflictError("the job has not ended: stop it first, then delete it.")
        self.inventory.sweep(identity)
        return job

    def retire(self) -> None:
        """Forget the oldest ended jobs beyond what is kept, with their folders."""
        with self._store.transaction() as connection:
            rows = connection.execute(
                "DELETE FROM jobs WHERE state NOT IN ('queued', 'running') AND number NOT IN "
                "(SELECT number FROM jobs ORDER BY number DESC LIMIT ?) RETURNING id",
                (_MOST_KEPT,),
            ).fetchall()
            for row in rows:
                _doom(connection, str(row["id"]))
        for row in rows:
            self.inventory.sweep(str(row["id"]))

    def _changed(self, what: str, job: Job, values: Sequence[Any], *, state: JobState) -> bool:
        with self._store.transaction() as connection:
            done = connection.execute(
                f"UPDATE jobs SET {what} WHERE id = ? AND state = ?", (*values, job.id, state)
            )
        return done.rowcount == 1


def _doom(connection: sqlite3.Connection, identity: str) -> None:
    note(connection, "jobs", identity, owner=identity, state="doomed", files=_FILES)


def _job(row: sqlite3.Row) -> Job:
    process = None if row["pid"] is None else Process(int(row["pid"]), str(row["born"]))
    return Job(
        id=str(row["id"]),
        number=int(row["number"]),
        command=str(row["command"]),
        state=row["state"],
        created=float(row["created"]),
        arguments=json.loads(row["arguments"]),
        words=tuple(json.loads(row["words"])),
        started=row["started"],
        ended=row["ended"],
        process=process,
        stop_asked=row["stop_asked"],
        code=row["code"],
        error=row["error"],
    )
