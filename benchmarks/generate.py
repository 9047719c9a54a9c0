"""A piece of music, played by luthier and by diffusers from the same weights: time and memory.

    python benchmarks/generate.py [--seconds 10] [--rounds 3]
    python benchmarks/generate.py --model DIR --onnx DIR [--seconds 20] [--rounds 2]

The first form measures mini. The second takes a model of any size (say ACE-Step 1.5's shape with
random weights, whose time is that of real ones) and the folder that `luthier export` made of it.
`luthier-limited` keeps one large graph open at a time, as `--memory-limit 1.7G` does, and opens
each again for every piece. All run in turns, every run in a process of its own; the first piece of
a process counts as loading. Peak memory is the process's, loading included. Writes
results/generate.json, or results/generate_full_size.json for another model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

# Nothing heavy here: Linux counts the parent's memory into a child's peak.
from common import RESULTS, told_by, write_result

from luthier.music.mini import onnx_folder, torch_folder

PEER = Path(__file__).with_name("generate_peer.py")
PEERS = ("diffusers-fp32", "diffusers-bf16")
OURS = ("luthier", "luthier-limited")
MINI_STEPS, TURBO_STEPS = 24, 8


def main() -> None:
    """Run in turns, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="weights in torch (default: mini)")
    parser.add_argument("--onnx", type=Path, help="the same, exported (default: mini)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--steps", type=int, help=f"default: mini {MINI_STEPS}, else {TURBO_STEPS}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    if (args.model is None) != (args.onnx is None):
        parser.error("--model and --onnx belong together: the weights, and what was exported")
    steps = args.steps or (TURBO_STEPS if args.model else MINI_STEPS)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in (*PEERS, *OURS)}
    for _ in range(args.rounds):
        for side, found in runs.items():
            weights, graphs = args.model or torch_folder(), args.onnx or onnx_folder()
            folder = graphs if side in OURS else weights
            found.append(told_by(str(PEER), side, str(folder), str(args.seconds), str(steps)))
            print(side, found[-1], file=sys.stderr)

    def median(side: str, name: str) -> float:
        return statistics.median(run[name] for run in runs[side])

    def ratio(peer: str, side: str, name: str) -> float:
        return round(median(peer, name) / median(side, name), 3)

    value = {
        "seconds": args.seconds,
        "steps": steps,
        "rounds": args.rounds,
        "compared": {
            f"{side} with {peer}": {
                "times_as_fast": {
                    name: ratio(peer, side, f"{name}_s") for name in ("total", "denoise", "decode")
                },
                "peak_memory_ratio": round(1 / ratio(peer, side, "peak_rss_gb"), 3),
            }
            for side in OURS
            for peer in PEERS
        },
        "runs": runs,
    }
    print(json.dumps({k: v for k, v in value.items() if k != "runs"}, indent=2))
    print(write_result(args.results, "generate_full_size" if args.model else "generate", value))


if __name__ == "__main__":
    main()
