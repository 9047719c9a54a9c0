"""How fast this device is, from the tasks that it has done.

For each model and kind of task a straight line is kept: seconds = fixed + rate · work, where work
is steps times seconds of music. It is fitted by least squares over sums in which older tasks count
less and less, so that a row of five numbers is all that is stored.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from luthier.server.queue.database import Store

_FADE = 0.95  # of what was known, with each new task: about the last twenty count


@dataclass(frozen=True)
class Speed:
    """One model's speed at one kind of task.

    Attributes:
        fixed_s: of every task, seconds.
        per_work: seconds for one step of one second of music.
        mean_s: of a task, as they were asked for.
        tasks: how many it was learnt from; older ones count less.
    """

    fixed_s: float
    per_work: float
    mean_s: float
    tasks: float

    def seconds(self, work: float) -> float:
        """How long a task of so much work takes."""
        return self.fixed_s + self.per_work * work


class Speeds:
    """The speeds at one moment.

    Args:
        usual_s: how long a task takes until one was measured, seconds.
    """

    def __init__(self, store: Store, usual_s: float) -> None:
        rows = store.rows("SELECT * FROM speeds WHERE tasks > 0")
        self.known = {(row["model"], row["kind"]): _line(row) for row in rows}
        self._usual_s = usual_s

    @property
    def mean_s(self) -> float:
        """How long a task takes, whatever it is."""
        tasks = sum(speed.tasks for speed in self.known.values())
        if not tasks:
            return self._usual_s
        return sum(speed.mean_s * speed.tasks for speed in self.known.values()) / tasks

    def seconds(self, model: str, kind: str, work: float) -> float:
        """How long a task takes: by its own kind, else as one of the same model, else as any."""
        speed = self.known.get((model, kind))
        if speed is None:
            speed = next((s for (name, _), s in self.known.items() if name == model), None)
        return speed.seconds(work) if speed else self.mean_s


def learn(connection: sqlite3.Connection, task_id: str, seconds: float) -> None:
    """Take in that a task took so long."""
    connection.execute(
        "INSERT INTO speeds SELECT model, kind, 1, work, ?2, work * work, work * ?2 "
        "FROM tasks WHERE id = ?1 "
        "ON CONFLICT (model, kind) DO UPDATE SET tasks = tasks * ?3 + excluded.tasks, "
        "work = work * ?3 + excluded.work, seconds = seconds * ?3 + excluded.seconds, "
        "work_work = work_work * ?3 + excluded.work_work, "
        "work_seconds = work_seconds * ?3 + excluded.work_seconds",
        (task_id, seconds, _FADE),
    )


def _line(row: Any) -> Speed:
    n, x, y = row["tasks"], row["work"], row["seconds"]
    spread = n * row["work_work"] - x * x
    rate, fixed = 0.0, y / n
    if spread > 1e-6 * x * x:
        rate = (n * row["work_seconds"] - x * y) / spread
        fixed = (y - rate * x) / n
    elif x > 0:  # all alike: in proportion
        rate, fixed = y / x, 0.0
    if rate < 0:
        rate, fixed = 0.0, y / n
    if fixed < 0:
        rate, fixed = y / x, 0.0
    return Speed(fixed, rate, y / n, n)
