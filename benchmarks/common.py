"""What benchmarks share: a measured child process, and what is recorded beside the numbers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from luthier.files import write_json
from luthier.provenance import library_versions

RESULTS = Path(__file__).parent / "results"


def told_by(*words: str) -> dict[str, Any]:
    """Run a Python script in a process of its own, to its end.

    Returns:
        The JSON object of the last line that it prints, and its peak memory, `peak_rss_gb`. Linux
        counts the parent's memory at the start into it: keep the parent small.
    """
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    # wait4 tells the peak of this one child; getrusage would tell the largest of all so far.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        sys.exit(f"{' '.join(words)} failed with status {process.returncode}")
    told: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return told | {"peak_rss_gb": round(usage.ru_maxrss * 1024 / 1e9, 3)}


def machine() -> dict[str, Any]:
    """The processor's name, the cores this process may use, and the memory, GB."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1min": round(os.getloadavg()[0], 2),
    }


def cpu_model() -> str:
    """The processor's name as Linux tells it, else the platform's."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def commit() -> str | None:
    """The commit of the working tree, with a plus when files differ from it; None outside git."""
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None


def write_result(folder: Path, name: str, value: dict[str, Any]) -> Path:
    """Write `value` to `folder`/<name>.json with what is needed to read it.

    In the command an absolute path becomes DIR: where things lie on a machine is nobody's business.
    """
    path = folder / f"{name}.json"
    words = ["DIR" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
        "machine": machine(),
        "versions": library_versions(),
    }
    write_json(path, record | value)
    return path
