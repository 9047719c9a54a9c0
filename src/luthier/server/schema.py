"""The tables of the queue's database, and how one of an earlier luthier becomes one of this."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from luthier.errors import StorageError

_VERSION = 2
_TASKS = """
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    turn INTEGER NOT NULL,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    idempotency_key TEXT UNIQUE,
    digest TEXT NOT NULL,
    uploads TEXT,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    changed REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    lease_until REAL,
    cancel_asked INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0,
    stage TEXT NOT NULL DEFAULT 'queued',
    result TEXT,
    error TEXT,
    size_bytes INTEGER NOT NULL DEFAULT 0
)
"""
# Since version 2: what the order of tasks, and how long they take, depend on.
_ADDED = (
    "kind TEXT NOT NULL DEFAULT ''",
    "model TEXT NOT NULL DEFAULT ''",
    "work REAL NOT NULL DEFAULT 0",
    "client TEXT NOT NULL DEFAULT ''",
    "priority INTEGER NOT NULL DEFAULT 0",
    "round INTEGER NOT NULL DEFAULT 0",
    "passed INTEGER NOT NULL DEFAULT 0",
)
_REST = (
    "CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state, turn)",
    "CREATE INDEX IF NOT EXISTS tasks_by_turn ON tasks (turn)",
    "CREATE INDEX IF NOT EXISTS tasks_by_change ON tasks (changed)",
    "CREATE INDEX IF NOT EXISTS tasks_by_end ON tasks (state, ended)",
    "CREATE INDEX IF NOT EXISTS tasks_by_round ON tasks (priority, round)",
    "CREATE INDEX IF NOT EXISTS tasks_in_order ON tasks (priority DESC, round, turn) "
    "WHERE state = 'queued'",
    "CREATE INDEX IF NOT EXISTS tasks_by_client ON tasks (client, priority, round) "
    "WHERE state != 'cancelled'",
    "CREATE TABLE IF NOT EXISTS workers (name TEXT PRIMARY KEY, pid INTEGER NOT NULL, "
    "started REAL NOT NULL, seen REAL NOT NULL, loaded TEXT NOT NULL DEFAULT '[]')",
    # Sums over the last tasks of a kind, from which `Speed` draws its line.
    "CREATE TABLE IF NOT EXISTS speeds (model TEXT NOT NULL, kind TEXT NOT NULL, "
    "tasks REAL NOT NULL, work REAL NOT NULL, seconds REAL NOT NULL, work_work REAL NOT NULL, "
    "work_seconds REAL NOT NULL, PRIMARY KEY (model, kind))",
    # How many tasks there are in each state, so that nobody has to count them.
    "CREATE TABLE IF NOT EXISTS counts (state TEXT PRIMARY KEY, tasks INTEGER NOT NULL)",
    "CREATE TRIGGER IF NOT EXISTS count_new AFTER INSERT ON tasks BEGIN "
    "INSERT INTO counts VALUES (NEW.state, 1) "
    "ON CONFLICT (state) DO UPDATE SET tasks = tasks + 1; END",
    "CREATE TRIGGER IF NOT EXISTS count_gone AFTER DELETE ON tasks BEGIN "
    "UPDATE counts SET tasks = tasks - 1 WHERE state = OLD.state; END",
    "CREATE TRIGGER IF NOT EXISTS count_moved AFTER UPDATE OF state ON tasks "
    "WHEN OLD.state IS NOT NEW.state BEGIN "
    "UPDATE counts SET tasks = tasks - 1 WHERE state = OLD.state; "
    "INSERT INTO counts VALUES (NEW.state, 1) "
    "ON CONFLICT (state) DO UPDATE SET tasks = tasks + 1; END",
    "INSERT OR REPLACE INTO counts SELECT state, COUNT(*) FROM tasks GROUP BY state",
)


def make_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Make what is missing; all of it or nothing.

    Raises:
        StorageError: the file was written by a newer luthier.
    """
    if _version(connection) == _VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have been faster
        if version > _VERSION:
            raise StorageError(
                f"{path} was written by a newer luthier: install that one, or choose another "
                "--home."
            )
        if version < _VERSION:
            _grow(connection)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.OperationalError):  # SQLite may have rolled back by itself
            connection.execute("ROLLBACK")
        raise


def _grow(connection: sqlite3.Connection) -> None:
    connection.execute(_TASKS)
    known = {row[1] for row in connection.execute("PRAGMA table_info(tasks)")}
    for column in _ADDED:
        if column.split()[0] not in known:
            connection.execute(f"ALTER TABLE tasks ADD COLUMN {column}")
    for statement in _REST:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
