"""Followers of a task: told of each change, and at once where a worker says that there is one."""

from __future__ import annotations

import asyncio
import os

import pytest

from luthier.server.queue import task_events as changes_module
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.task_events import Changes
from luthier.server.workers.supervisor import Supervisor


def states(queue: Queue, *, is_told: bool) -> list[str]:
    """What a follower of a task sees that a worker claims, reports once and finishes."""
    changes, leases = Changes(queue), Leases(queue)
    identity = queue.submit({}).task.id
    seen: list[str] = []

    async def follow() -> None:
        steps = iter(
            (
                lambda: leases.claim("w"),
                lambda: leases.report(queue.get(identity), 0.5, "half"),
                lambda: leases.finish(queue.get(identity), {}),
            )
        )
        async for task in changes.follow(identity):
            assert task is not None
            seen.append(task.stage)
            if step := next(steps, None):
                await asyncio.sleep(0.05)  # the look-out rests by then
                step()
                if is_told:
                    changes.look()

    asyncio.run(asyncio.wait_for(follow(), 20))
    return seen


ALL = ["queued", "running", "half", "succeeded"]


def test_a_follower_sees_every_change(queue: Queue) -> None:
    assert states(queue, is_told=False) == ALL


def test_news_are_not_waited_for(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "_LOOK_S", 60.0)
    assert states(queue, is_told=True) == ALL


def test_a_worker_tells_that_it_has_changed_something(queue: Queue, supervisor: Supervisor) -> None:
    os.set_blocking(supervisor.news.fileno(), True)
    assert queue.submit({"kind": "open", "model": "mini", "planner": False}).position == 1
    supervisor.wake()
    assert set(supervisor.news.read(1)) == {ord("!")}
