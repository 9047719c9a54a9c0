"""The queue as workers see it: claim a task, keep it alive, report, end it; and what happens to the
tasks of a worker that died.

A claim is a lease. Whoever lost it (by dying, or by being so slow that another took over) can no
longer change the task: every change names the worker, and says by its answer whether it happened.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from luthier.server.order import next_number
from luthier.server.queue import Queue
from luthier.server.speeds import learn
from luthier.server.tasks import DAMAGED, State, Task, task_of

_MINE = "id = ? AND state = 'running' AND worker = ?"


class WorkerRow(NamedTuple):
    """A worker that showed itself: its process, when it was seen last, which models it holds."""

    name: str
    pid: int
    seen: float
    loaded: tuple[str, ...]


class Leases:
    """The work of a queue.

    Args:
        lease_s: a worker that was not heard of for so long has lost its task.
        most_attempts: how often a task is begun before it counts as failed.
    """

    def __init__(self, queue: Queue, *, lease_s: float = 30.0, most_attempts: int = 3) -> None:
        self.queue, self._store = queue, queue.store
        self.lease_s, self._most_attempts = lease_s, most_attempts

    def claim(self, worker: str, loaded: Collection[str] = ()) -> Task | None:
        """The next task for a worker that has the models `loaded` open, now the worker's own; None
        when nothing waits.
        """
        if not self._store.rows("SELECT 1 FROM tasks WHERE state = 'queued' LIMIT 1"):
            return None
        now = time.time()
        with self._store.transaction() as connection:
            while True:
                number = next_number(connection, loaded)
                if number is None:
                    return None
                row = connection.execute(
                    "SELECT * FROM tasks WHERE number = ?", (number,)
                ).fetchone()
                if not task_of(row).damaged:
                    break
                connection.execute(
                    "UPDATE tasks SET state = 'failed', stage = 'failed', error = ?, ended = ?, "
                    "changed = ? WHERE number = ?",
                    (DAMAGED, now, now, row["number"]),
                )
            connection.execute(
                "UPDATE tasks SET state = 'running', stage = 'running', attempts = attempts + 1, "
                "worker = ?, started = ?, changed = ?, lease_until = ?, progress = 0.01 "
                "WHERE number = ?",
                (worker, now, now, now + self.lease_s, row["number"]),
            )
        return self.queue.get(row["id"])

    def holds(self, task: Task) -> bool:
        """Whether the task is still the worker's, and nobody asked to cancel it."""
        values = (task.id, task.worker)
        return bool(
            self._store.rows(f"SELECT 1 FROM tasks WHERE {_MINE} AND NOT cancel_asked", values)
        )

    def keep(self, task: Task) -> bool:
        """Extend the lease; False when it was lost."""
        with self._store.transaction(durable=False) as connection:
            until = time.time() + self.lease_s
            done = connection.execute(
                f"UPDATE tasks SET lease_until = ? WHERE {_MINE}", (until, task.id, task.worker)
            )
            return done.rowcount == 1

    def report(self, task: Task, progress: float, stage: str) -> None:
        """Say how far it is, 0 to 1, and what is being done."""
        with self._store.transaction(durable=False) as connection:
            connection.execute(
                f"UPDATE tasks SET progress = ?, stage = ?, changed = ? WHERE {_MINE}",
                (progress, stage, time.time(), task.id, task.worker),
            )

    def finish(
        self,
        task: Task,
        result: Mapping[str, Any],
        size_bytes: int = 0,
        *,
        played_s: float | None = None,
    ) -> State | None:
        """End it as succeeded, or as cancelled where that was asked for meanwhile.

        Args:
            played_s: how long it took, where that says how fast this device is.

        Returns:
            How it ended; None when the lease was lost: then the result is nobody's.
        """
        now, text = time.time(), json.dumps(dict(result), allow_nan=False)
        with self._store.transaction() as connection:
            done = connection.execute(
                "UPDATE tasks SET state = 'succeeded', stage = 'succeeded', progress = 1, "
                "result = ?, size_bytes = ?, ended = ?, changed = ?, lease_until = NULL "
                f"WHERE {_MINE} AND NOT cancel_asked",
                (text, size_bytes, now, now, task.id, task.worker),
            )
            if done.rowcount == 1 and played_s is not None:
                learn(connection, task.id, played_s)
        if done.rowcount == 1:
            return "succeeded"
        return "cancelled" if self.cancelled(task) else None

    def cancelled(self, task: Task) -> bool:
        """End it as cancelled if somebody asked for that; False when nobody did."""
        now = time.time()
        with self._store.transaction() as connection:
            done = connection.execute(
                "UPDATE tasks SET state = 'cancelled', stage = 'cancelled', ended = ?, "
                f"changed = ?, lease_until = NULL WHERE {_MINE} AND cancel_asked",
                (now, now, task.id, task.worker),
            )
        return done.rowcount == 1

    def fail(self, task: Task, error: str, *, again: bool = False) -> State | None:
        """End it as failed; or, with `again`, let it be tried once more while attempts are left.

        Returns:
            Its state now; None when the lease was lost.
        """
        if self.cancelled(task):
            return "cancelled"
        state: State = "queued" if again and task.attempts < self._most_attempts else "failed"
        now = time.time()
        with self._store.transaction() as connection:
            done = connection.execute(
                "UPDATE tasks SET state = ?1, stage = ?1, error = ?2, progress = 0, worker = NULL, "
                "lease_until = NULL, changed = ?3, ended = CASE ?1 WHEN 'failed' THEN ?3 END "
                "WHERE id = ?4 AND state = 'running' AND worker = ?5",
                (state, error, now, task.id, task.worker),
            )
        return state if done.rowcount == 1 else None

    def release(self, task: Task) -> None:
        """Give a task back untried: the worker was told to stop."""
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE tasks SET state = 'queued', stage = 'queued', progress = 0, worker = NULL, "
                "lease_until = NULL, attempts = attempts - 1, changed = ? "
                f"WHERE {_MINE} AND NOT cancel_asked",
                (time.time(), task.id, task.worker),
            )
        self.cancelled(task)

    def abandon(self, worker: str) -> None:
        """A worker's process has ended: its tasks go back, or fail after the last attempt."""
        self._lost("worker = ?", (worker,))
        with self._store.transaction(durable=False) as connection:
            connection.execute("DELETE FROM workers WHERE name = ?", (worker,))

    def reclaim(self) -> None:
        """The same for every lease that has run out."""
        now = time.time()
        self._lost("(lease_until IS NULL OR lease_until < ?)", (now,))
        with self._store.transaction(durable=False) as connection:
            connection.execute("DELETE FROM workers WHERE seen < ?", (now - 10 * self.lease_s,))

    def holders(self) -> list[str]:
        """The names of the workers that hold tasks or showed themselves, alive or not."""
        rows = self._store.rows(
            "SELECT worker FROM tasks WHERE state = 'running' UNION SELECT name FROM workers"
        )
        return [str(row["worker"]) for row in rows]

    def show(self, worker: str, loaded: Sequence[str]) -> None:
        """A worker says that it is there, and which models it holds."""
        now = time.time()
        with self._store.transaction(durable=False) as connection:
            connection.execute(
                "INSERT INTO workers VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (name) DO UPDATE "
                "SET seen = ?3, loaded = ?4",
                (worker, os.getpid(), now, json.dumps(list(loaded))),
            )

    def workers(self) -> list[WorkerRow]:
        """The workers that were seen within a lease."""
        rows = self._store.rows(
            "SELECT * FROM workers WHERE seen > ? ORDER BY started", (time.time() - self.lease_s,)
        )
        return [
            WorkerRow(row["name"], row["pid"], row["seen"], tuple(json.loads(row["loaded"])))
            for row in rows
        ]

    def _lost(self, which: str, values: tuple[Any, ...]) -> None:
        now, lost = time.time(), f"WHERE state = 'running' AND {which}"
        if not self._store.rows(f"SELECT 1 FROM tasks {lost} LIMIT 1", values):
            return
        error = (
            f"the worker process ended {self._most_attempts} times while it did this task: it may "
            "need more memory than there is. Ask for less (a shorter piece, a smaller batch)."
        )
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE tasks SET state = 'cancelled', stage = 'cancelled', ended = ?, "
                f"changed = ?, lease_until = NULL {lost} AND cancel_asked",
                (now, now, *values),
            )
            connection.execute(
                "UPDATE tasks SET state = 'failed', stage = 'failed', error = ?, ended = ?, "
                f"changed = ?, lease_until = NULL {lost} AND attempts >= ?",
                (error, now, now, *values, self._most_attempts),
            )
            connection.execute(
                "UPDATE tasks SET state = 'queued', stage = 'queued', progress = 0, "
                f"worker = NULL, lease_until = NULL, changed = ? {lost}",
                (now, *values),
            )
