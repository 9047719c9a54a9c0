"""The queue as workers see it: claim a task, keep it alive, report, end it; and what happens to the
tasks of a worker that died.

A claim is a lease. Whoever lost it (by dying, or by being so slow that another took over) can no
longer change the task: every change names the worker, and says by its answer whether it happened.

A lease is no moment of a clock: a worker counts up its signs of life, and whoever looks after the
workers notes for how long the count has stood still while it looked. The calendar may jump, the
machine may sleep or be frozen: nobody loses a task for that.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from luthier.server.queue.clock import Watch
from luthier.server.queue.fair_order import next_number
from luthier.server.queue.folders import note, note_result
from luthier.server.queue.queue import Queue
from luthier.server.queue.speeds import learn
from luthier.server.queue.task import DAMAGED, State, Task, task_of

_MINE = "id = ? AND state = 'running' AND worker = ?"
_RAN = "ran = MAX(0, ? - COALESCE(begun, 0))"  # by the monotonic clock
_DIED = (
    "the worker process ended {} times while it did this task: it may need more memory than there "
    "is. Ask for less (a shorter piece, a smaller batch)."
)
_SILENT = (
    "this task was begun {} times, and each time its worker stopped, or gave no sign of life for "
    "{:g} s: it hangs, or the machine is overloaded. Try again later, or ask for less."
)
_LEAST_STEP_S = 2.0  # the supervisor looks every second


class WorkerRow(NamedTuple):
    """A worker that showed itself: its process, and which models it holds."""

    name: str
    pid: int
    loaded: tuple[str, ...]


class Leases:
    """The work of a queue.

    Args:
        lease_s: a worker that gave no sign of life for so long has lost its task.
        most_attempts: how often a task is begun before it counts as failed.
        steady: the monotonic clock; its processes on this machine share it.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        lease_s: float = 30.0,
        most_attempts: int = 3,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self._store, self._steady = queue, queue.store, steady
        self.lease_s, self._most_attempts = lease_s, most_attempts
        step_s = max(_LEAST_STEP_S, lease_s / 4)
        self._tasks, self._workers = Watch(step_s, steady), Watch(step_s, steady)

    def claim(self, worker: str, loaded: Collection[str] = ()) -> Task | None:
        """The next task for a worker that has the models `loaded` open, now the worker's own; None
        when nothing waits.
        """
        if not self._store.rows("SELECT 1 FROM tasks WHERE state = 'queued' LIMIT 1"):
            return None
        now, folder = time.time(), uuid.uuid4().hex[:12]
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
                    "UPDATE tasks SET state = 'failed', stage = 'failed', error = ?, ended = ? "
                    "WHERE number = ?",
                    (DAMAGED, now, row["number"]),
                )
            connection.execute(
                "UPDATE tasks SET state = 'running', stage = 'running', attempts = attempts + 1, "
                "worker = ?, started = ?, begun = ?, ran = NULL, beats = beats + 1, "
                "progress = 0.01 WHERE number = ?",
                (worker, now, self._steady(), row["number"]),
            )
            note(connection, "results", f"{row['id']}/{folder}", owner=row["id"], state="made")
        return replace(self.queue.get(row["id"]), folder=folder)

    def holds(self, task: Task) -> bool:
        """Whether the task is still the worker's, and nobody asked to cancel it."""
        values = (task.id, task.worker)
        return bool(
            self._store.rows(f"SELECT 1 FROM tasks WHERE {_MINE} AND NOT cancel_asked", values)
        )

    def keep(self, task: Task) -> bool:
        """Give a sign of life; False when the lease was lost."""
        with self._store.transaction(durable=False) as connection:
            done = connection.execute(
                f"UPDATE tasks SET beats = beats + 1 WHERE {_MINE}", (task.id, task.worker)
            )
            return done.rowcount == 1

    def report(self, task: Task, progress: float, stage: str) -> None:
        """Say how far it is, 0 to 1, and what is being done."""
        with self._store.transaction(durable=False) as connection:
            connection.execute(
                f"UPDATE tasks SET progress = ?, stage = ? WHERE {_MINE}",
                (progress, stage, task.id, task.worker),
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
                f"result = ?, size_bytes = ?, ended = ?, {_RAN} "
                f"WHERE {_MINE} AND NOT cancel_asked",
                (text, size_bytes, now, self._steady(), task.id, task.worker),
            )
            if done.rowcount == 1:
                note_result(connection, task.id, result)
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
                f"{_RAN} WHERE {_MINE} AND cancel_asked",
                (now, self._steady(), task.id, task.worker),
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
                "ran = MAX(0, ?6 - COALESCE(begun, 0)), ended = CASE ?1 WHEN 'failed' THEN ?3 END "
                "WHERE id = ?4 AND state = 'running' AND worker = ?5",
                (state, error, now, task.id, task.worker, self._steady()),
            )
        return state if done.rowcount == 1 else None

    def release(self, task: Task) -> None:
        """Give a task back untried: the worker was told to stop."""
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE tasks SET state = 'queued', stage = 'queued', progress = 0, worker = NULL, "
                f"attempts = attempts - 1 WHERE {_MINE} AND NOT cancel_asked",
                (task.id, task.worker),
            )
        self.cancelled(task)

    def abandon(self, worker: str) -> None:
        """A worker's process has ended: its tasks go back, or fail after the last attempt."""
        self._lost("worker = ?", (worker,), died=True)
        with self._store.transaction(durable=False) as connection:
            connection.execute("DELETE FROM workers WHERE name = ?", (worker,))

    def reclaim(self) -> None:
        """The same for every worker that has given no sign of life for as long as a lease, while
        somebody called this about every second.
        """
        rows = self._store.rows("SELECT id, worker, beats FROM tasks WHERE state = 'running'")
        signs = {row["id"]: (row["worker"], row["beats"]) for row in rows}
        for identity, silent_s in self._tasks.silent_s(signs).items():
            if silent_s >= self.lease_s:
                values = (identity, *signs[identity])
                self._lost("id = ? AND worker IS ? AND beats = ?", values, died=False)
        gone = [row for row, silent_s in self._seen() if silent_s > 10 * self.lease_s]
        if gone:
            with self._store.transaction(durable=False) as connection:
                connection.executemany(
                    "DELETE FROM workers WHERE name = ? AND beats = ?",
                    [(row["name"], row["beats"]) for row in gone],
                )

    def holders(self) -> list[str]:
        """The names of the workers that hold tasks or showed themselves, alive or not."""
        rows = self._store.rows(
            "SELECT worker FROM tasks WHERE state = 'running' UNION SELECT name FROM workers"
        )
        return [str(row["worker"]) for row in rows]

    def show(self, worker: str, loaded: Sequence[str]) -> None:
        """A worker says that it is there, and which models it holds."""
        with self._store.transaction(durable=False) as connection:
            connection.execute(
                "INSERT INTO workers (name, pid, beats, loaded) VALUES (?1, ?2, 1, ?3) "
                "ON CONFLICT (name) DO UPDATE SET beats = beats + 1, loaded = ?3",
                (worker, os.getpid(), json.dumps(list(loaded))),
            )

    def workers(self) -> list[WorkerRow]:
        """The workers that have given a sign of life within a lease, as far as was looked."""
        return [
            WorkerRow(row["name"], row["pid"], tuple(json.loads(row["loaded"])))
            for row, silent_s in self._seen()
            if silent_s <= self.lease_s
        ]

    def _seen(self) -> list[tuple[sqlite3.Row, float]]:
        rows = self._store.rows("SELECT * FROM workers ORDER BY number")
        silent_s = self._workers.silent_s({row["name"]: row["beats"] for row in rows})
        return [(row, silent_s[row["name"]]) for row in rows]

    def _lost(self, which: str, values: tuple[Any, ...], *, died: bool) -> None:
        lost = f"WHERE state = 'running' AND {which}"
        if not self._store.rows(f"SELECT 1 FROM tasks {lost} LIMIT 1", values):
            return
        now, most = time.time(), self._most_attempts
        over = f"ended = ?, {_RAN} {lost}"
        moment = (now, self._steady(), *values)
        with self._store.transaction() as connection:
            connection.execute(f"UPDATE tasks SET deaths = deaths + ? {lost}", (died, *values))
            connection.execute(
                f"UPDATE tasks SET state = 'cancelled', stage = 'cancelled', {over} "
                "AND cancel_asked",
                moment,
            )
            for error, whose in (
                (_DIED.format(most), "deaths >= attempts"),
                (_SILENT.format(most, self.lease_s), "deaths < attempts"),
            ):
                connection.execute(
                    f"UPDATE tasks SET state = 'failed', stage = 'failed', error = ?, {over} "
                    f"AND attempts >= ? AND {whose}",
                    (error, *moment, most),
                )
            connection.execute(
                f"UPDATE tasks SET state = 'queued', stage = 'queued', progress = 0, "
                f"worker = NULL {lost}",
                values,
            )
