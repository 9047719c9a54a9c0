"""Homes as people have them, with `luthier serve` in a process of its own: a folder of theirs, a
database that is gone, a result into which somebody put a file.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from test_server_live import finished, serving, submitted

MINE = {
    *(
        "results/song.wav",
        "results/album/1.mp3",
        "uploads/mine.wav",
        "uploads/deep/source_audio.wav",
    ),
    *("jobs/thesis/log.txt", "dataset/dataset_label-mine/asked.json", "logs/a.txt", "tasks.txt"),
}


def of_others(home: Path) -> None:
    """Files of other people, years old."""
    for name in MINE:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    for path in (home, *home.rglob("*")):
        os.utime(path, (10**9, 10**9))


def files(home: Path) -> dict[str, bytes]:
    return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}


def told(log: Path, what: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [row for row in rows if row["what"] == what]


def played(address: str) -> str:
    """A finished task."""
    identity = submitted(address, seed=1)
    assert finished(address, identity)
    return identity


def test_a_folder_of_others_is_served_in_and_nothing_of_theirs_goes(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    of_others(home)
    with serving(home, log) as (address, _):
        identity = played(address)
        (attempt,) = (home / "results" / identity).iterdir()
        (attempt / "cover.png").write_bytes(b"mine")
        time.sleep(1.5)  # the clean-up of the start is over
        asked = urllib.request.Request(f"{address}/v1/tasks/{identity}", method="DELETE")
        urllib.request.urlopen(asked).close()
    left = files(home)
    assert left.keys() >= MINE
    assert all(left[name] == b"mine" for name in MINE)
    assert {name for name in left if identity in name} == {
        f"results/{identity}/{attempt.name}/cover.png"
    }
    assert {row["folder"]: row["entries"] for row in told(log, "unknown files")} == {
        str(home / "results"): 2,
        str(home / "uploads"): 2,
    }


@pytest.mark.parametrize("how", ["moved", "lost after a kill", "emptied", "no rows"])
def test_a_server_without_its_database_keeps_the_results(tmp_path: Path, how: str) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    with serving(home, log) as (address, process):
        known = {played(address) for _ in range(2)}
        if how == "lost after a kill":
            process.send_signal(signal.SIGKILL)
            process.wait()
    before = {name: data for name, data in files(home).items() if name.startswith("results/")}
    assert {name.split("/")[1] for name in before} == known
    for path in (home / "results").rglob("*"):
        os.utime(path, (10**9, 10**9))
    database = home / "tasks.sqlite3"
    if how == "no rows":
        with sqlite3.connect(database) as connection:
            connection.execute("DELETE FROM tasks")
        connection.close()
    elif how == "emptied":
        database.write_bytes(b"")
    else:
        os.replace(database, home / "broken.sqlite3")
    with serving(home, log) as (address, _):
        time.sleep(1.5)
        later = played(address)
    left = {name: data for name, data in files(home).items() if name.startswith("results/")}
    assert before.items() <= left.items()
    assert any(later in name for name in left)
    (row,) = told(log, "unknown files")
    assert (row["entries"], row["folder"]) == (2, str(home / "results"))
    assert "they stay" in row["told"]


@pytest.mark.parametrize("name", ["lora.json", "dataset/working.json"])
def test_a_home_with_files_in_the_way_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "home" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--home"]
    done = subprocess.run(
        [*command, str(tmp_path / "home")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"{path} is there, and no server of luthier has written it" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == b"mine"
