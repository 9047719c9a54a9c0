"""Real workers with the built-in model: they play, stop, die, and what they had is taken up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.audio.bounded import check_recording
from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.errors import AudioError
from luthier.server.config import WorkerSetup
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Places
from luthier.server.queue.task import Task
from luthier.server.workers.supervisor import Supervisor

Wait = Callable[..., Task]
SHORT = {"prompt": "calm piano", "duration_s": 1, "steps": 2, "seed": 3}
LONG = {"prompt": "calm piano", "duration_s": 60, "steps": 200}


def music(options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"kind": "music", "music": fields, "options": options or {}}


def test_tasks_become_files_with_their_records(
    setup: WorkerSetup, queue: Queue, supervisor: Supervisor, wait: Wait
) -> None:
    places = Places(setup.home)
    upload = places.uploads / "u" / "source.wav"
    sound = 0.3 * np.sin(np.arange(48000) / 20, dtype=np.float32)
    write_audio(upload, np.stack([sound, sound]), 24000)
    bad = places.uploads / "v" / "noise.wav"
    bad.parent.mkdir()
    bad.write_bytes(b"no sound at all")
    first = queue.submit(music(**SHORT | {"batch_size": 2}, options={"audio_format": "wav"}))
    repaint = {"task": "repaint", "source_audio": str(upload), "repaint_start_s": 1.0, "steps": 2}
    second = queue.submit(music(**repaint), uploads="u")
    third = queue.submit(music(**repaint | {"source_audio": str(bad)}), uploads="v")
    supervisor.wake()

    task = wait(first.task.id)
    assert (task.state, task.stage, task.error) == ("succeeded", "succeeded", None)
    result = task.result or {}
    folder = places.results / task.id / result["folder"]
    assert [piece["seed"] for piece in result["pieces"]] == [3, 4]
    for piece in result["pieces"]:
        audio, rate = read_audio(folder / piece["path"])
        assert (audio.shape, rate) == ((2, 24000), 24000)
        record = json.loads((folder / (piece["path"] + ".run.json")).read_text())
        assert record["stage"] == "serve"

    task = wait(second.task.id)
    assert task.state == "succeeded"
    path = places.results / task.id / (task.result or {})["folder"] / "1.mp3"
    assert read_audio(path)[0].shape[1] == pytest.approx(48000, abs=2500)
    assert not (places.uploads / "u").exists()

    task = wait(third.task.id)
    assert task.state == "failed"
    assert "noise.wav" in (task.error or "")
    assert str(setup.home) not in (task.error or "")
    assert (places.uploads / "v").exists()  # it may be tried again
    assert not (places.results / task.id).exists()


def test_cancel_stops_between_steps_and_leaves_no_file(
    setup: WorkerSetup, queue: Queue, supervisor: Supervisor, wait: Wait
) -> None:
    identity = queue.submit(music(**LONG)).task.id
    wait(identity, lambda task: task.progress > 0.51)
    assert "Generating music" in queue.get(identity).stage
    queue.cancel(identity)
    assert wait(identity).state == "cancelled"
    assert not (Places(setup.home).results / identity).exists()


def test_a_killed_worker_is_replaced_and_its_task_done_again(
    queue: Queue, supervisor: Supervisor, wait: Wait
) -> None:
    identity = queue.submit(music(**LONG)).task.id
    wait(identity, lambda task: task.progress > 0.51)
    (pid,) = supervisor.pids
    os.kill(pid, signal.SIGKILL)
    again = wait(identity, lambda task: task.attempts == 2 and task.state == "running")
    assert again.worker is not None
    queue.cancel(identity)
    assert wait(identity).state == "cancelled"


def test_stopping_gives_the_task_back(queue: Queue, supervisor: Supervisor, wait: Wait) -> None:
    identity = queue.submit(music(**LONG)).task.id
    wait(identity, lambda task: task.progress > 0.51)
    supervisor.stop()
    back = queue.get(identity)
    assert (back.state, back.attempts) == ("queued", 0)


def test_a_worker_ends_when_its_server_has_gone(
    setup: WorkerSetup, supervisor: Supervisor, queue: Queue, wait: Wait
) -> None:
    wait(queue.submit(music(**SHORT)).task.id)
    (slot,) = supervisor._slots
    assert slot.process is not None
    assert slot.process.stdin is not None
    slot.process.stdin.close()
    assert slot.process.wait(10) == 0


def test_a_recording_that_is_too_long_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    write_audio(path, np.zeros((1, 8000 * 31), np.float32), 8000)
    check_recording(path, 31.0)
    with pytest.raises(AudioError, match=r"longer than the 30 s"):
        check_recording(path, 30.0)
