"""A calendar that jumps, a machine that slept, a container that froze: nobody is blamed for it,
and nothing that waits is forgotten or hurried.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.server.http.metrics import Metrics
from luthier.server.jobs import runner as job_runner
from luthier.server.jobs.jobs import Job, Jobs
from luthier.server.jobs.process import Process
from luthier.server.jobs.runner import JobRunner
from luthier.server.queue.clock import Uptime, Watch
from luthier.server.queue.eta import Outlook
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.task import Task
from luthier.server.queue.task_events import Changes
from luthier.server.webhooks.outbox import Webhooks
from luthier.server.workers.supervisor import Supervisor

Wait = Callable[..., Task]
HOUR, WEEK = 3600.0, 7 * 86400.0
JUMPS = [HOUR, -HOUR, WEEK, -WEEK]


class Calendar:
    """`time.time` of this process, moved."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._real = time.time

    def __call__(self) -> float:
        return self._real() + self.ahead_s


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    calendar = Calendar()
    monkeypatch.setattr(time, "time", calendar)
    return calendar


class Steady:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def leases(queue: Queue, steady: Steady) -> Leases:
    return Leases(queue, lease_s=30.0, most_attempts=3, steady=steady)


def watched(leases: Leases, steady: Steady, seconds: float) -> None:
    """As a supervisor that looks every second."""
    for _ in range(round(seconds)):
        steady.now_s += 1
        leases.reclaim()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_jump_takes_no_task_from_a_healthy_worker(
    queue: Queue, leases: Leases, steady: Steady, calendar: Calendar, jump_s: float
) -> None:
    identity = queue.submit({}).task.id
    task = leases.claim("w")
    assert task is not None
    leases.show("w", ["mini"])
    for _ in range(6):
        calendar.ahead_s += jump_s
        watched(leases, steady, 8)
        assert leases.keep(task)
        leases.show("w", ["mini"])
        assert [worker.name for worker in leases.workers()] == ["w"]
    assert queue.get(identity).attempts == 1
    assert leases.finish(task, {}) == "succeeded"


def test_a_frozen_or_sleeping_machine_takes_no_task_either(
    queue: Queue, leases: Leases, steady: Steady
) -> None:
    queue.submit({})
    task = leases.claim("w")
    assert task is not None
    for _ in range(10):
        watched(leases, steady, 8)
        steady.now_s += WEEK  # the server stood still, and so did the worker
        leases.reclaim()
        assert leases.keep(task)  # which wakes up a moment later
    assert queue.get(task.id).attempts == 1


def test_a_worker_without_a_sign_of_life_loses_its_task_but_is_not_said_to_need_memory(
    queue: Queue, leases: Leases, steady: Steady
) -> None:
    identity = queue.submit({}).task.id
    for attempt in (1, 2, 3):
        task = leases.claim(f"w{attempt}")
        assert task is not None
        leases.reclaim()
        watched(leases, steady, 29)
        assert queue.get(identity).state == "running"
        watched(leases, steady, 2)
        assert not leases.keep(task)
    lost = queue.get(identity)
    assert lost.state == "failed"
    assert "no sign of life for 30 s" in (lost.error or "")
    assert "memory" not in (lost.error or "")


def test_only_deaths_are_blamed_on_memory(queue: Queue, leases: Leases, steady: Steady) -> None:
    died, mixed = (queue.submit({"n": n}).task.id for n in range(2))
    for _ in range(3):
        assert leases.claim("w") is not None
        leases.abandon("w")
    assert "more memory than there is" in (queue.get(died).error or "")
    for attempt in range(3):
        assert leases.claim("w") is not None
        if attempt == 1:
            leases.reclaim()
            watched(leases, steady, 31)
        else:
            leases.abandon("w")
    assert queue.get(mixed).state == "failed"
    assert "memory" not in (queue.get(mixed).error or "")
    assert queue.retry(mixed).state == "queued"  # and all its attempts anew
    for _ in range(3):
        assert leases.claim("w") is not None
        leases.abandon("w")
    assert "more memory than there is" in (queue.get(mixed).error or "")


def test_a_watch_counts_only_while_somebody_looks(steady: Steady) -> None:
    watch = Watch(2.0, steady)
    assert watch.silent_s({"a": 1}) == {"a": 0}
    steady.now_s += 1.5
    assert watch.silent_s({"a": 1, "b": 1}) == {"a": 1.5, "b": 0}
    steady.now_s += 1000
    assert watch.silent_s({"a": 1, "b": 2}) == {"a": 3.5, "b": 0}
    steady.now_s -= 10  # no such clock should, but a virtual machine that is set back
    assert watch.silent_s({"a": 1}) == {"a": 3.5}
    assert watch.silent_s({"b": 2}) == {"b": 0}  # forgotten in between


@pytest.mark.parametrize("jump_s", JUMPS)
def test_followers_and_metrics_see_what_ends_after_a_jump(
    queue: Queue, setup: WorkerSetup, calendar: Calendar, jump_s: float
) -> None:
    leases = Leases(queue)
    metrics = Metrics(leases, type("P", (), {"home": setup.home})(), lambda: 0)
    first, second = (queue.submit({"n": n}).task.id for n in range(2))
    claimed = leases.claim("w")
    assert claimed is not None
    leases.finish(claimed, {})
    metrics.text()

    async def follow() -> list[str]:
        seen = []
        async for task in Changes(queue).follow(second):
            assert task is not None
            seen.append(task.state)
            if task.state == "queued":
                await asyncio.sleep(0.05)
                calendar.ahead_s += jump_s
                assert leases.claim("w") is not None
            elif task.state == "running":
                calendar.ahead_s -= jump_s  # put right again
                leases.finish(queue.get(second), {})
        return seen

    began = time.monotonic()
    assert asyncio.run(asyncio.wait_for(follow(), 20)) == ["queued", "running", "succeeded"]
    assert time.monotonic() - began < 5  # not at the glance every 15 s
    assert queue.get(first).state == "succeeded"
    text = metrics.text().decode()
    assert 'luthier_task_run_seconds_count{kind="",model="",state="succeeded"} 2.0' in text
    (total,) = [
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("luthier_task_run_seconds_sum")
    ]
    assert 0 <= total < 5


