"""Does an adapter bring the model nearer to recordings that it has not heard?

    python benchmarks/adapter_gain.py [--input DIR] [--train-steps N]

Runs the demo's chain on the example tracks once for each of three seeds (split, training and noise
all change) and compares the Fréchet distance to the held-out tracks with and without the adapter.
Writes results/adapter_gain.json: every distance, the embedding, and N on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, write_result

from luthier.demo import DemoSettings, run_demo
from luthier.progress import Display

SEEDS = (7, 8, 9)


def one_seed(settings: DemoSettings, display: Display) -> dict[str, Any]:
    """The chain with one seed: distances and what they were measured on."""
    measures = run_demo(settings, display).measures
    kept = ("embedding", "n_reference", "n_candidate", "fad", "merge_max_difference", "stages_s")
    return {"seed": settings.seed} | {name: measures[name] for name in kept}


def main() -> None:
    """Run all seeds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, help="recordings (default: the example tracks)")
    parser.add_argument("--train-steps", type=int, default=DemoSettings.train_steps)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    args = parser.parse_args()
    rows = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
            settings = DemoSettings(args.input, Path(folder) / "demo", seed, args.train_steps)
            rows.append(one_seed(replace(settings, seeds=1, prompts=3), Display()))
    gains = [row["fad"][0]["adapter"] < row["fad"][0]["base"] for row in rows]
    value = {"train_steps": args.train_steps, "lower_in": sum(gains), "of": len(gains)}
    print(write_result(args.out, "adapter_gain", value | {"runs": rows}))


if __name__ == "__main__":
    main()
