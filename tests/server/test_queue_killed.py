"""SIGKILL in the middle of submits and claims: what was answered is there, and ends once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue

# Says an id only after the queue has accepted it; says an end only after the queue has.
_CHILD = """
import sys
from pathlib import Path
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
queue = Queue(Path(sys.argv[1]))
leases = Leases(queue, most_attempts=1000)
worker = sys.argv[2]
while True:
    print("accepted", queue.submit({"by": worker}).task.id, flush=True)
    task = leases.claim(worker)
    if task is not None:
        print("claimed", task.id, flush=True)
        leases.report(task, 0.5, "half")
        if leases.finish(task, {"by": worker}) == "succeeded":
            print("ended", task.id, flush=True)
"""


def run_and_kill(path: Path, worker: str, seconds: float) -> list[list[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path), worker], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    first = child.stdout.readline()  # it works: from here on it may die at any moment
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    lines = (first + rest).splitlines(keepends=True)
    return [line.split() for line in lines if line.endswith("\n")]


def test_no_accepted_task_is_lost_and_none_ends_twice(tmp_path: Path) -> None:
    path, chance = tmp_path / "tasks.sqlite3", random.Random(7)
    accepted: set[str] = set()
    ended: list[str] = []
    for attempt in range(8):
        for what, identity in run_and_kill(path, f"w{attempt}", chance.uniform(0, 0.2)):
            if what == "accepted":
                accepted.add(identity)
            elif what == "ended":
                ended.append(identity)
        Leases(Queue(path), most_attempts=1000).abandon(f"w{attempt}")
    queue = Queue(path)
    assert queue.store.rows("PRAGMA integrity_check")[0][0] == "ok"
    leases = Leases(queue, most_attempts=1000)
    while task := leases.claim("last"):
        leases.finish(task, {"by": "last"})
        ended.append(task.id)
    found = queue.find(sorted(accepted))
    assert set(found) == accepted
    assert {task.state for task in found.values()} == {"succeeded"}
    assert len(ended) == len(set(ended))
    counts = queue.counts()
    assert counts.total == counts.succeeded <= len(accepted) + 8  # killed before it could answer
    queue.store.close()
