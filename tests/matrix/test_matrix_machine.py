"""The machine and its memory, with a GPU that is told of by a stand-in for NVIDIA's tool."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from luthier.matrix.machine import GpuMemory, machine


def gpu(folder: Path, used: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool that tells what the file `used` holds."""
    (folder / "used").write_text(used)
    tool = folder / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$1" in *memory.used) cat "$(dirname "$0")/used";;'
        ' *memory.total) echo "15360 MiB";; *) echo "Tesla T4";; esac\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "used"


def test_the_most_memory_beyond_what_was_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = gpu(tmp_path, "500 MiB\n", monkeypatch)
    with GpuMemory.watched() as found:
        used.write_text("2548 MiB\n")
        deadline = time.monotonic() + 20
        while not found.peak_bytes and time.monotonic() < deadline:
            time.sleep(0.05)
        used.write_text("600 MiB\n")
        time.sleep(0.5)
    assert found.peak_bytes == 2048 * 2**20


def test_a_gpu_in_the_main_memory_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(tmp_path, "[N/A]\n", monkeypatch)
    with GpuMemory.watched() as found:
        time.sleep(0.3)
    assert found.peak_bytes is None


def test_a_machine_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(tmp_path, "0 MiB\n", monkeypatch)
    told = machine()
    assert (told["gpu"], told["gpu_memory"]) == ("Tesla T4", "15360 MiB")
    assert told["cores"] >= 1
    assert told["memory_gb"] > 0
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert machine()["gpu"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_a_process_s_peak_is_its_own_and_not_its_parent_s() -> None:
    ballast = np.ones(60 * 2**20 // 8 * 8)  # what ru_maxrss of a child would begin with
    code = (
        "from luthier.matrix.machine import peak_bytes; small = peak_bytes();"
        "block = bytearray(100 * 2**20); del block; print(small, peak_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    assert small < ballast.nbytes
    assert 95 * 2**20 < large - small < 110 * 2**20
