"""ACE-Step's full-size decoder on the processor: torch, its plain ONNX graph, and the optimised.

    python benchmarks/vae_decoder.py [--seconds 1] [--rounds 7] [--threads 2]

Random weights of the published shape (64 latent channels at 25 Hz to 48 kHz stereo). Every variant
lives in a process of its own and decodes the same latents; rounds alternate between the variants,
so that what else the machine does falls on all of them. Differences are against torch in float32
as it loads. Peak memory is that of the process, and so includes loading.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write_result
from numpy.typing import NDArray

Array = NDArray[np.float32]

FRAME_RATE, HOP, CHANNELS = 25, 1920, 64
SHAPE = {
    "encoder_hidden_size": 128,
    "downsampling_ratios": [2, 4, 4, 6, 10],
    "channel_multiples": [1, 2, 4, 8, 16],
    "decoder_channels": 128,
    "decoder_input_channels": CHANNELS,
    "audio_channels": 2,
    "sampling_rate": 48_000,
}
TORCH = {"torch fp32, as loaded": "loaded", "torch fp32, weights folded": "folded"}
TORCH |= {"torch bf16": "bf16"}
VARIANTS = (*TORCH, "ONNX, plain", "ONNX, optimised", "ONNX, optimised, fp16 stored")
FILES = dict(zip(VARIANTS[3:], ("plain", "fast", "half"), strict=True))


def prepare(folder: Path) -> None:
    """Write the model, and its decoder's graphs, to `folder`."""
    import torch
    from diffusers import AutoencoderOobleck

    from luthier.export.graph_file import skeleton
    from luthier.export.graph_writer import write_graph
    from luthier.export.lowering import Lowered
    from luthier.export.weights import ModuleWeights
    from luthier.music.export.passes.select import optimise
    from luthier.music.torch.export_modules import VaeDecoder
    from luthier.music.torch.graphs import Graph
    from luthier.music.torch.oobleck import oobleck_from, without_weight_norm

    torch.manual_seed(0)
    AutoencoderOobleck(**SHAPE).save_pretrained(folder / "vae")
    vae = oobleck_from(folder / "vae")
    without_weight_norm(vae)
    axes = {"latents": {0: "B", 2: "T"}, "audio": {0: "B", 2: "samples"}}
    inputs = {"latents": torch.randn(1, CHANNELS, 3)}
    graph = Graph("vae_decoder", VaeDecoder(vae).eval(), inputs, ("audio",), axes)
    weights = ModuleWeights(graph.module)
    write_graph(skeleton(graph), weights, folder / "plain.onnx", Lowered("fp32"))
    fast = optimise(skeleton(graph), graph.name)
    write_graph(fast, weights, folder / "fast.onnx", Lowered("fp32", folded=True))
    half = optimise(skeleton(graph), graph.name)
    write_graph(half, weights, folder / "half.onnx", Lowered("fp16", folded=True))


def torch_decoder(folder: Path, kind: str, threads: int) -> Callable[[Array], Array]:
    """diffusers' decoder in one of three ways."""
    import torch

    from luthier.music.torch.oobleck import oobleck_from, without_weight_norm

    torch.set_num_threads(threads)
    vae = oobleck_from(folder / "vae")
    del vae.encoder
    if kind != "loaded":
        without_weight_norm(vae)
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    vae.to(dtype)

    def decode(latents: Array) -> Array:
        with torch.inference_mode():
            audio: Array = vae.decode(torch.from_numpy(latents).to(dtype)).float().numpy()
        return audio

    return decode


def onnx_decoder(path: Path, threads: int) -> Callable[[Array], Array]:
    """A graph file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def decode(latents: Array) -> Array:
        audio: Array = session.run(["audio"], {"latents": latents})[0]
        return audio

    return decode


def serve(variant: str, folder: Path, threads: int) -> None:
    """Decode whenever a line comes in; answer with seconds and the peak memory so far."""
    started = time.perf_counter()
    if variant in TORCH:
        decode = torch_decoder(folder, TORCH[variant], threads)
    else:
        decode = onnx_decoder(folder / f"{FILES[variant]}.onnx", threads)
    load_s = time.perf_counter() - started
    latents = np.load(folder / "latents.npy")
    np.save(folder / f"{VARIANTS.index(variant)}.npy", decode(latents))
    print(json.dumps({"load_s": load_s}), flush=True)
    for _ in sys.stdin:
        started, busy = time.perf_counter(), time.process_time()
        decode(latents)
        answer = {
            "wall_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - busy,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        }
        print(json.dumps(answer), flush=True)


def snr(wanted: Array, got: Array) -> float:
    """Decibels by which the difference is below the signal."""
    signal = np.square(wanted.astype(np.float64)).sum()
    error = np.square(wanted.astype(np.float64) - got).sum()
    return float(10 * np.log10(signal / error)) if error else float("inf")


def compare(folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """All variants in alternation; a summary of each."""
    children, results = {}, {}
    for variant in VARIANTS:
        words = [sys.executable, __file__, "--serve", variant, "--folder", str(folder)]
        child = subprocess.Popen(
            [*words, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children[variant] = child
        results[variant] = {"rounds": [], **_answer(child)}
    for _ in range(rounds):
        for variant, child in children.items():
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
            results[variant]["rounds"].append(_answer(child))
    for child in children.values():
        child.communicate()
    wanted = np.load(folder / "0.npy")
    return {
        variant: _summary(results[variant], snr(wanted, np.load(folder / f"{index}.npy")))
        for index, variant in enumerate(VARIANTS)
    }


def _answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        sys.exit("a variant ended early: its message is above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _summary(result: dict[str, Any], decibels: float) -> dict[str, Any]:
    walls = [one["wall_s"] for one in result["rounds"]]
    return {
        "wall_s": {
            "median": round(statistics.median(walls), 3),
            "min": round(min(walls), 3),
            "max": round(max(walls), 3),
        },
        "cpu_s_min": round(min(one["cpu_s"] for one in result["rounds"]), 3),
        "load_s": round(result["load_s"], 2),
        "peak_mb": round(result["rounds"][-1]["peak_mb"]),
        "snr_db": None if np.isinf(decibels) else round(decibels, 1),
    }


def _megabytes(folder: Path, name: str) -> float:
    """Of a graph and of the weights beside it."""
    return round(sum(p.stat().st_size for p in folder.glob(f"{name}.onnx*")) / 1e6, 1)


def main() -> None:
    """Run and write results/vae_decoder.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of audio, decoded at once")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.folder, args.threads)
        return
    if args.folder:
        prepare(args.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: Linux counts the parent's memory into a child's peak.
        subprocess.run([sys.executable, __file__, "--folder", str(folder)], check=True)
        shape = (1, CHANNELS, round(args.seconds * FRAME_RATE))
        latents = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.save(folder / "latents.npy", latents)
        value = {
            "audio_s": args.seconds,
            "threads": args.threads,
            "rounds": args.rounds,
            "size_mb": {f: _megabytes(folder, f) for f in FILES.values()},
            "variants": compare(folder, args.rounds, args.threads),
        }
    path = write_result(args.results, "vae_decoder", value)
    print(json.dumps(value, indent=2), f"\nwritten to {path}")


if __name__ == "__main__":
    main()
