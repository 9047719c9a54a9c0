"""A real server in a process of its own, for tests of what talks to one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

KEY = "a-key-of-these-tests"


class Running(NamedTuple):
    """A server that runs: its address, its process, and the file of its log."""

    address: str
    process: subprocess.Popen[str]
    log: Path


@contextmanager
def running_server(folder: Path, *words: str, key: str = "") -> Iterator[Running]:
    """`luthier serve` with mini on one thread and a home in `folder`, until the block ends."""
    command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--threads", "1"]
    environment = os.environ | {"ACESTEP_API_KEY": key, "OMP_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*command, "--home", str(folder / "home"), *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert " at http://" in line, log.read_text()
        yield Running(line.split()[2], process, log)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
