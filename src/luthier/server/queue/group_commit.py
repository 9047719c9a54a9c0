"""Many small changes, one transaction: whoever asks while the disk syncs shares the next sync.

A sync takes longer than everything else that a submission costs. Alone each waits for its own;
together they wait for one, and nobody is answered before it is done.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from luthier.server.queue.database import Store

Found = TypeVar("Found")
Change = Callable[[sqlite3.Connection], Found]
_MOST = 256  # changes in a transaction, so that the first does not wait long for the last


class Writer:
    """One thread that makes changes to a store in the order in which they were asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: SimpleQueue[tuple[Change[Any], Future[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ask(self, change: Change[Found]) -> Future[Found]:
        """Make a change soon; the future holds what it returned once that is on the disk.

        A change that refuses (raises) does so before it writes: then the others in its transaction
        are made all the same. After that an error undoes them all, and all who asked are told.
        """
        answer: Future[Found] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
                self._thread.start()
            self._asked.put((change, answer))
        return answer

    def close(self) -> None:
        """Make what was asked for so far, and end the thread; another `ask` begins another."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._asked.put(None)
        if thread is not None:
            thread.join()

    def _write(self) -> None:
        is_open = True
        while is_open:
            first = self._asked.get()
            if first is None:
                return
            some = [first]
            while len(some) < _MOST:
                try:
                    more = self._asked.get_nowait()
                except Empty:
                    break
                if more is None:
                    is_open = False
                    break
                some.append(more)
            self._make(some)

    def _make(self, some: list[tuple[Change[Any], Future[Any]]]) -> None:
        found: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            with self._store.transaction() as connection:
                for change, answer in some:
                    found.append((answer, *_made(connection, change)))
        except Exception as error:  # noqa: BLE001 - whatever it is, each who asked is told
            found = [(answer, None, error) for _, answer in some]
        for answer, value, refusal in found:
            if not answer.set_running_or_notify_cancel():
                continue  # who asked went away; the change was made all the same
            if refusal is None:
                answer.set_result(value)
            else:
                answer.set_exception(refusal)


def _made(connection: sqlite3.Connection, change: Change[Any]) -> tuple[Any, Exception | None]:
    before = connection.total_changes
    try:
        return change(connection), None
    except sqlite3.Error:
        raise  # the disk's trouble is everybody's
    except Exception as error:  # this one's own trouble, told to who asked
        if connection.total_changes != before:
            raise  # half of a change must not be kept
        return None, error
