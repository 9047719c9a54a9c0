"""Training against loops of diffusers + peft; and the full size, trained and merged.

    python benchmarks/training.py [--steps 24] [--repeats 4]
    python benchmarks/training.py --full-size [--folder DIR]

Both sides have the same weights (ACE-Step's components with random weights, small), the same music,
batches of the same size, as many steps and the same learning rate, and are processes of their own,
in turns. The peer whose numbers count (training_peer.py, "cached") encodes audio and prompts once,
as the trainers do that people use; "plain" encodes in every step, as first drafts do. Samples a
second are counted over the steps and over the whole run, encoding included on all sides; the loss
is that of all adapters on the same fixed noise. Ratios are medians over paired rounds. Writes
results/training.json or results/training_full_size.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

# Nothing heavy here: Linux counts the parent's memory into a child's peak.
from common import RESULTS, told_by, write_result

HERE = Path(__file__).parent


def child(script: str, *words: str) -> dict[str, Any]:
    """Run a stage of a script that lies beside this one."""
    return told_by(str(HERE / script), *words)


def paired(folder: Path, steps: int, repeats: int) -> dict[str, Any]:
    """All sides in turns, and the loss of their adapters."""
    child("training_peer.py", "make", str(folder))
    runs: dict[str, list[dict[str, Any]]] = {"luthier": [], "cached": [], "plain": []}
    for repeat in range(repeats):
        names = list(runs) if repeat == 0 else ["luthier", "cached"]  # plain: once says enough
        for side in names[repeat % len(names) :] + names[: repeat % len(names)]:
            out = folder / f"{side}-{repeat}"
            runs[side].append(child("training_peer.py", side, str(folder), str(out), str(steps)))
            print(side, runs[side][-1], file=sys.stderr)
    adapters = {side: str(folder / f"{side}-0" / "adapter") for side in runs}
    losses = child("training_peer.py", "judge", str(folder), *adapters.values())["losses"]
    return {
        "steps": steps,
        "repeats": repeats,
        "against": {peer: _against(runs, peer) for peer in ("cached", "plain")},
        "loss": dict(zip(("base", *runs), losses, strict=True)),
        "runs": runs,
    }


def _against(runs: dict[str, list[dict[str, Any]]], peer: str) -> dict[str, Any]:
    """Ours over the peer's, round by round and the median of the rounds."""
    names = {
        "samples_per_s_ratio": "samples_per_s",
        "samples_per_s_ratio_whole_run": "samples_per_s_whole_run",
        "peak_memory_ratio": "peak_rss_gb",
    }
    found: dict[str, Any] = {}
    for ratio, name in names.items():
        rounds = [
            ours[name] / theirs[name]
            for ours, theirs in zip(runs["luthier"], runs[peer], strict=False)
        ]
        found[ratio] = round(statistics.median(rounds), 3)
        found[f"{ratio}_rounds"] = [round(value, 3) for value in rounds]
    return found


def full_size(folder: Path) -> dict[str, Any]:
    """Make, train and merge the full-size denoiser below `folder`, which is emptied of it again."""
    free = shutil.disk_usage(folder).free
    if free < 10e9:
        sys.exit(f"{folder} has {free / 1e9:.1f} GB free: 10 GB are needed. Take --folder.")
    place = Path(tempfile.mkdtemp(prefix="luthier-2b-", dir=folder))
    try:
        stages: dict[str, Any] = {}
        for stage in ("make", "train", "merge"):
            stages[stage] = child("training_full_size.py", stage, str(place))
            print(stage, stages[stage], file=sys.stderr)
        return stages
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    """Run one of the two measurements and write its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=24, help="optimiser steps (default: 24)")
    parser.add_argument("--repeats", type=int, default=4, help="runs of each side (default: 4)")
    parser.add_argument("--full-size", action="store_true", help="2B: 10 GB of disk, 8 of memory")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    if args.full_size:
        print(write_result(args.results, "training_full_size", full_size(args.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="luthier-", dir=args.folder) as folder:
        value = paired(Path(folder), args.steps, args.repeats)
    print({name: value[name] for name in value if name != "runs"})
    print(write_result(args.results, "training", value))


if __name__ == "__main__":
    main()
