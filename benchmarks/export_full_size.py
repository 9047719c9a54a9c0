"""Memory and time of exporting ACE-Step 1.5 at full size: `luthier export` in a process of its own.

    python benchmarks/export_full_size.py --model DIR [--precision int8] [--out DIR]

DIR is a checkpoint in any layout; one with random weights has the same shapes, and export looks at
nothing else. The peak is what the kernel recorded for the process (VmHWM), pages of the checkpoint
that are mapped included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, write_result


def measure(model: Path, folder: Path, precision: str) -> dict[str, Any]:
    """Export once; peak memory and time of the process, and what it wrote."""
    words = ["export", str(model), "--out", str(folder), "--precision", precision, "--json"]
    started = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-m", "luthier", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB on Linux
    report = json.loads(run.stdout)
    kept = ("name", "precision", "size_bytes", "seconds")
    return {
        "precision": precision,
        "peak_rss_gb": round(peak * 1024 / 1e9, 3),
        "seconds": round(seconds, 1),
        "size_gb": round(report["size_bytes"] / 1e9, 3),
        "graphs": [{key: graph[key] for key in kept} for graph in report["graphs"]],
    }


def weights_gb(model: Path) -> float:
    """Bytes of all safetensors that belong to the checkpoint, GB."""
    return round(sum(p.stat().st_size for p in model.rglob("*.safetensors")) / 1e9, 3)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--out", type=Path, help="keep the graphs here")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(args.model, args.out or Path(temporary) / "onnx", args.precision)
    value = {"weights_gb": weights_gb(args.model), **found}
    write_result(args.results, "export_full_size", value)
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
