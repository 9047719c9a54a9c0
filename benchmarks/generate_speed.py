"""`luthier generate` as a fresh process: wall time and peak memory, five times.

    python benchmarks/generate_speed.py [--model DIR] [--duration 10]

Start, imports, loading and writing are all in it: what a user waits for. It also checks that the
clips are the same bytes for the same seed, another clip for another seed, not silent and not
clipped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import RESULTS, write_result

from luthier.files import sha256_of


def one_run(out: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Run one process to its end: wall and processor seconds, peak memory, what it made."""
    words = [
        sys.executable,
        "-m",
        "luthier",
        "generate",
        "warm jazz, piano, upright bass",
        "--quiet",
    ]
    words += ["--bpm", "84", "--key", "A minor", "--duration", str(args.duration)]
    words += ["--seed", str(seed), "--out", str(out)]
    words += ["--model", str(args.model)] if args.model else []
    started = time.perf_counter()
    child = os.posix_spawn(sys.executable, words, os.environ)
    # wait4 tells the peak memory of this one child; getrusage would tell the largest of all so far.
    _, status, usage = os.wait4(child, 0)
    wall_s = time.perf_counter() - started
    if status:
        sys.exit(f"luthier generate failed with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seed": seed,
        "wall_s": round(wall_s, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_rss_mb": round(usage.ru_maxrss * 1024 / 1e6, 1),
        "sha256": sha256_of(out),
    }


def levels(path: Path) -> dict[str, Any]:
    """What can be heard at once: level, clipping, silence."""
    # Not at the top: Linux counts the parent's memory into a child's peak, so it has to stay small.
    from luthier.audio.decode import read_audio
    from luthier.audio.measure import measure

    return asdict(measure(*read_audio(path)))


def main() -> None:
    """Run and write results/generate_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of exported graphs (default: built in)")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of music")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [one_run(Path(folder) / "x.wav", 7, args) for _ in range(args.repeats)]
        other = one_run(Path(folder) / "y.wav", 8, args)
        heard = levels(Path(folder) / "x.wav")
    walls = [run["wall_s"] for run in runs]
    value = {
        "duration_s": args.duration,
        "repeats": args.repeats,
        "wall_s": {
            "mean": round(statistics.fmean(walls), 3),
            "stdev": round(statistics.stdev(walls), 3) if len(walls) > 1 else 0.0,
            "max": max(walls),
        },
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
        "same_seed_same_bytes": len({run["sha256"] for run in runs}) == 1,
        "other_seed_other_bytes": other["sha256"] != runs[0]["sha256"],
        "levels": heard,
        "runs": [*runs, other],
    }
    print(
        f"{args.duration:g} s of music in {value['wall_s']['mean']} ± {value['wall_s']['stdev']} s,"
        f" {value['peak_rss_mb']} MB peak; same seed same bytes: {value['same_seed_same_bytes']}"
    )
    print(write_result(args.results, "generate_speed", value))


if __name__ == "__main__":
    main()
