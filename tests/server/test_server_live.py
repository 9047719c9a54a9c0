"""`luthier serve` as people run it: the seed's curl lines, and a server that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio

EXAMPLES = Path(__file__).parents[2] / "examples" / "api"
JSON = {"Content-Type": "application/json"}
SHORT = {"prompt": "x", "audio_duration": 1, "inference_steps": 2, "batch_size": 1, "seed": 4}


@contextmanager
def serving(home: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of its own, and its address."""
    command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--threads", "1"]
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*command, "--home", str(home)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("mini at http://127.0.0.1:"), log.read_text()
        yield line.split()[2], process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path / "home", tmp_path / "log") as (address, _):
        yield address


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    sound = 0.3 * np.sin(np.arange(24000 * 20) / 30, dtype=np.float32)
    write_audio(path, np.stack([sound, sound]), 24000)
    return path


def curl(*words: str) -> Any:
    done = subprocess.run(["curl", "-sS", *words], capture_output=True, check=True)
    return json.loads(done.stdout)


def example(name: str, *words: str | Path) -> Any:
    command = ["sh", str(EXAMPLES / name), *map(str, words)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def polled(server: str, identity: str) -> tuple[int, list[dict[str, Any]]]:
    ids = json.dumps({"task_id_list": [identity]})
    answer = curl("-X", "POST", f"{server}/query_result", "-H", "Content-Type: application/json",
                  "-d", ids)  # fmt: skip
    (row,) = answer["data"]
    return row["status"], json.loads(row["result"])


def finished(server: str, identity: str, patience_s: float = 120) -> list[dict[str, Any]]:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        status, items = polled(server, identity)
        if status:
            assert status == 1, items
            return items
        time.sleep(0.05)
    raise AssertionError("it takes too long")


def submitted(server: str, **fields: Any) -> str:
    body = json.dumps(SHORT | fields).encode()
    request = urllib.request.Request(f"{server}/release_task", body, JSON)
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["data"]["task_id"])


def test_a_seed_is_honoured(server: str) -> None:
    def played() -> bytes:
        (item,) = finished(server, submitted(server, audio_format="wav", use_random_seed=False))
        assert item["seed_value"] == "4"
        with urllib.request.urlopen(server + item["file"]) as answer:
            return bytes(answer.read())

    assert played() == played()


def test_a_killed_server_loses_nothing(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    with serving(home, log) as (address, process):
        first = submitted(address)
        finished(address, first)
        ids = [submitted(address, seed=n) for n in range(3)]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with serving(home, log) as (address, _):
        for identity in (first, *ids):
            (item,) = finished(address, identity)
            with urllib.request.urlopen(address + item["file"]) as answer:
                (tmp_path / "x.mp3").write_bytes(answer.read())
            assert read_audio(tmp_path / "x.mp3")[0].shape[1] > 20_000


def test_one_server_a_home_and_one_an_address(server: str, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        command = [sys.executable, "-m", "luthier", "serve", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode in (1, 2)
        return done.stderr

    home = ("--home", str(tmp_path / "home"))
    assert "another server uses" in refused(*home, "--port", "0")
    other = ("--home", str(tmp_path / "other"))
    assert "cannot be used" in refused(*other, "--port", server.rpartition(":")[2])
