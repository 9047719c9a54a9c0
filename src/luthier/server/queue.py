"""The durable queue as its clients see it: submit, look, list, cancel, retry, delete.

A task that was answered with an id is on the disk. From then on it ends exactly once, as succeeded,
failed or cancelled: every change of a state is one transaction that names the state it comes from.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from luthier.server.refusals import ConflictError, NotFoundError, QueueFullError, ReusedKeyError
from luthier.server.store import Store
from luthier.server.tasks import ENDED, STATES, State, Task, task_of

_FINISHED_TO_LEARN_FROM = 50


class Accepted(NamedTuple):
    """An accepted task, its place in the queue (1 is next), and whether it is a new one."""

    task: Task
    position: int
    is_new: bool


class Counts(NamedTuple):
    """How many tasks there are in each state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


class Queue:
    """The tasks in one database file.

    Args:
        path: of the database; made where it is missing.
        limit: how many may wait; None for any number.
        usual_s: how long a task takes, seconds, until that was measured.
    """

    def __init__(self, path: Path, *, limit: int | None = None, usual_s: float = 5.0) -> None:
        self.store = Store(path)
        self.limit, self._usual_s = limit, usual_s

    def submit(
        self,
        request: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        digest: str = "",
        uploads: str | None = None,
    ) -> Accepted:
        """Accept a task: when this returns, it survives a power failure.

        Args:
            request: what to do, JSON-serialisable.
            idempotency_key: the same key gives the same task again.
            digest: what the key stands for; another digest with the same key is refused.
            uploads: the name of the folder with the request's files.

        Raises:
            QueueFullError: as many as allowed are waiting.
            ReusedKeyError: the key was used for another request.
        """
        now, text = time.time(), json.dumps(dict(request), allow_nan=False)
        with self.store.transaction() as connection:
            known = _by_key(connection, idempotency_key)
            if known is not None:
                if known["digest"] != digest:
                    raise ReusedKeyError(
                        "this idempotency key was used for another request: take a new key."
                    )
                task = task_of(known)
                return Accepted(task, _ahead(connection, task.turn) + 1, is_new=False)
            self._check_room(connection)
            identity, turn = str(uuid.uuid4()), _next_turn(connection)
            connection.execute(
                "INSERT INTO tasks (id, turn, state, request, idempotency_key, digest, uploads, "
                "created, changed) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
                (identity, turn, text, idempotency_key, digest, uploads, now, now),
            )
            position = _ahead(connection, turn) + 1
        task = Task(identity, turn, "queued", now, now, request=dict(request), uploads=uploads)
        return Accepted(task, position, is_new=True)

    def get(self, identity: str) -> Task:
        """One task; raise `NotFoundError` when there is none of that id."""
        found = self.find([identity])
        if identity not in found:
            raise NotFoundError("there is no such task: it was never accepted, or it has expired.")
        return found[identity]

    def find(self, identities: Sequence[str]) -> dict[str, Task]:
        """Those of the tasks that there are, by id."""
        found: dict[str, Task] = {}
        for start in range(0, len(identities), 500):  # SQLite's limit of values is 999
            some = identities[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self.store.rows(f"SELECT * FROM tasks WHERE id IN ({marks})", some)
            found |= {task.id: task for task in map(task_of, rows)}
        return found

    def page(
        self, state: State | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[Task]:
        """Tasks, the newest first; `before` is the turn of the last one of the page before."""
        rows = self.store.rows(
            "SELECT * FROM tasks WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR turn < ?2) "
            "ORDER BY turn DESC LIMIT ?3",
            (state, before, limit),
        )
        return [task_of(row) for row in rows]

    def changed_since(self, moment: float, identities: Collection[str]) -> list[Task]:
        """Those of the tasks that changed at or after `moment`, in the order of their changes."""
        rows = self.store.rows(
            "SELECT * FROM tasks WHERE changed >= ? AND id IN (SELECT value FROM json_each(?)) "
            "ORDER BY changed",
            (moment, json.dumps(list(identities))),
        )
        return [task_of(row) for row in rows]

    def position(self, task: Task) -> int:
        """Its place among those that wait; 1 is next, 0 when it does not wait."""
        if task.state != "queued":
            return 0
        with self.store.transaction(durable=False) as connection:
            return _ahead(connection, task.turn) + 1

    def cancel(self, identity: str) -> Task:
        """End a waiting task, or ask a running one to stop; one that has ended stays as it is."""
        now = time.time()
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE tasks SET state = 'cancelled', stage = 'cancelled', ended = ?1, "
                "changed = ?1 WHERE id = ?2 AND state = 'queued'",
                (now, identity),
            )
            connection.execute(
                "UPDATE tasks SET cancel_asked = 1, changed = ?1 WHERE id = ?2 "
                "AND state = 'running'",
                (now, identity),
            )
        return self.get(identity)

    def retry(self, identity: str) -> Task:
        """Put a failed or cancelled task at the end of the queue, with all its attempts anew.

        Raises:
            NotFoundError: there is no such task.
            ConflictError: it has not ended, has succeeded, or its record is damaged.
            QueueFullError: as many as allowed are waiting.
        """
        task = self.get(identity)
        if task.state not in ("failed", "cancelled") or task.damaged:
            why = "its record is damaged" if task.damaged else f"it is {task.state}"
            raise ConflictError(f"only a failed or cancelled task can be tried again; {why}.")
        with self.store.transaction() as connection:
            self._check_room(connection)
            connection.execute(
                "UPDATE tasks SET state = 'queued', stage = 'queued', turn = ?, attempts = 0, "
                "cancel_asked = 0, progress = 0, error = NULL, worker = NULL, started = NULL, "
                "ended = NULL, changed = ? WHERE id = ? AND state IN ('failed', 'cancelled')",
                (_next_turn(connection), time.time(), identity),
            )
        return self.get(identity)

    def delete(self, identity: str) -> Task:
        """Forget a task that is not running; return what it was. Its files are the caller's.

        Raises:
            NotFoundError: there is no such task.
            ConflictError: it is running.
        """
        task = self.get(identity)
        with self.store.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM tasks WHERE id = ? AND state != 'running'", (identity,)
            ).rowcount
        if not gone:
            raise ConflictError("the task is running: cancel it first, then delete it.")
        return task

    def counts(self) -> Counts:
        """How many tasks there are in each state; damaged records count as failed."""
        rows = self.store.rows("SELECT state, COUNT(*) AS number FROM tasks GROUP BY state")
        found = dict.fromkeys(STATES, 0)
        for row in rows:
            found[row["state"] if row["state"] in STATES else "failed"] += row["number"]
        return Counts(**found)

    def average_s(self) -> float:
        """How long a task takes, seconds: the mean of the last ones, or the usual value."""
        rows = self.store.rows(
            "SELECT AVG(ended - started) AS mean FROM (SELECT ended, started FROM tasks "
            "WHERE state = 'succeeded' ORDER BY ended DESC LIMIT ?)",
            (_FINISHED_TO_LEARN_FROM,),
        )
        mean = rows[0]["mean"]
        return float(mean) if mean is not None else self._usual_s

    def ended(self, state: State = "succeeded", limit: int = _FINISHED_TO_LEARN_FROM) -> list[Task]:
        """The tasks that ended last, the newest first."""
        assert state in ENDED
        rows = self.store.rows(
            "SELECT * FROM tasks WHERE state = ? ORDER BY ended DESC LIMIT ?", (state, limit)
        )
        return [task_of(row) for row in rows]

    def _check_room(self, connection: sqlite3.Connection) -> None:
        if self.limit is None:
            return
        waiting = connection.execute("SELECT COUNT(*) FROM tasks WHERE state = 'queued'")
        if waiting.fetchone()[0] >= self.limit:
            raise QueueFullError(self.limit, max(1, math.ceil(self.average_s())))


def _by_key(connection: sqlite3.Connection, key: str | None) -> sqlite3.Row | None:
    if key is None:
        return None
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM tasks WHERE idempotency_key = ?", (key,)
    ).fetchone()
    return row


def _ahead(connection: sqlite3.Connection, turn: int) -> int:
    found = connection.execute(
        "SELECT COUNT(*) FROM tasks WHERE state = 'queued' AND turn < ?", (turn,)
    )
    return int(found.fetchone()[0])


def _next_turn(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT COALESCE(MAX(turn), 0) + 1 FROM tasks").fetchone()[0])
