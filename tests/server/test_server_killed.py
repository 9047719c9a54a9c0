"""SIGKILL of the server and its workers under load: every accepted task ends once, and decodes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from test_server_live import serving, submitted

from luthier.audio.decode import read_audio
from luthier.server.cleaning import Places
from luthier.server.leases import Leases
from luthier.server.queue import Queue


def kill_worker(pid: int, home: Path) -> None:
    """Kill a worker of this home, if that is still what the number means."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        command = Path(f"/proc/{pid}/cmdline").read_text()
        if "luthier.server.worker" in command and str(home) in command:
            os.kill(pid, signal.SIGKILL)


def killed_under_load(address: str, home: Path, pid: int, chance: random.Random) -> list[str]:
    """Submit until a random moment, killing workers on the way; then kill the server."""
    accepted, leases = [], Leases(Queue(Places(home).database))
    end = time.monotonic() + chance.uniform(0.5, 3)
    while time.monotonic() < end:
        accepted.append(submitted(address, seed=chance.randrange(1000)))
        time.sleep(chance.uniform(0, 0.6))
        if chance.random() < 0.3:
            for worker in leases.workers():
                kill_worker(worker.pid, home)
    os.kill(pid, signal.SIGKILL)
    leases.queue.store.close()
    return accepted


@pytest.mark.slow
def test_every_accepted_task_ends_once(tmp_path: Path) -> None:
    home, log, chance = tmp_path / "home", tmp_path / "log", random.Random(3)
    accepted: list[str] = []
    for _ in range(15):
        with serving(home, log) as (address, process):
            accepted += killed_under_load(address, home, process.pid, chance)
            process.wait()
    queue = Queue(Places(home).database)
    with serving(home, log):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and queue.counts().queued + queue.counts().running:
            time.sleep(0.2)
    found = queue.find(accepted)
    assert set(found) == set(accepted)
    assert {task.state for task in found.values()} <= {"succeeded", "failed"}
    for task in found.values():
        if task.state == "failed":  # killed in all its attempts
            assert "the worker process ended 3 times" in (task.error or "")
            continue
        folder = Places(home).results / task.id / (task.result or {})["folder"]
        assert read_audio(folder / "1.mp3")[0].shape[1] > 20_000
    succeeded = [task for task in found.values() if task.state == "succeeded"]
    assert len(succeeded) > len(accepted) / 2
    queue.store.close()
