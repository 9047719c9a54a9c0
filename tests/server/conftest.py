"""A home for a server, a queue in it, and workers with mini on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from luthier.music.mini import onnx_folder
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Cleaner, Places
from luthier.server.queue.task import Task
from luthier.server.workers.supervisor import Supervisor

Wait = Callable[..., Task]


@pytest.fixture
def setup(tmp_path: Path) -> WorkerSetup:
    return WorkerSetup(home=tmp_path / "home", models={"mini": onnx_folder()}, threads=1)


@pytest.fixture
def queue(setup: WorkerSetup) -> Iterator[Queue]:
    queue = Queue(Places(setup.home).database)
    yield queue
    queue.store.close()


@pytest.fixture
def supervisor(setup: WorkerSetup, queue: Queue) -> Iterator[Supervisor]:
    leases = Leases(queue, lease_s=setup.lease_s, most_attempts=setup.most_attempts)
    cleaner = Cleaner(queue, Places(setup.home), keep_s=3600, keep_bytes=10**9)
    supervisor = Supervisor(setup, leases, cleaner, 1)
    supervisor.start()
    yield supervisor
    supervisor.stop()


@pytest.fixture
def wait(queue: Queue) -> Wait:
    def until(identity: str, is_so: Callable[[Task], bool] = lambda t: t.has_ended) -> Task:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            task = queue.get(identity)
            if is_so(task):
                return task
            time.sleep(0.02)
        raise AssertionError(f"still {queue.get(identity)}")

    return until


@pytest.fixture
def config(setup: WorkerSetup) -> ServerConfig:
    """Without workers: tasks wait, or a test does them itself."""
    return ServerConfig(worker=setup, workers=0, queue_limit=4, upload_bytes=10_000)


@pytest.fixture
def client(config: ServerConfig) -> Iterator[TestClient]:
    with TestClient(create_app(config), base_url="http://127.0.0.1:8001") as client:
        yield client


@pytest.fixture
def locked(config: ServerConfig) -> Iterator[TestClient]:
    """A server with two keys."""
    with TestClient(
        create_app(replace(config, keys=("one", "two"))), base_url="http://127.0.0.1:8001"
    ) as client:
        yield client
