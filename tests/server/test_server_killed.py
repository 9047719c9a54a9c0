"""SIGKILL of the server and its workers, a damaged row, a full disk: every accepted task ends once,
and what is served decodes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_server_live import serving, submitted

from luthier.audio.decode import read_audio
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Places
from luthier.server.queue.task import DAMAGED, Task

KILLS = 200
_JOURNAL = """
CREATE TABLE IF NOT EXISTS ends (id TEXT);
CREATE TRIGGER IF NOT EXISTS an_end AFTER UPDATE OF state ON tasks
WHEN NEW.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state != OLD.state
BEGIN INSERT INTO ends VALUES (NEW.id); END;
"""


def kill_worker(pid: int, home: Path) -> bool:
    """Kill a worker of this home, if that is still what the number means."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        command = Path(f"/proc/{pid}/cmdline").read_text()
        if "luthier.server.workers.worker" in command and str(home) in command:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def killed_under_load(
    address: str, queue: Queue, pid: int, chance: random.Random
) -> tuple[list[str], int]:
    """Submit and cancel until a random moment, killing workers on the way; then kill the server.

    Returns what was accepted, and how many were killed.
    """
    accepted, kills, leases = [], 1, Leases(queue)
    end = time.monotonic() + chance.uniform(0.5, 3)
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.HTTPError):  # the queue is full
            accepted.append(submitted(address, seed=chance.randrange(1000)))
        if accepted and chance.random() < 0.1:
            identity = chance.choice(accepted)
            urllib.request.urlopen(f"{address}/v1/tasks/{identity}/cancel", data=b"").close()
        time.sleep(chance.uniform(0, 0.4))
        if chance.random() < 0.6:
            home = queue.store.path.parent
            kills += sum(kill_worker(worker.pid, home) for worker in leases.workers())
    os.kill(pid, signal.SIGKILL)
    return accepted, kills


def damage_one(queue: Queue) -> str | None:
    """Spoil the record of a waiting task."""
    waiting = queue.page("queued", limit=1)
    if not waiting:
        return None
    with queue.store.transaction() as connection:
        connection.execute("UPDATE tasks SET request = x'00ff' WHERE id = ?", (waiting[0].id,))
    return waiting[0].id


def drained(queue: Queue, patience_s: float = 600) -> None:
    """Wait until nothing is queued or running."""
    deadline = time.monotonic() + patience_s
    while queue.counts().queued + queue.counts().running:
        assert time.monotonic() < deadline, queue.counts()
        time.sleep(0.2)


def check_files(address: str, tasks: list[Task], folder: Path) -> None:
    """Every file of every succeeded task can be downloaded, and is a second of music."""
    for task in tasks:
        body = json.dumps({"task_id_list": [task.id]}).encode()
        request = urllib.request.Request(f"{address}/query_result", body)
        with urllib.request.urlopen(request) as answer:
            (row,) = json.load(answer)["data"]
        for item in json.loads(row["result"]):
            with urllib.request.urlopen(address + item["file"]) as answer:
                (folder / "x.mp3").write_bytes(answer.read())
            assert read_audio(folder / "x.mp3")[0].shape[1] > 20_000


@pytest.mark.slow
def test_every_accepted_task_ends_once(tmp_path: Path) -> None:
    home, log, chance = tmp_path / "home", tmp_path / "log", random.Random(3)
    queue = Queue(Places(home).database)
    with queue.store.reading() as connection:
        connection.executescript(_JOURNAL)
    accepted: list[str] = []
    damaged: set[str] = set()
    kills = 0
    while kills < KILLS:
        with serving(home, log) as (address, process):
            more, killed = killed_under_load(address, queue, process.pid, chance)
            process.wait()
        accepted, kills = accepted + more, kills + killed
        if chance.random() < 0.1 and (spoilt := damage_one(queue)):
            damaged.add(spoilt)
    with serving(home, log) as (address, _):
        drained(queue)
        found = queue.find(accepted)
        states = Counter(task.state for task in found.values())
        told = f"{kills} kills, {len(accepted)} accepted, {len(damaged)} damaged: {states}"
        sys.stdout.write(f"{told}\n")
        check_files(address, [t for t in found.values() if t.state == "succeeded"], tmp_path)
    assert set(found) == set(accepted)
    ends = Counter(row["id"] for row in queue.store.rows("SELECT id FROM ends"))
    assert ends == Counter(accepted)
    for task in found.values():
        if task.id in damaged:
            assert (task.state, task.error) == ("failed", DAMAGED)
        elif task.state == "failed":  # killed in all its attempts
            assert "the worker process ended 3 times" in (task.error or "")
    assert states["succeeded"] > len(accepted) / 2
    queue.close()


_SMALL = """
import sys
from pathlib import Path
from luthier.music.mini import onnx_folder
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.server.serve import run_server
worker = WorkerSetup(home=Path(sys.argv[1]), models={"mini": onnx_folder()}, threads=1)
config = ServerConfig(worker=worker, free_bytes=int(sys.argv[2]))
run_server(config, "127.0.0.1", 0, lambda address: print(address, flush=True))
"""


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("spare", [0, 200_000])
def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path, spare: int) -> None:
    with small_disk(tmp_path / "disk", "16m") as disk:
        home = disk / "home"
        process = subprocess.Popen(
            [sys.executable, "-c", _SMALL, str(home), str(spare)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        accepted, refused = [], []
        for n in range(60):
            if n == 10:
                fill(disk / "filler")
            if n == 45:
                (disk / "filler").unlink()
            try:
                accepted.append(submitted(address, seed=n))
            except urllib.error.HTTPError as error:
                refused.append(error.code)
            time.sleep(0.1)
        queue = Queue(Places(home).database)
        drained(queue)
        found = queue.find(accepted)
        assert set(found) == set(accepted)
        assert queue.counts().total == len(accepted)
        assert len(refused) > 10
        assert set(refused) == {507}
        states = Counter(task.state for task in found.values())
        sys.stdout.write(f"{len(accepted)} accepted, {len(refused)} refused: {states}\n")
        check_files(address, [t for t in found.values() if t.state == "succeeded"], tmp_path)
        for task in found.values():
            if task.state == "failed":
                assert "disk" in (task.error or "") or "3 times" in (task.error or "")
        assert states["succeeded"] >= 10
        queue.close()
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGTERM)
        process.stdout.close()


def fill(path: Path) -> None:
    """Leave no room."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
