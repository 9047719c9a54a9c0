"""The database file of the queue: SQLite with a write-ahead log, transactions, a few connections.

It knows tables and transactions, and nothing of what a task is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from luthier.errors import StorageError
from luthier.files import make_folder
from luthier.server.queue.schema import make_tables

_BUSY_S = 30.0


class Store:
    """An open database; several threads and processes may use the same file.

    Raises (also from every method):
        StorageError: the disk is full, or the file is no database or is damaged as a whole.
        RequestError: it is another program's database (when it is opened).
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        with self._connection() as connection:
            make_tables(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")  # the file remembers it

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of it happens, or nothing.

        Args:
            durable: on the disk before this returns (power may fail); else after a crash of the
                process only.
        """
        with self._connection() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # After some errors SQLite has rolled back by itself.
                with suppress(sqlite3.OperationalError):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for several queries that see the same moment."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                with suppress(sqlite3.OperationalError):
                    connection.execute("COMMIT")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a query finds."""
        with self._connection() as connection:
            return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close what is open; another use opens it again."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                connection = self._opened()
            try:
                yield connection
            finally:
                self._idle.put(connection)
        except sqlite3.Error as error:
            raise _explained(error, self.path) from error

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        # A damaged text is one row's trouble, not a reason to fail the query.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return connection


def _explained(error: sqlite3.Error, path: Path) -> StorageError:
    text = str(error)
    if "full" in text:
        return StorageError(f"the disk is full: {path} was left as it was. Free some space.")
    if "malformed" in text or "not a database" in text:
        return StorageError(
            f"{path} is damaged as a whole ({text}): move it away, with {path.name}-wal where "
            "that is there; finished results stay where they are, and the server forgets which "
            "tasks they were. Or start the server with another --home."
        )
    return StorageError(f"{path} could not be used: {text}.")
