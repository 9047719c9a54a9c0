"""The tables of the queue's database, and how one of an earlier luthier becomes one of this."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from luthier.errors import RequestError, StorageError
from luthier.server.queue import folders

_VERSION = 3
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
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    cancel_asked INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0,
    stage TEXT NOT NULL DEFAULT 'queued',
    result TEXT,
    error TEXT,
    size_bytes INTEGER NOT NULL DEFAULT 0
)
"""
_OURS = {"number", "id", "turn", "state", "request"}  # columns since the first version
_ADDED = (
    # Since version 2: what the order of tasks, and how long they take, depend on.
    "kind TEXT NOT NULL DEFAULT ''",
    "model TEXT NOT NULL DEFAULT ''",
    "work REAL NOT NULL DEFAULT 0",
    "client TEXT NOT NULL DEFAULT ''",
    "priority INTEGER NOT NULL DEFAULT 0",
    "round INTEGER NOT NULL DEFAULT 0",
    "passed INTEGER NOT NULL DEFAULT 0",
    # Since version 3: nothing that is decided depends on the calendar. `change` counts what
    # happens to tasks, `beats` the signs of life of a worker; `begun` is of the monotonic clock,
    # `kept_since` of `Uptime`; `ran` is how long the last attempt took, seconds.
    "change INTEGER NOT NULL DEFAULT 0",
    "beats INTEGER NOT NULL DEFAULT 0",
    "deaths INTEGER NOT NULL DEFAULT 0",
    "begun REAL",
    "ran REAL",
    "kept_since REAL",
)
# Of version 2: moments of the calendar.
_GONE = ("changed", "lease_until")
_REST = (
    "CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state, turn)",
    "CREATE INDEX IF NOT EXISTS tasks_by_turn ON tasks (turn)",
    "CREATE INDEX IF NOT EXISTS tasks_by_change ON tasks (change)",
    "CREATE INDEX IF NOT EXISTS tasks_not_seen_ended ON tasks (state) WHERE kept_since IS NULL",
    "CREATE INDEX IF NOT EXISTS tasks_by_round ON tasks (priority, round)",
    "CREATE INDEX IF NOT EXISTS tasks_in_order ON tasks (priority DESC, round, turn) "
    "WHERE state = 'queued'",
    "CREATE INDEX IF NOT EXISTS tasks_by_client ON tasks (client, priority, round) "
    "WHERE state != 'cancelled'",
    *folders.TABLE,
    "CREATE TABLE workers (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
    "pid INTEGER NOT NULL, beats INTEGER NOT NULL, loaded TEXT NOT NULL DEFAULT '[]')",
    "CREATE TABLE IF NOT EXISTS uptime (boot TEXT NOT NULL, steady REAL NOT NULL, "
    "seconds REAL NOT NULL)",
    # What followers see; writers take turns, so that it grows in the order of the commits.
    "CREATE TABLE IF NOT EXISTS changes (number INTEGER NOT NULL)",
    "CREATE TRIGGER IF NOT EXISTS count_change AFTER UPDATE OF "
    "state, progress, stage, cancel_asked, attempts ON tasks BEGIN "
    "INSERT INTO changes SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM changes); "
    "UPDATE changes SET number = number + 1; "
    "UPDATE tasks SET change = (SELECT number FROM changes) WHERE number = NEW.number; END",
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
        RequestError: the file is another program's database.
        StorageError: the file was written by a newer luthier.
    """
    _check_is_ours(connection, path)
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
    connection.execute("DROP INDEX IF EXISTS tasks_by_change")
    connection.execute("DROP INDEX IF EXISTS tasks_by_end")
    connection.execute("DROP TABLE IF EXISTS workers")  # who is there shows itself again
    for column in _GONE:
        if column in known:
            connection.execute(f"ALTER TABLE tasks DROP COLUMN {column}")
    for statement in _REST:
        connection.execute(statement)
    folders.adopt(connection)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _check_is_ours(connection: sqlite3.Connection, path: Path) -> None:
    tables = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone()
    columns = {row[1] for row in connection.execute("PRAGMA table_info(tasks)")}
    if tables is not None and not columns >= _OURS:
        raise RequestError(
            f"{path} is a database, but none of a luthier server: it was left as it is. Choose "
            "another --home."
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
