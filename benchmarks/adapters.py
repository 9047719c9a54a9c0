"""What adapters cost while playing: seconds of a denoising step with and without, in turns.

    python benchmarks/adapters.py [--model DIR] [--seconds 10] [--rounds 20]

Every round runs one step of each kind, so that a busy machine slows all of them; what is told is
the median over the rounds of each kind's time as a share of the plain step beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write_result

from luthier.music.adapters.place import AdapterFiles
from luthier.music.mini import onnx_folder
from luthier.music.playing.adapters import Active, Adapter, AdapterFacts, LowRank, feeds_of
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.spec import DENOISER

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_MLP = ("gate_proj", "up_proj", "down_proj")
# kind → rank and layers of each adapter; the first is what `luthier train` makes when not told.
_KINDS: dict[str, list[tuple[int, tuple[str, ...]]]] = {
    "rank 16, attention": [(16, _ATTENTION)],
    "rank 64, attention and perceptrons": [(64, _ATTENTION + _MLP)],
    "two of rank 16, attention": [(16, _ATTENTION)] * 2,
    "rank 1, attention and perceptrons": [(1, _ATTENTION + _MLP)],
}


def adapter(pipeline: MusicPipeline, rank: int, targets: tuple[str, ...]) -> Adapter:
    """Random matrices for the layers whose names end with `targets`."""
    draw = np.random.default_rng(0)
    layers = {
        name: LowRank(
            0.02 * draw.standard_normal((linear.inputs, rank), dtype=np.float32),
            0.02 * draw.standard_normal((rank, linear.outputs), dtype=np.float32),
        )
        for name, linear in pipeline.graphs.linears(DENOISER).items()
        if name.startswith("layers.") and name.endswith(targets)
    }
    shapes = {name: layer.shape for name, layer in layers.items()}
    files = AdapterFiles(Path("random"), Path("random"), None)
    return Adapter(AdapterFacts(files, "random", "LoRA", rank, "", "", "", shapes), layers)


def step(pipeline: MusicPipeline, seconds: float, parts: list[Adapter] | None) -> Callable[[], Any]:
    """One guided step: two items of a batch. `None` for the graph as it was exported."""
    spec, draw = pipeline.spec, np.random.default_rng(0)
    frames = round(seconds * spec.frames_per_second / spec.patch_size) * spec.patch_size
    width = pipeline.null_condition.shape[2]
    noise = draw.standard_normal((2, frames, spec.latent_channels), dtype=np.float32)
    constants = {
        "attention_mask": np.ones((2, frames), np.float32),
        "encoder_hidden_states": draw.standard_normal((2, 100, width), dtype=np.float32),
        "encoder_attention_mask": np.ones((2, 100), np.float32),
        "context_latents": np.concatenate([noise, noise], axis=2),
    }
    placed = None
    if parts is not None:
        linears = pipeline.graphs.linears(DENOISER)
        feeds = feeds_of([Active(part, 1.0) for part in parts], linears, spec.name)
        placed = pipeline.graphs.placed(DENOISER, feeds)
    run = pipeline.graphs.bind(DENOISER, constants, placed)
    times = np.full(2, 0.5, np.float32)
    return lambda: run({"hidden_states": noise, "timestep": times, "timestep_r": times})


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a folder of exported graphs (default: mini)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of music (default 10)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    pipeline = MusicPipeline(args.model or onnx_folder(), args.threads)
    plain = step(pipeline, args.seconds, None)
    started = time.perf_counter()
    steps = {
        kind: step(pipeline, args.seconds, [adapter(pipeline, *part) for part in parts])
        for kind, parts in _KINDS.items()
    }
    opened_s = time.perf_counter() - started
    for run in (plain, *steps.values()):
        timed(run)
    shares: dict[str, list[float]] = {kind: [] for kind in steps}
    base: list[float] = []
    for _ in range(args.rounds):
        base.append(timed(plain))
        for kind, run in steps.items():
            shares[kind].append(timed(run) / base[-1])
    value = {
        "model": pipeline.spec.name,
        "seconds": args.seconds,
        "threads": args.threads,
        "rounds": args.rounds,
        "plain_step_s": {"median": round(statistics.median(base), 5), "least": round(min(base), 5)},
        "share_of_plain_step": {k: round(statistics.median(v), 3) for k, v in shares.items()},
        "opening_the_adaptable_graph_s": round(opened_s, 2),
    }
    path = write_result(args.out, "adapters", value)
    for kind, share in value["share_of_plain_step"].items():
        print(f"{kind}: {share:.3f} of a plain step")
    print(path)


if __name__ == "__main__":
    main()