@pytest.mark.parametrize("jump_s", JUMPS)
def test_the_time_left_does_not_jump(queue: Queue, calendar: Calendar, jump_s: float) -> None:
    identity = queue.submit({}).task.id
    assert Leases(queue).claim("w") is not None
    calendar.ahead_s += jump_s
    left = Outlook(queue, 1).left_s(queue.get(identity))
    assert left == pytest.approx(5.0, abs=1)  # `usual_s`


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_webhook_is_told_again_after_its_pause(
    queue: Queue, steady: Steady, calendar: Calendar, jump_s: float
) -> None:
    uptime = Uptime(queue.store, steady, lambda: "boot")
    webhooks = Webhooks(queue.store, uptime=uptime)
    task = queue.submit({}).task
    webhooks.add(task.id, "https://hooks.example.com")
    queue.cancel(task.id)
    (due,) = webhooks.due(9)
    assert webhooks.failed(due, "no")
    calendar.ahead_s += jump_s
    assert webhooks.due(9) == []
    steady.now_s += 5.1
    assert [one.attempts for one in webhooks.due(9)] == [1]
    with queue.store.transaction() as connection:  # as version 2 wrote it
        connection.execute("UPDATE webhooks SET due = ?", (calendar() + HOUR,))
    assert len(Webhooks(queue.store, uptime=uptime).due(9)) == 1


@pytest.fixture
def jobs(queue: Queue) -> Jobs:
    return Jobs(queue.store)


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_job_that_saves_has_its_time(
    jobs: Jobs, tmp_path: Path, calendar: Calendar, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[signal.Signals] = []
    monkeypatch.setattr(job_runner, "send", lambda _, number: sent.append(number))
    runner = JobRunner(jobs, tmp_path / "jobs", 1)
    job = jobs.add("train", {}, [])
    assert jobs.starts(job)
    jobs.runs(job, Process(os.getpid(), "born"))
    asked = jobs.stop(job.id)
    for _ in range(3):
        calendar.ahead_s += jump_s
        runner._stop_if_asked(asked, Process(os.getpid(), "born"))
    assert sent == [signal.SIGINT]
    monkeypatch.setattr(job_runner, "_PATIENCE_S", 0.01)
    time.sleep(0.03)
    runner._stop_if_asked(asked, Process(os.getpid(), "born"))
    assert sent == [signal.SIGINT, signal.SIGKILL]


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_job_whose_process_is_not_known_yet_is_waited_for(
    jobs: Jobs, tmp_path: Path, calendar: Calendar, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = JobRunner(jobs, tmp_path / "jobs", 1)
    job: Job = jobs.add("train", {}, [])
    assert jobs.starts(job)
    calendar.ahead_s += jump_s
    runner._look()
    assert jobs.get(job.id).state == "running"
    monkeypatch.setattr(job_runner, "_BIRTH_S", 0.01)
    time.sleep(0.02)
    runner._look()
    assert jobs.get(job.id).state == "interrupted"


@pytest.fixture
def playing(config: ServerConfig, calendar: Calendar) -> Iterator[TestClient]:
    """A server with a real worker, and its calendar in our hands."""
    setup = replace(config.worker, lease_s=4.0)
    app = create_app(replace(config, worker=setup, workers=1))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


def test_a_server_whose_calendar_jumps_plays_on(
    playing: TestClient, queue: Queue, calendar: Calendar, wait: Wait
) -> None:
    body = {"prompt": "calm piano", "audio_duration": 60, "inference_steps": 60, "seed": 3}
    identity = playing.post("/release_task", json=body).json()["data"]["task_id"]
    wait(identity, lambda task: task.state == "running")
    for jump_s in JUMPS:
        calendar.ahead_s += jump_s
        time.sleep(1.3)
    done = wait(identity)
    assert (done.state, done.attempts) == ("succeeded", 1), done.error
    row = playing.get(f"/v1/tasks/{identity}").json()["data"]
    for jump_s in JUMPS:
        calendar.ahead_s += jump_s
        playing.app.state.service.queue.store.rows("SELECT 1")
    assert playing.get(row["results"][0]["file"]).status_code == 200


def test_a_frozen_server_and_worker_go_on_where_they_were(
    setup: WorkerSetup, queue: Queue, supervisor: Supervisor, wait: Wait
) -> None:
    identity = queue.submit(
        {
            "kind": "music",
            "music": {"prompt": "calm piano", "duration_s": 60, "steps": 60},
            "options": {},
        }
    ).task.id
    wait(identity, lambda task: task.progress > 0.51)
    # The supervisor's clock as after a freeze of an hour: `Watch` looks, a long time after.
    watch = supervisor._leases._tasks
    watch._looked -= HOUR
    time.sleep(2.5)
    assert (queue.get(identity).attempts, queue.get(identity).state) == (1, "running")
    queue.cancel(identity)
    assert wait(identity).state == "cancelled"
