"""Changes that share a transaction: each is answered for itself, once it is on the disk."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future, wait
from pathlib import Path

from luthier.errors import StorageError
from luthier.server.http.errors import QueueFullError, ReusedKeyError
from luthier.server.queue.database import Store
from luthier.server.queue.group_commit import Writer
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import New, Queue, Traits


def test_many_at_once_are_accepted_once_each_up_to_the_limit(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "tasks.sqlite3", limit=150)
    futures = [queue.submit_soon(New({"n": n})) for n in range(200)]
    wait(futures)
    refused = [f for f in futures if isinstance(f.exception(), QueueFullError)]
    accepted = [f.result() for f in futures if not f.exception()]
    assert (len(accepted), len(refused)) == (150, 50)
    assert sorted(a.position for a in accepted) == list(range(1, 151))
    assert set(queue.find([a.task.id for a in accepted])) == {a.task.id for a in accepted}
    assert queue.counts().queued == 150
    queue.close()


def test_a_key_in_the_same_transaction_gives_the_same_task(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "tasks.sqlite3")
    blocked = block(queue.store)
    same = [queue.submit_soon(New({}, idempotency_key="k", digest="a")) for _ in range(3)]
    other = queue.submit_soon(New({}, idempotency_key="k", digest="b"))
    blocked.set()
    assert len({future.result().task.id for future in same}) == 1
    assert isinstance(other.exception(), ReusedKeyError)
    assert queue.counts().total == 1
    queue.close()


def block(store: Store) -> threading.Event:
    """Keep the database from being written until the event is set."""
    done, begun = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction():
            begun.set()
            done.wait(10)

    threading.Thread(target=hold).start()
    begun.wait(10)
    return done


def test_nobody_is_answered_before_the_commit(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "tasks.sqlite3")
    blocked = block(queue.store)
    future = queue.submit_soon(New({}))
    assert not wait([future], timeout=0.2).done
    blocked.set()
    seen = Queue(queue.store.path).get(future.result(10).task.id)
    assert seen.state == "queued"
    queue.close()


def test_one_that_refuses_takes_nothing_from_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite3")
    writer, blocked = Writer(store), block(store)

    def add(name: str) -> Future[None]:
        def change(connection: sqlite3.Connection) -> None:
            if name == "bad":
                raise ValueError("no")
            connection.execute("INSERT INTO counts VALUES (?, 1)", (name,))

        return writer.ask(change)

    futures = {name: add(name) for name in ("one", "bad", "two")}
    blocked.set()
    assert isinstance(futures["bad"].exception(10), ValueError)
    assert futures["two"].result(10) is None
    assert {row["state"] for row in store.rows("SELECT state FROM counts")} == {"one", "two"}
    writer.close()


def test_half_of_a_change_is_never_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite3")
    writer, blocked = Writer(store), block(store)

    def add(name: str) -> Future[None]:
        def change(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO counts VALUES (?, 1)", (name,))
            if name == "bad":
                raise ValueError("no")

        return writer.ask(change)

    futures = {name: add(name) for name in ("one", "bad", "two")}
    blocked.set()
    # Which of them share its transaction is chance; they fail with it, and are told.
    told = {name: future.exception(10) for name, future in futures.items()}
    assert isinstance(told["bad"], ValueError)
    kept = {row["state"] for row in store.rows("SELECT state FROM counts")}
    assert kept == {name for name, error in told.items() if error is None}
    writer.close()


def test_trouble_of_the_disk_is_told_to_all(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite3")
    writer = Writer(store)
    futures = [writer.ask(lambda c: c.execute("INSERT INTO nowhere VALUES (1)")) for _ in range(3)]
    for future in futures:
        assert isinstance(future.exception(10), StorageError)
    writer.close()
    assert writer.ask(lambda _: 3).result(10) == 3  # another begins
    writer.close()


def test_counts_follow_every_change(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "tasks.sqlite3")
    leases = Leases(queue)
    ids = [queue.submit({}, Traits(kind="x")).task.id for _ in range(4)]
    for _ in range(2):
        task = leases.claim("w")
        assert task is not None
    leases.finish(task, {})
    queue.cancel(ids[3])
    assert queue.counts() == (1, 1, 1, 0, 1)
    queue.delete(ids[3])
    leases.abandon("w")
    assert queue.counts() == (2, 0, 1, 0, 0)
    queue.close()


def test_a_queue_of_version_one_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "tasks.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE tasks (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
        "turn INTEGER NOT NULL, state TEXT NOT NULL, request TEXT NOT NULL, "
        "idempotency_key TEXT UNIQUE, digest TEXT NOT NULL, uploads TEXT, created REAL NOT NULL, "
        "started REAL, ended REAL, changed REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, "
        "worker TEXT, lease_until REAL, cancel_asked INTEGER NOT NULL DEFAULT 0, "
        "progress REAL NOT NULL DEFAULT 0, stage TEXT NOT NULL DEFAULT 'queued', result TEXT, "
        "error TEXT, size_bytes INTEGER NOT NULL DEFAULT 0);"
        "INSERT INTO tasks (id, turn, state, request, digest, created, changed) "
        "VALUES ('old', 1, 'queued', '{}', '', 1.0, 1.0), ('gone', 2, 'cancelled', '{}', '', 1, 1);"
        "PRAGMA user_version = 1;"
    )
    connection.close()
    queue = Queue(path)
    assert queue.counts() == (1, 0, 0, 0, 1)
    queue.submit({"name": "new"})
    task = Leases(queue).claim("w")
    assert task is not None
    assert task.id == "old"
    queue.close()
