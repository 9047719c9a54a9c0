"""How long tasks take, learnt from those that were done; and when the next ones will be done."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from luthier.server.queue.eta import Outlook
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue, Traits


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "tasks.sqlite3", usual_s=7.0)


def taken(queue: Queue, work: float, seconds: float, model: str = "mini") -> None:
    queue.submit({}, Traits(kind="text2music", model=model, work=work))
    leases = Leases(queue)
    task = leases.claim("w")
    assert task is not None
    leases.finish(task, {}, played_s=seconds)


def test_before_anything_was_measured_the_usual_value_holds(queue: Queue) -> None:
    assert queue.speeds().seconds("mini", "text2music", 100) == 7.0
    assert queue.speeds().mean_s == 7.0


def test_one_kind_of_size_scales_in_proportion(queue: Queue) -> None:
    taken(queue, 100, 2.0)
    assert queue.speeds().seconds("mini", "text2music", 300) == pytest.approx(6.0)


def test_two_sizes_tell_the_fixed_part(queue: Queue) -> None:
    for work in (100, 300, 100, 300):
        taken(queue, work, 1.0 + 0.01 * work)
    speed = queue.speeds().known["mini", "text2music"]
    assert (speed.fixed_s, speed.per_work) == pytest.approx((1.0, 0.01))
    # Another kind is taken for one of the same model; another model for any.
    assert queue.speeds().seconds("mini", "cover", 1000) == pytest.approx(11.0)
    assert queue.speeds().seconds("other", "cover", 1000) == pytest.approx(3.0, abs=0.2)


def test_a_line_never_falls_nor_begins_below_nothing(queue: Queue) -> None:
    for work, seconds in ((100, 3.0), (300, 1.0)):
        taken(queue, work, seconds, "falling")
    for work, seconds in ((100, 0.1), (300, 3.0)):
        taken(queue, work, seconds, "steep")
    assert queue.speeds().seconds("falling", "text2music", 10_000) == pytest.approx(2, abs=0.2)
    assert queue.speeds().seconds("steep", "text2music", 0) >= 0


def test_the_device_became_slower_and_that_is_learnt(queue: Queue) -> None:
    for _ in range(20):
        taken(queue, 100, 1.0)
    for _ in range(60):
        taken(queue, 100, 3.0)
    assert queue.speeds().seconds("mini", "text2music", 100) == pytest.approx(3.0, abs=0.2)


def test_what_was_learnt_outlives_the_server(queue: Queue) -> None:
    taken(queue, 100, 2.0)
    queue.close()
    assert Queue(queue.store.path).speeds().mean_s == 2.0


@pytest.mark.parametrize(("workers", "expected"), [(1, [2, 4, 10]), (2, [2, 2, 8])])
def test_waiting_tasks_are_done_one_after_the_other(
    queue: Queue, workers: int, expected: list[float]
) -> None:
    taken(queue, 100, 2.0)
    sizes = (100, 100, 300)
    tasks = [queue.submit({}, Traits("text2music", "mini", work)).task for work in sizes]
    outlook = Outlook(queue, workers)
    assert [outlook.left_s(task) for task in tasks] == pytest.approx(expected)
    assert outlook.all_s == pytest.approx(max(expected))


def test_a_running_task_has_less_and_less_left(queue: Queue) -> None:
    taken(queue, 100, 2.0)
    queue.submit({}, Traits("text2music", "mini", 100))
    behind = queue.submit({}, Traits("text2music", "mini", 100)).task
    running = Leases(queue).claim("w")
    assert running is not None
    time.sleep(0.3)
    outlook = Outlook(queue, 1)
    left = outlook.left_s(running)
    assert left is not None
    assert 1.0 < left < 1.8
    assert outlook.left_s(behind) == pytest.approx(left + 2, abs=0.11)
    assert Leases(queue).finish(running, {}) == "succeeded"
    assert outlook.left_s(queue.get(running.id)) is None
