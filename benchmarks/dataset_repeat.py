"""What does repetition cost? 500 tracks x 200 repeats against 500 x 1, in time and space.

    python benchmarks/dataset_repeat.py [--tracks 500] [--repeats 200] [--rounds 5]

Writes real audio files with prompts and licences, then converts the folder with and without
repeats, in turn, so that a busy machine slows both. The way of ACE-Step v1's own converter (the
list of rows, N times over) is measured beside it. Each result is opened as that trainer opens it
and its rows are counted. Writes results/dataset_repeat.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from common import RESULTS, write_result

from luthier.audio.encode import write_audio
from luthier.dataset.arrow import save_split
from luthier.files import write_json, write_text
from luthier.music.dataset.build import BuildSettings, build_dataset, load_rows

RATE = 48000
STYLES = ("CORE-01", "CORE-02", "SEASON-01", "THEME-03", "INST-01", "VOCAL-05")
LIMIT = 1.1


def prepare(root: Path, tracks: int, seconds: float) -> None:
    """Folders `data` and `meta` as the converter takes them."""
    noise = np.random.default_rng(0)
    names = [f"track-{number:04d}" for number in range(tracks)]
    for number, name in enumerate(names):
        audio = 0.1 * noise.standard_normal((2, int(seconds * RATE)), dtype=np.float32)
        write_audio(root / "data" / f"{name}.wav", audio, RATE)
        caption = f"lofi hip hop, chill, rhodes, {60 + number % 60} bpm, A minor, vinyl crackle"
        write_text(root / "data" / f"{name}_prompt.txt", caption)
        write_text(root / "data" / f"{name}_lyrics.txt", "[Instrumental]")
        facts: dict[str, Any] = {"bpm": 60.0 + number % 60, "keyscale": "A minor", "duration": 90.0}
        other = {"timesignature": "4", "language": "en", "instrumental": True}
        style = {"style_ids": [STYLES[number % len(STYLES)]]}
        write_json(root / "data" / f"{name}.json", facts | other | style)
    record = {
        "source_id": "benchmark",
        "track_ids": names,
        "source_type": "commissioned",
        "provider": "this benchmark",
        "license_type": "CC0-1.0",
        "date_acquired": "2025-01-01",
        "cost": 0,
        "ai_training_allowed": True,
    }
    write_json(root / "meta" / "sources.json", [record])


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def convert(root: Path, repeats: int) -> dict[str, Any]:
    """Convert once; time, bytes, and what a trainer sees."""
    out = root / f"set-{repeats}"
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    summary = build_dataset(root / "data", root / "meta", out, BuildSettings(repeat_count=repeats))
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    samples = len(datasets.load_from_disk(str(out / "train")))
    opened = time.perf_counter() - started
    assert samples == summary.train_samples
    return {"seconds": seconds, "bytes": size(out), "samples": samples, "open_seconds": opened}


def copied(root: Path, repeats: int) -> dict[str, Any]:
    """Only the writing of the training rows, every repeat as rows of its own."""
    rows = load_rows(root / "set-1", "train")
    out = root / "copied"
    started = time.perf_counter()
    save_split(out, rows * repeats)
    return {"seconds": time.perf_counter() - started, "bytes": size(out)}


def main() -> None:
    """Run all rounds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=1.0, help="of audio a track (1)")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    args = parser.parse_args()
    rounds: dict[int, list[dict[str, Any]]] = {1: [], args.repeats: []}
    with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
        root = Path(folder)
        prepare(root, args.tracks, args.seconds)
        convert(root, 1)  # warms imports and the disk's cache
        for number in range(args.rounds):
            for repeats in sorted(rounds, reverse=bool(number % 2)):
                rounds[repeats].append(convert(root, repeats))
        naive = copied(root, args.repeats)
    once, often = ([row["seconds"] for row in rounds[n]] for n in (1, args.repeats))
    pairs = [b / a for a, b in zip(once, often, strict=True)]
    ratios = {
        "time": round(statistics.median(pairs), 3),
        "space": round(rounds[args.repeats][0]["bytes"] / rounds[1][0]["bytes"], 3),
    }
    value = {
        "tracks": args.tracks,
        "repeats": args.repeats,
        "ratio": ratios,
        "limit": LIMIT,
        "within_limit": all(ratio <= LIMIT for ratio in ratios.values()),
        "runs": {str(n): rows for n, rows in rounds.items()},
        "copied_rows": naive,
    }
    print(write_result(args.out, "dataset_repeat", value))
    print(ratios)


if __name__ == "__main__":
    main()
