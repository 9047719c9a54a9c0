"""Workers that play in Ray actors: music comes back, a lost actor is replaced, cancel is heard."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_worker import LONG, SHORT, music

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.server.config import WorkerSetup
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Cleaner, Places
from luthier.server.queue.task import Task
from luthier.server.workers.supervisor import Supervisor

pytest.importorskip("ray")
Wait = Callable[..., Task]


@pytest.fixture
def supervisor(setup: WorkerSetup, queue: Queue) -> Iterator[Supervisor]:
    """One worker with a Ray of its own."""
    there = replace(setup, engine="ray", ray_address="local")
    cleaner = Cleaner(queue, Places(setup.home), keep_s=3600, keep_bytes=10**9)
    supervisor = Supervisor(there, Leases(queue), cleaner, 1)
    supervisor.start()
    yield supervisor
    supervisor.stop()


def actors_below(worker: int) -> list[int]:
    """The processes of actors that a worker's Ray started."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            is_actor = folder.joinpath("cmdline").read_text().startswith("ray::Actor")
            if is_actor and worker in ancestors(int(folder.name)):
                found.append(int(folder.name))
        except FileNotFoundError:
            continue
    return found


def ancestors(pid: int) -> list[int]:
    """Its parent, whose parent, and so on."""
    found = []
    while pid > 1:
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
        found.append(pid)
    return found


@pytest.mark.slow
def test_music_is_made_in_an_actor_and_a_lost_one_is_replaced(
    setup: WorkerSetup, queue: Queue, supervisor: Supervisor, wait: Wait, tmp_path: Path
) -> None:
    upload = Places(setup.home).uploads / "u" / "source.wav"
    sound = 0.3 * np.sin(np.arange(48000) / 20, dtype=np.float32)
    write_audio(upload, np.stack([sound, sound]), 24000)
    first = queue.submit(music(**SHORT, options={"audio_format": "wav"})).task
    repaint = {"task": "repaint", "source_audio": str(upload), "repaint_start_s": 1.0, "steps": 2}
    second = queue.submit(music(**repaint, options={"audio_format": "wav"}), uploads="u").task
    own = tmp_path / "own.wav"
    shutil.copy(upload, own)
    bad = queue.submit(music(prompt="x", task="lego", source_audio=str(own), duration_s=300)).task
    long = queue.submit(music(**LONG)).task
    cancelled = queue.submit(music(**LONG)).task

    deadline = time.monotonic() + 240  # Ray has much to start
    while not any(row.loaded for row in Leases(queue).workers()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for task, seconds in ((first, 1), (second, 2)):
        done = wait(task.id)
        assert done.state == "succeeded", done.error
        folder = Places(setup.home).results / done.id / (done.result or {})["folder"]
        assert read_audio(folder / "1.wav")[0].shape == (2, 24000 * seconds)
        assert (folder / "1.wav.run.json").is_file()
    failed = wait(bad.id)
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert "at most 120 seconds" in (failed.error or "")

    wait(long.id, lambda task: task.progress > 0.51)
    (worker,) = supervisor.pids
    (actor,) = actors_below(worker)
    os.kill(actor, signal.SIGKILL)
    again = wait(long.id, lambda task: task.attempts == 2 and task.progress > 0.51)
    assert again.worker is not None
    assert supervisor.pids == [worker]  # the worker itself lives on
    queue.cancel(long.id)
    assert wait(long.id).state == "cancelled"

    wait(cancelled.id, lambda task: task.progress > 0.51)
    started = time.monotonic()
    queue.cancel(cancelled.id)
    assert wait(cancelled.id).state == "cancelled"
    assert time.monotonic() - started < 10
    assert not (Places(setup.home).results / cancelled.id).exists()
    supervisor.stop()
    assert not actors_below(worker)
