"""Many requests leave nothing behind: no open files, no threads; and a told server goes at once."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path

import pytest
from test_server_live import serving

ASKED = json.dumps({"prompt": "x", "audio_duration": 1, "inference_steps": 1}).encode()
JSON = {"Content-Type": "application/json"}


def held(pid: int) -> tuple[int, int]:
    """Open files and threads of a process."""
    folder = Path(f"/proc/{pid}")
    return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))


def some_requests(place: str, count: int) -> None:
    """Submissions, questions, cancels and nonsense, over new connections and kept ones."""
    kept = http.client.HTTPConnection(place, timeout=60)
    for n in range(count):
        new = http.client.HTTPConnection(place, timeout=60)
        kept.request("POST", "/release_task", ASKED, JSON)
        told = json.loads(kept.getresponse().read())
        identity = (told["data"] or {"task_id": "none"})["task_id"]
        for connection, method, path in (
            (kept, "GET", f"/v1/tasks/{identity}"),
            (new, "POST", f"/v1/tasks/{identity}/cancel"),
            (kept, "GET", f"/nowhere/{n}"),
        ):
            connection.request(method, path)
            connection.getresponse().read()
        new.close()
    kept.close()


@pytest.mark.parametrize("count", [100, pytest.param(2500, marks=pytest.mark.slow)])
def test_requests_leave_nothing_behind(tmp_path: Path, count: int) -> None:
    with serving(tmp_path / "home", tmp_path / "log") as (address, process):
        place = address.removeprefix("http://")
        some_requests(place, 40)  # threads and connections to the queue are kept for later
        files, threads = held(process.pid)
        some_requests(place, count)
        time.sleep(0.5)
        after = held(process.pid)
        assert after[0] <= files + 3
        assert after[1] <= threads + 3
        started = time.monotonic()
        process.terminate()
        assert process.wait(30) in (0, -15)
        assert time.monotonic() - started < 20
