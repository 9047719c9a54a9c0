"""How time and memory grow with the length of a piece and with the size of a batch.

    python benchmarks/growth.py [--durations 10,30,60,240,600] [--batches 1,2,4,8] [--steps 4]

Every row is a fresh process: seconds by stage, and its peak memory. `decode` rows decode latents
alone, tile by tile, into a WAV file: their memory should not grow with the piece. mini knows 120
seconds; for longer rows a copy of its folder says more, which measures what it costs, not how it
sounds. A row that needs more memory than `--memory-gb` is recorded as failed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, write_result

from luthier.files import read_json, sha256_of, write_json

LONGEST_S = 600


def longer(folder: Path, copy: Path) -> Path:
    """The model with `LONGEST_S` as its limit: its number, its silence, and what lists them."""
    import numpy as np

    shutil.copytree(folder, copy)
    spec = read_json(copy / "luthier.json")
    frames = max(LONGEST_S * spec["sample_rate"] // spec["hop_length"], spec["max_frames"])
    write_json(copy / "luthier.json", spec | {"max_frames": frames})
    silence = np.load(copy / "silence_latent.npy")
    more = ((0, 0), (0, max(0, frames - silence.shape[1])), (0, 0))
    np.save(copy / "silence_latent.npy", np.pad(silence, more, mode="edge"))
    manifest = read_json(copy / "manifest.json")
    for path in (copy / "luthier.json", copy / "silence_latent.npy"):
        record = {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
        manifest["files"][path.name] = record
    write_json(copy / "manifest.json", manifest)
    return copy


def generate_row(folder: Path, duration_s: float, batch: int, steps: int) -> dict[str, Any]:
    """Play a batch; the seconds are of the whole batch."""
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.request import request_from

    asked = {"prompt": "calm piano", "bpm": 84, "duration": duration_s, "seed": 1}
    request = request_from(asked | {"batch_size": batch, "steps": steps})
    seconds: dict[str, float] = {}
    for made in MusicPipeline(folder).generate_batch(request):
        for stage, spent in made.timings_s.items():
            seconds[stage] = round(seconds.get(stage, 0.0) + spent, 3)
    return {"seconds": seconds, "denoise_s_per_step": round(seconds["denoise"] / steps, 4)}


def decode_row(folder: Path, duration_s: float) -> dict[str, Any]:
    """Decode noise as latents, to a file that is thrown away."""
    import time

    import numpy as np

    from luthier.audio.encode import blocks_writer
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.playing.rendered_audio import Sound

    pipeline = MusicPipeline(folder)
    spec = pipeline.spec
    shape = (1, spec.frames(duration_s), spec.latent_channels)
    latents = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    samples = round(duration_s * spec.sample_rate)
    started = time.perf_counter()
    sound = Sound(pipeline.decode(latents), samples, spec.sample_rate)
    with (
        tempfile.TemporaryDirectory() as out,
        blocks_writer(Path(out) / "x.wav", spec.sample_rate) as writer,
    ):
        for block in sound.blocks():
            writer.add(block)
    return {"seconds": {"decode": round(time.perf_counter() - started, 3)}}


def measured(row: dict[str, Any], folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run one row in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        answer = Path(out) / "row.json"
        words = [sys.executable, __file__, "--row", json.dumps(row), "--answer", str(answer)]
        words += ["--model", str(folder), "--memory-gb", str(args.memory_gb)]
        child = os.posix_spawn(sys.executable, words, os.environ)
        # wait4 tells the peak memory of this one child.
        _, status, usage = os.wait4(child, 0)
        found = read_json(answer) if status == 0 else {"failed": f"exit status {status}"}
    peak = round(usage.ru_maxrss * 1024 / 1e6, 1)
    return row | found | {"cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "peak_rss_mb": peak}


def child(args: argparse.Namespace) -> None:
    """One row, whose answer goes to a file."""
    limit = int(args.memory_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    row = json.loads(args.row)
    if row["what"] == "decode":
        found = decode_row(args.model, row["duration_s"])
    else:
        found = generate_row(args.model, row["duration_s"], row["batch"], row["steps"])
    write_json(args.answer, found)


def rows_of(durations: list[float], batches: list[int], steps: int) -> list[dict[str, Any]]:
    """What is measured: each length alone, each batch at the shortest length, decoding alone."""
    base = {"what": "generate", "steps": steps}
    return [
        *({"what": "decode", "duration_s": d} for d in durations if d >= 60),
        *({**base, "duration_s": durations[0], "batch": b} for b in batches if b > 1),
        *({**base, "duration_s": d, "batch": 1} for d in durations),
    ]


def main() -> None:
    """Measure every row and write growth.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--durations", default="10,30,60,240,600", help="seconds, by commas")
    parser.add_argument("--batches", default="1,2,4,8", help="pieces, by commas")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps of a row")
    parser.add_argument("--model", type=Path, help="exported graphs; mini when not given")
    parser.add_argument("--memory-gb", type=float, default=6.0, help="the most a row may take")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        child(args)
        return
    from luthier.music.mini import onnx_folder

    durations = [float(text) for text in args.durations.split(",")]
    batches = [int(text) for text in args.batches.split(",")]
    results = []
    with tempfile.TemporaryDirectory() as work:
        folder = longer(args.model or onnx_folder(), Path(work) / "model")
        for row in rows_of(durations, batches, args.steps):
            results.append(measured(row, folder, args))
            print(json.dumps(results[-1]), flush=True)
    peaks = {r["duration_s"]: r["peak_rss_mb"] for r in results if r["what"] == "decode"}
    value = {"model": str(args.model or "mini"), "rows": results}
    if 60.0 in peaks and 600.0 in peaks:
        value["decode_600_to_60"] = round(peaks[600.0] / peaks[60.0], 3)
        print(f"decoding 600 s takes {value['decode_600_to_60']:.2f} times the memory of 60 s")
    write_result(args.out, "growth", value)


if __name__ == "__main__":
    main()
