"""The machine that a matrix was measured on, and the memory that a process took."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_LOOK_S = 0.2
_PATIENCE_S = 5.0


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GB, system, GPU; None for what is not told.

    The load says whether others used the machine: a runtime measured beside other work is no
    runtime.
    """
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "memory_gb": _memory_gb(),
        "gpu": _gpu("name"),
        "gpu_memory": _gpu("memory.total"),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _cpu() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or None


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory_gb() -> float | None:
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    return None


def peak_bytes() -> int | None:
    """The most memory that this process held at once, since it began; None where nobody tells.

    Linux's VmHWM is this program's own; `ru_maxrss` would begin with what the parent held.
    """
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if platform.system() == "Darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def _gpu(field: str) -> str | None:
    """What NVIDIA's tool says of the first GPU; None without one, or where it does not know."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, f"--query-gpu={field}", "--format=csv,noheader"]
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
        lines = done.stdout.strip().splitlines()
        if done.returncode == 0 and lines and "N/A" not in lines[0].upper():
            return lines[0].strip()
    return None


class GpuMemory:
    """The most GPU memory in use while it was watched, beyond what was in use before, in bytes.

    None without NVIDIA's tool, and where it does not tell (machines whose GPU shares the main
    memory). The tool tells of the whole GPU: what others do on it counts too.
    """

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self._before = _gpu_used()
        self._done = threading.Event()

    def _watch(self) -> None:
        while not self._done.wait(_LOOK_S):
            used = _gpu_used()
            if used is not None and self._before is not None:
                self.peak_bytes = max(self.peak_bytes or 0, used - self._before)

    @classmethod
    @contextmanager
    def watched(cls) -> Iterator[GpuMemory]:
        """Watch while the block runs."""
        found = cls()
        thread = threading.Thread(target=found._watch, daemon=True)
        if found._before is not None:
            thread.start()
        try:
            yield found
        finally:
            found._done.set()
            if thread.is_alive():
                thread.join()


def _gpu_used() -> int | None:
    text = _gpu("memory.used")  # "1234 MiB"
    number, _, unit = (text or "").partition(" ")
    return int(number) * 2**20 if number.isdecimal() and unit == "MiB" else None
