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
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from luthier.server.http.errors import ConflictError, NotFoundError, QueueFullError, ReusedKeyError
from luthier.server.queue.database import Store
from luthier.server.queue.fair_order import Place, place_for, position_of, waiting
from luthier.server.queue.folders import doom, note_uploads
from luthier.server.queue.group_commit import Writer
from luthier.server.queue.speeds import Speeds
from luthier.server.queue.task import STATES, State, Task, task_of

_ANY = "SELECT * FROM tasks"


@dataclass(frozen=True)
class Traits:
    """What the queue knows of a task without understanding it.

    Attributes:
        kind, model: tasks that agree in both take time in proportion to their work.
        work: steps times seconds of music.
        priority: the higher ones go first.
        client: who asks; clients of the same priority take turns.
    """

    kind: str = ""
    model: str = ""
    work: float = 0.0
    priority: int = 0
    client: str = ""


PLAIN = Traits()


@dataclass(frozen=True)
class New:
    """A task that asks to be accepted; see `Queue.submit`."""

    request: dict[str, Any]
    traits: Traits = PLAIN
    idempotency_key: str | None = None
    digest: str = ""
    uploads: str | None = None


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
        self._writer = Writer(self.store)

    def close(self) -> None:
        """Finish what is being written, and close the file; another use opens it again."""
        self._writer.close()
        self.store.close()

    def submit(
        self,
        request: Mapping[str, Any],
        traits: Traits = PLAIN,
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
        asked = New(dict(request), traits, idempotency_key, digest, uploads)
        return self.submit_soon(asked).result()

    def submit_soon(self, asked: New) -> Future[Accepted]:
        """The same for those who do not wait in a thread; tasks that come together are accepted
        in one transaction.
        """
        text = json.dumps(asked.request, allow_nan=False)
        return self._writer.ask(lambda connection: self._accepted(connection, asked, text))

    def _accepted(self, connection: sqlite3.Connection, new: New, text: str) -> Accepted:
        known = _by_key(connection, new.idempotency_key)
        if known is not None:
            if known["digest"] != new.digest:
                raise ReusedKeyError(
                    "this idempotency key was used for another request: take a new key."
                )
            task = task_of(known)
            return Accepted(task, _position(connection, task), is_new=False)
        self._check_room(connection)
        now, identity, traits = time.time(), str(uuid.uuid4()), new.traits
        place = place_for(connection, traits.client, traits.priority)
        connection.execute(
            "INSERT INTO tasks (id, turn, state, request, idempotency_key, digest, uploads, "
            "created, kind, model, work, client, priority, round) "
            "VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            (
                *(identity, place.turn, text, new.idempotency_key, new.digest, new.uploads, now),
                *(traits.kind, traits.model, traits.work, traits.client),
                *(place.priority, place.round),
            ),
        )
        if new.uploads is not None:
            note_uploads(connection, identity, new.uploads, new.request)
        task = Task(
            *(identity, place.turn, "queued", now),
            request=new.request,
            uploads=new.uploads,
            priority=place.priority,
            round=place.round,
        )
        return Accepted(task, position_of(connection, place), is_new=True)

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
            rows = self.store.rows(f"{_ANY} WHERE id IN ({marks})", some)
            found |= {task.id: task for task in map(task_of, rows)}
        return found

    def page(
        self, state: State | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[Task]:
        """Tasks, the newest first; `before` is the turn of the last one of the page before."""
        rows = self.store.rows(
            f"{_ANY} WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR turn < ?2) "
            "ORDER BY turn DESC LIMIT ?3",
            (state, before, limit),
        )
        return [task_of(row) for row in rows]

    def changed_after(self, change: int, identities: Collection[str]) -> list[Task]:
        """Those of the tasks that have changed since `change`, in the order of their changes."""
        rows = self.store.rows(
            f"{_ANY} WHERE change > ? AND id IN (SELECT value FROM json_each(?)) ORDER BY change",
            (change, json.dumps(list(identities))),
        )
        return [task_of(row) for row in rows]

    def position(self, task: Task) -> int:
        """Its place among those that wait; 1 is next, 0 when it does not wait."""
        if task.state != "queued":
            return 0
        with self.store.reading() as connection:
            return _position(connection, task)

    def cancel(self, identity: str) -> Task:
        """End a waiting task, or ask a running one to stop; one that has ended stays as it is."""
        now = time.time()
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE tasks SET state = 'cancelled', stage = 'cancelled', ended = ? "
                "WHERE id = ? AND state = 'queued'",
                (now, identity),
            )
            connection.execute(
                "UPDATE tasks SET cancel_asked = 1 WHERE id = ? AND state = 'running'",
                (identity,),
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
            place = place_for(connection, task.client, task.priority)
            connection.execute(
                "UPDATE tasks SET state = 'queued', stage = 'queued', turn = ?, round = ?, "
                "attempts = 0, deaths = 0, passed = 0, cancel_asked = 0, progress = 0, "
                "error = NULL, worker = NULL, started = NULL, ended = NULL, begun = NULL, "
                "ran = NULL, kept_since = NULL WHERE id = ? AND state IN ('failed', 'cancelled')",
                (place.turn, place.round, identity),
            )
        return self.get(identity)

    def delete(self, identity: str) -> Task:
        """Forget a task that is not running; return what it was. Its files may go from now on.

        Raises:
            NotFoundError: there is no such task.
            ConflictError: it is running.
        """
        task = self.get(identity)
        with self.store.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM tasks WHERE id = ? AND state != 'running'", (identity,)
            ).rowcount
            if gone:
                doom(connection, [identity])
        if not gone:
            raise ConflictError("the task is running: cancel it first, then delete it.")
        return task

    def counts(self) -> Counts:
        """How many tasks there are in each state; damaged records count as failed."""
        found = dict.fromkeys(STATES, 0)
        for row in self.store.rows("SELECT state, tasks FROM counts"):
            found[row["state"] if row["state"] in STATES else "failed"] += row["tasks"]
        return Counts(**found)

    def speeds(self) -> Speeds:
        """How long tasks take here, as far as that was measured."""
        return Speeds(self.store, self._usual_s)

    def last_change(self) -> int:
        """The number of the last change of any task."""
        return int(self.store.rows("SELECT TOTAL(number) AS last FROM changes")[0]["last"])

    def ended_after(self, change: int) -> list[sqlite3.Row]:
        """What is known of the tasks that have ended since `change`, without their requests."""
        return self.store.rows(
            "SELECT change, state, kind, model, created, started, ended, ran FROM tasks "
            "WHERE state IN ('succeeded', 'failed', 'cancelled') AND change > ? "
            "AND typeof(ended) = 'real' AND typeof(created) = 'real' ORDER BY change",
            (change,),
        )

    def results_bytes(self) -> int:
        """How much the results on record take."""
        rows = self.store.rows("SELECT TOTAL(size_bytes) AS size FROM tasks")
        return int(rows[0]["size"])

    def _check_room(self, connection: sqlite3.Connection) -> None:
        if self.limit is None:
            return
        if waiting(connection) >= self.limit:
            raise QueueFullError(self.limit, max(1, math.ceil(self.speeds().mean_s)))


def _position(connection: sqlite3.Connection, task: Task) -> int:
    return position_of(connection, Place(task.priority, task.round, task.turn))


def _by_key(connection: sqlite3.Connection, key: str | None) -> sqlite3.Row | None:
    if key is None:
        return None
    row: sqlite3.Row | None = connection.execute(
        f"{_ANY} WHERE idempotency_key = ?", (key,)
    ).fetchone()
    return row
