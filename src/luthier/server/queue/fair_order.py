"""Who is next: by priority, and within one each client in turn, whoever asks for how much.

A client's tasks of a priority are numbered in rounds, one a round. A client that comes later joins
the round that is being played; tasks of the same round go in the order of their submission. (Fair
queueing by start times, with every task as long as every other.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any, NamedTuple

_WINDOW = 64  # how far ahead a worker looks for a model that it has open
_PATIENCE = 4  # how often a task lets others pass for that
# By name: without statistics SQLite takes the index of a state instead, and sorts what it finds.
_WAITING = "FROM tasks INDEXED BY tasks_in_order WHERE state = 'queued'"


class Place(NamedTuple):
    """Where a task stands: the higher priority first, then the lower round, then the turn."""

    priority: int
    round: int
    turn: int


def place_for(connection: sqlite3.Connection, client: str, priority: int) -> Place:
    """The place of a client's new task."""
    row = connection.execute(
        "SELECT MAX("
        f"COALESCE((SELECT MIN(round) {_WAITING} AND priority = ?1), "
        "(SELECT MAX(round) FROM tasks WHERE priority = ?1), 0), "
        "COALESCE((SELECT MAX(round) + 1 FROM tasks WHERE client = ?2 AND priority = ?1 "
        "AND state != 'cancelled'), 0)), "
        "(SELECT COALESCE(MAX(turn), 0) + 1 FROM tasks)",
        (priority, client),
    ).fetchone()
    return Place(priority, row[0], row[1])


def position_of(connection: sqlite3.Connection, place: Place) -> int:
    """The place of a waiting task counted from 1. Cheap for the last one."""
    last, count = connection.execute(
        f"SELECT (SELECT turn {_WAITING} ORDER BY priority, round DESC, turn DESC LIMIT 1), "
        "(SELECT tasks FROM counts WHERE state = 'queued')"
    ).fetchone()
    if last == place.turn:
        return int(count)
    row = connection.execute(
        f"SELECT (SELECT COUNT(*) {_WAITING} AND priority > ?1) + "
        f"(SELECT COUNT(*) {_WAITING} AND priority = ?1 AND (round, turn) < (?2, ?3))",
        place,
    ).fetchone()
    return int(row[0]) + 1


def waiting(connection: sqlite3.Connection) -> int:
    """How many tasks wait."""
    row = connection.execute("SELECT tasks FROM counts WHERE state = 'queued'").fetchone()
    return int(row[0]) if row else 0


def next_number(connection: sqlite3.Connection, loaded: Collection[str]) -> int | None:
    """The number of the task to do next by a worker that has the models `loaded` open.

    A task whose model is open goes before one whose model is not, unless that was passed over
    often enough.
    """
    rows = connection.execute(
        f"SELECT number, priority, model, passed {_WAITING} "
        "ORDER BY priority DESC, round, turn LIMIT ?",
        (_WINDOW,),
    ).fetchall()
    if not rows:
        return None
    first, chosen = rows[0], rows[0]
    if loaded and not _suits(first, loaded) and first["passed"] < _PATIENCE:
        alike = (row for row in rows if row["priority"] == first["priority"])
        chosen = next((row for row in alike if _suits(row, loaded)), first)
    if chosen is not first:
        connection.execute(
            "UPDATE tasks SET passed = passed + 1 WHERE number = ?", (first["number"],)
        )
    return int(chosen["number"])


def _suits(row: Any, loaded: Collection[str]) -> bool:
    return not row["model"] or row["model"] in loaded
