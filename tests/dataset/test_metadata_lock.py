from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from luthier.dataset.metadata_lock import LOCK_NAME, edit_json, metadata_lock
from luthier.errors import DatasetError, PathError

_WORKER = """
import sys
from pathlib import Path
from luthier.dataset.metadata_lock import edit_json
path, name = Path(sys.argv[1]), sys.argv[2]
for number in range(int(sys.argv[3])):
    with edit_json(path, {}) as value:
        value[f"{name}-{number}"] = number
"""
_HOLDER = """
import sys, time
from pathlib import Path
from luthier.dataset.metadata_lock import metadata_lock
with metadata_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def worker(script, *words):
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_edit_at_once_lose_nothing(tmp_path):
    path = tmp_path / "mapping.json"
    workers = [worker(_WORKER, path, name, 15) for name in "abc"]
    assert [w.communicate(timeout=120) and w.returncode for w in workers] == [0, 0, 0]
    expected = {f"{name}-{number}": number for name in "abc" for number in range(15)}
    assert json.loads(path.read_text()) == expected
    assert [p.name for p in tmp_path.iterdir()] == ["mapping.json"]


def test_a_process_that_dies_gives_its_lock_back(tmp_path):
    holder = worker(_HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    busy = pytest.raises(DatasetError, match="another process has been editing")
    with busy, metadata_lock(tmp_path, wait_s=0.1):
        raise AssertionError("two at once")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    started = time.monotonic()
    with metadata_lock(tmp_path, wait_s=20):
        pass
    assert time.monotonic() - started < 20
    assert not (tmp_path / LOCK_NAME).exists()


def test_what_fails_or_changes_nothing_writes_nothing(tmp_path):
    path = tmp_path / "meta" / "a.json"
    with edit_json(path, {"x": 1}):
        pass
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), edit_json(path, {}) as value:
        value["y"] = 1 / 0
    assert not path.exists()
    with edit_json(path, {}) as value:
        value["y"] = [1]
    before = path.stat().st_mtime_ns
    with edit_json(path, {}) as value:
        assert value == {"y": [1]}
    assert path.stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    wrong = pytest.raises(PathError, match="is a file, but a folder is needed")
    with wrong, metadata_lock(tmp_path / "file"):
        raise AssertionError("no folder")
