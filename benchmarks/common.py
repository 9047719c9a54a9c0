"""What a benchmark records beside its numbers: date, commit, machine, versions, command."""

from __future__ import annotations

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
    """Write `value` to `folder`/<name>.json with what is needed to read it."""
    path = folder / f"{name}.json"
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": machine(),
        "versions": library_versions(),
    }
    write_json(path, record | value)
    return path
