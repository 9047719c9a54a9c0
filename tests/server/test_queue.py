"""The queue's promises: accepted once, ended once, never lost, in order, within its limits."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import StorageError
from luthier.server.http.errors import ConflictError, NotFoundError, QueueFullError, ReusedKeyError
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.task import ENDED


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "tasks.sqlite3", limit=5)


@pytest.fixture
def leases(queue: Queue) -> Leases:
    return Leases(queue, lease_s=30.0, most_attempts=2)


def test_a_task_is_queued_claimed_and_succeeds(queue: Queue, leases: Leases) -> None:
    accepted = queue.submit({"prompt": "rain"})
    assert (accepted.task.state, accepted.position) == ("queued", 1)
    task = leases.claim("w")
    assert task is not None
    assert (task.state, task.attempts, task.request) == ("running", 1, {"prompt": "rain"})
    leases.report(task, 0.5, "denoising")
    assert queue.get(task.id).progress == 0.5
    assert leases.finish(task, {"file": "1.mp3"}, 10) == "succeeded"
    done = queue.get(task.id)
    assert (done.state, done.progress, done.result) == ("succeeded", 1.0, {"file": "1.mp3"})


def test_the_order_is_that_of_submission(queue: Queue, leases: Leases) -> None:
    ids = [queue.submit({"n": n}).task.id for n in range(4)]
    assert [task.id for task in (leases.claim("w") for _ in ids) if task] == ids
    assert leases.claim("w") is None


def test_a_reopened_queue_has_everything(queue: Queue) -> None:
    ids = [queue.submit({"n": n}).task.id for n in range(3)]
    queue.store.close()
    again = Queue(queue.store.path)
    assert [task.id for task in reversed(again.page())] == ids


def test_a_full_queue_refuses_and_keeps_nothing(queue: Queue) -> None:
    for n in range(5):
        queue.submit({"n": n})
    with pytest.raises(QueueFullError, match="Server busy: queue is full") as refused:
        queue.submit({"n": 6})
    assert refused.value.retry_after_s >= 1
    assert queue.counts().total == 5


def test_an_idempotency_key_gives_the_same_task(queue: Queue) -> None:
    first = queue.submit({"n": 1}, idempotency_key="k", digest="a")
    again = queue.submit({"n": 1}, idempotency_key="k", digest="a")
    assert (again.task.id, again.is_new) == (first.task.id, False)
    with pytest.raises(ReusedKeyError):
        queue.submit({"n": 2}, idempotency_key="k", digest="b")
    assert queue.counts().total == 1


def test_cancel_ends_a_waiting_task_and_asks_a_running_one(queue: Queue, leases: Leases) -> None:
    running, waiting = queue.submit({}).task.id, queue.submit({}).task.id
    task = leases.claim("w")
    assert task is not None
    assert queue.cancel(waiting).state == "cancelled"
    assert queue.cancel(running).state == "running"
    assert not leases.holds(task)
    assert leases.finish(task, {}) == "cancelled"
    assert queue.cancel(running).state == "cancelled"
    with pytest.raises(NotFoundError):
        queue.cancel("nothing")


def test_failures_are_tried_again_a_bounded_number_of_times(queue: Queue, leases: Leases) -> None:
    queue.submit({})
    states = []
    for _ in range(2):
        task = leases.claim("w")
        assert task is not None
        states.append(leases.fail(task, "no memory", again=True))
    assert states == ["queued", "failed"]
    assert leases.claim("w") is None


def test_retry_puts_an_ended_task_at_the_end(queue: Queue, leases: Leases) -> None:
    first, second = queue.submit({"n": 1}).task.id, queue.submit({"n": 2}).task.id
    with pytest.raises(ConflictError, match="it is queued"):
        queue.retry(first)
    queue.cancel(first)
    assert queue.retry(first).state == "queued"
    claimed = [task.id for task in (leases.claim("w"), leases.claim("w")) if task]
    assert claimed == [second, first]


def test_a_running_task_is_not_deleted(queue: Queue, leases: Leases) -> None:
    identity = queue.submit({}).task.id
    leases.claim("w")
    with pytest.raises(ConflictError, match="cancel it first"):
        queue.delete(identity)
    leases.abandon("w")
    assert queue.delete(identity).id == identity
    with pytest.raises(NotFoundError):
        queue.get(identity)


def test_tasks_of_a_dead_worker_restart_and_then_fail(queue: Queue, leases: Leases) -> None:
    identity = queue.submit({}).task.id
    for _ in range(2):
        assert leases.claim("w") is not None
        leases.abandon("w")
    task = queue.get(identity)
    assert task.state == "failed"
    assert "the worker process ended 2 times" in (task.error or "")


def test_a_lost_lease_changes_nothing(queue: Queue) -> None:
    leases = Leases(queue, lease_s=0.0)
    queue.submit({})
    slow = leases.claim("slow")
    assert slow is not None
    time.sleep(0.01)
    leases.reclaim()
    fast = leases.claim("fast")
    assert fast is not None
    assert not leases.keep(slow)
    assert leases.finish(slow, {"by": "slow"}) is None
    assert leases.fail(slow, "late") is None
    assert leases.finish(fast, {"by": "fast"}) == "succeeded"
    assert queue.get(fast.id).result == {"by": "fast"}


def test_a_stopped_worker_gives_its_task_back_untried(queue: Queue, leases: Leases) -> None:
    queue.submit({})
    task = leases.claim("w")
    assert task is not None
    leases.release(task)
    back = queue.get(task.id)
    assert (back.state, back.attempts) == ("queued", 0)


def test_workers_show_themselves(leases: Leases) -> None:
    leases.show("w", ["mini"])
    assert [(w.name, w.loaded) for w in leases.workers()] == [("w", ("mini",))]
    leases.abandon("w")
    assert leases.workers() == []


@pytest.mark.parametrize(
    "damage",
    [
        "request = 'no json'",
        "request = '[1]'",
        "request = x'ff00fe'",
        "state = 'lost'",
        "created = 'never'",
        "progress = x'00'",
        "request = '" + "[" * 5000 + "'",
    ],
)
def test_a_damaged_row_is_one_failed_task(queue: Queue, leases: Leases, damage: str) -> None:
    bad, good = queue.submit({"n": 1}).task.id, queue.submit({"n": 2}).task.id
    connection = sqlite3.connect(queue.store.path)
    connection.execute(f"UPDATE tasks SET {damage} WHERE id = ?", (bad,))
    connection.commit()
    connection.close()
    claimed = leases.claim("w")
    assert claimed is not None
    assert claimed.id == good
    assert queue.get(bad).state == "failed"
    assert "damaged" in (queue.get(bad).error or "")
    assert {task.id for task in queue.page()} == {bad, good}
    with pytest.raises(ConflictError, match="damaged"):
        queue.retry(bad)
    queue.delete(bad)


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tasks.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="move it away"):
        Queue(tmp_path / "tasks.sqlite3")


def test_a_database_of_a_newer_luthier_is_left_alone(queue: Queue) -> None:
    with queue.store.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer"):
        Queue(queue.store.path)


ACTIONS = st.lists(
    st.sampled_from(
        ["submit", "claim", "finish", "fail", "again", "cancel", "abandon", "release", "retry"]
    ),
    max_size=30,
)


@settings(max_examples=40)
@given(actions=ACTIONS, picks=st.lists(st.integers(0, 5), min_size=30, max_size=30))
def test_whatever_happens_every_task_is_there_once_and_ends(
    tmp_path_factory: pytest.TempPathFactory, actions: list[str], picks: list[int]
) -> None:
    queue = Queue(tmp_path_factory.mktemp("q") / "tasks.sqlite3")
    leases = Leases(queue, most_attempts=2)
    ids: list[str] = []
    held = []
    for action, pick in zip(actions, picks, strict=False):
        some = ids[pick % len(ids)] if ids else None
        task = held[pick % len(held)] if held else None
        if action == "submit":
            ids.append(queue.submit({"n": len(ids)}).task.id)
        elif action == "claim" and (new := leases.claim(f"w{pick}")):
            held.append(new)
        elif action == "cancel" and some:
            queue.cancel(some)
        elif action == "retry" and some and queue.get(some).state in ("failed", "cancelled"):
            queue.retry(some)
        elif action == "abandon":
            leases.abandon(f"w{pick}")
        elif task and action == "finish":
            before = queue.get(task.id)
            ended = leases.finish(task, {})
            if before.has_ended:
                assert ended is None
        elif task and action in ("fail", "again"):
            leases.fail(task, "x", again=action == "again")
        elif task and action == "release":
            leases.release(task)
        assert queue.counts().total == len(ids)
    for worker in range(6):
        leases.abandon(f"w{worker}")
    while task := leases.claim("last"):
        leases.finish(task, {})
    assert all(queue.get(identity).state in ENDED for identity in ids)
    queue.store.close()
