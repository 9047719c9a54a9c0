"""Does an adapter bring the model nearer to recordings that it has not heard?

    python benchmarks/adapter_gain.py [--input DIR] [--train-steps N] [--clips N]

Runs the demo's chain on the example tracks once for each of three seeds (split, training and noise
all change), then plays the held-out tracks' prompts with base and adapter, the same seeds on both
sides, and compares the Fréchet distances to the held-out tracks. Pairs of clips are drawn again 500
times: an adapter counts as a gain when the whole 95 % interval of the difference is above zero.
Writes results/adapter_gain.json: every distance, interval, embedding, and N on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write_result

from luthier.audio.decode import read_audio
from luthier.demo.run import DemoSettings, run_demo
from luthier.evaluation.bootstrap import fad_gain
from luthier.evaluation.embedding import get_embedding
from luthier.evaluation.frechet import Statistics, distance_to_windows
from luthier.music.evaluation.clip_measures import audio_files
from luthier.progress import Display

SEEDS = (7, 8, 9)
EMBEDDINGS = ("mel-stats-v1", "notes-v1")
DRAWS = 500


def windows_of(folder: Path, name: str) -> list[Any]:
    """The windows of every file below `folder`, by sorted name."""
    embedding = get_embedding(name)
    files = audio_files(folder, "folder")
    return [embedding.embed(*read_audio(folder / file)) for file in files]


def gain_in(folder: Path, name: str) -> dict[str, Any]:
    """Distances of base and adapter in one embedding, and the interval of their difference."""
    reference = Statistics.from_windows(np.concatenate(windows_of(folder / "held-out", name)))
    sides = {side: windows_of(folder / "clips" / side, name) for side in ("base", "int8")}
    gain = fad_gain(reference, sides["base"], sides["int8"], draws=DRAWS)
    distances = {
        side: distance_to_windows(reference, np.concatenate(clips)) for side, clips in sides.items()
    }
    counts = {
        "reference_windows": reference.count,
        "windows_a_side": sum(len(clip) for clip in sides["base"]),
    }
    told = asdict(gain) | {"certain": gain.certain}
    return {"embedding": name, "base": distances["base"], "adapter": distances["int8"]} | (
        counts | {"gain": told}
    )


def one_seed(settings: DemoSettings, display: Display) -> dict[str, Any]:
    """The chain with one seed, measured in every embedding."""
    measures = run_demo(settings, display).measures
    return {
        "seed": settings.seed,
        "gains": [gain_in(settings.output, name) for name in EMBEDDINGS],
        "merge_max_difference": measures["merge_max_difference"],
        "stages_s": measures["stages_s"],
    }


def main() -> None:
    """Run all seeds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, help="recordings (default: the example tracks)")
    parser.add_argument("--train-steps", type=int, default=DemoSettings.train_steps)
    parser.add_argument("--clips", type=int, default=4, help="seeds of noise a prompt (default: 4)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    args = parser.parse_args()
    rows = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
            settings = DemoSettings(
                args.input,
                Path(folder) / "demo",
                seed,
                args.train_steps,
                prompts=3,
                seeds=args.clips,
            )
            rows.append(one_seed(settings, Display()))
    certain = {
        name: sum(g["gain"]["certain"] for r in rows for g in r["gains"] if g["embedding"] == name)
        for name in EMBEDDINGS
    }
    value = {"train_steps": args.train_steps, "of": len(rows), "certain_gains": certain}
    print(write_result(args.out, "adapter_gain", value | {"runs": rows}))


if __name__ == "__main__":
    main()
