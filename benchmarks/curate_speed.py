"""Curation against ffmpeg doing the same, and what each measure costs.

    python benchmarks/curate_speed.py --music /usr/share/games/wesnoth/1.16/data/core/music

What a user waits for: `luthier curate` with its defaults, tempo and key included, over a folder of
the longest tracks as they are, against a loop with ffmpeg over the same files, two at a time, in
turns. ffmpeg decodes, converts to 48 kHz and finds the peak, then decodes again, applies the gain
and encodes MP3 at 320 kbit/s.

Then one piece of 60 s at a time, with every measure on except tempo and key, which ffmpeg does not
have either; ffmpeg-normalize (peak mode) joins where it is installed. Wall-clock time says how long
one waits, processor time is the fair measure where other work shares the machine.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one worker is one core

import numpy as np
from common import RESULTS, write_result

from luthier.audio.bandwidth import BandwidthMeter
from luthier.audio.clipping import ClippingMeter
from luthier.audio.encode import AudioWriter
from luthier.audio.fingerprint import Fingerprinter
from luthier.audio.key import estimate_key
from luthier.audio.levels import LevelMeter
from luthier.audio.loudness import LoudnessMeter, step_size
from luthier.audio.measure import Meter
from luthier.audio.reader import AudioReader
from luthier.audio.tempo import estimate_tempo
from luthier.audio.truepeak import TruePeakMeter
from luthier.audio.waveform import WaveformMeter
from luthier.dataset.curate_file import CurateJob, CurateSettings, curate_file
from luthier.dataset.prepare import Preparation

PIECE_S = 60
SETTINGS = CurateSettings(tempo_and_key=False)
Times = dict[str, float]


def _pieces(music: Path, folder: Path, count: int) -> list[Path]:
    """`count` pieces of 60 s, copied without decoding: one a track, then second and third ones."""
    made: list[Path] = []
    for start in (10, 80, 150, 220):
        for track in sorted(music.glob("*.ogg")):
            piece = folder / f"{track.stem}-{start}.ogg"
            command = ["ffmpeg", "-v", "error", "-y", "-ss", str(start), "-t", str(PIECE_S)]
            subprocess.run([*command, "-i", track, "-vn", "-c", "copy", piece], check=False)
            if piece.is_file() and _seconds(piece) > 0.98 * PIECE_S:
                made.append(piece)
            if len(made) == count:
                return made
    return made


def _seconds(path: Path) -> float:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    text = subprocess.run([*command, path], capture_output=True, text=True, check=False).stdout
    return float(text) if re.fullmatch(r"[\d.]+\n", text) else 0.0


def _timed(work: Callable[[], object]) -> Times:
    def processor() -> float:
        both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        used = [resource.getrusage(who) for who in both]
        return sum(u.ru_utime + u.ru_stime for u in used)

    wall, cpu = time.perf_counter(), processor()
    work()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": processor() - cpu}


def ffmpeg(source: Path, output: Path) -> None:
    """Two runs of ffmpeg: find the peak, then encode with the gain that brings it to -1 dB.

    Both stop where luthier's default stops, so that both sides make the same seconds of music.
    """
    head = ["ffmpeg", "-nostdin", "-hide_banner", "-y", "-t", str(SETTINGS.max_duration)]
    head += ["-i", str(source), "-vn", "-ar", "48000"]
    found = subprocess.run(
        [*head, "-af", "volumedetect", "-f", "null", "-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak = re.search(r"max_volume: (-?[\d.]+) dB", found.stderr)
    assert peak is not None
    gain = ["-af", f"volume={-1 - float(peak[1]):.1f}dB", "-c:a", "libmp3lame", "-b:a", "320k"]
    subprocess.run([*head, *gain, str(output)], capture_output=True, check=True)


def ffmpeg_normalize(source: Path, output: Path) -> None:
    """ffmpeg-normalize in peak mode, to -1 dB."""
    command = ["ffmpeg-normalize", str(source), "-nt", "peak", "-t", "-1", "-ar", "48000", "-f"]
    encode = ["-c:a", "libmp3lame", "-b:a", "320k", "-o", str(output)]
    subprocess.run([*command, *encode], capture_output=True, check=True)


def luthier(source: Path, output: Path) -> None:
    """`curate_file` with all measures except tempo and key."""
    result = curate_file(CurateJob(source, output, SETTINGS))
    assert result.status == "success", result.reason


def _paired(pieces: list[Path], folder: Path) -> list[dict[str, Times]]:
    """Every piece by every tool, the order turning from piece to piece."""
    tools = {"luthier": luthier, "ffmpeg": ffmpeg}
    if shutil.which("ffmpeg-normalize"):
        tools["ffmpeg_normalize"] = ffmpeg_normalize
    rows = []
    luthier(pieces[0], folder / "warm.mp3")
    for index, piece in enumerate(pieces):
        names = list(tools)
        turned = names[index % len(names) :] + names[: index % len(names)]
        row = {}
        for name in turned:
            row[name] = _timed(lambda n=name, p=piece: tools[n](p, folder / f"{n}.mp3"))
        rows.append(row)
    return rows


def _against(rows: list[dict[str, Times]], other: str) -> dict[str, float]:
    """How many times our throughput is theirs: of the whole, and the median piece."""
    found = {}
    for kind in ("wall_s", "cpu_s"):
        ratios = [row[other][kind] / row["luthier"][kind] for row in rows]
        total = sum(r[other][kind] for r in rows) / sum(r["luthier"][kind] for r in rows)
        found[f"{kind[:-2]}_throughput_ratio"] = round(total, 3)
        found[f"{kind[:-2]}_median_ratio"] = round(median(ratios), 3)
    return found


def _defaults(music: Path, folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """`luthier curate` as it comes over `count` long tracks, against ffmpeg two files at a time."""
    chosen = sorted(music.glob("*.ogg"), key=lambda path: path.stat().st_size)[-count:]
    source = folder / "long"
    source.mkdir()
    for path in chosen:
        shutil.copy(path, source / path.name)

    def curated(out: Path) -> None:
        command = [sys.executable, "-m", "luthier", "curate", str(source), "--out", str(out)]
        subprocess.run([*command, "--quiet"], check=True)

    def looped(out: Path) -> None:
        out.mkdir()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda p: ffmpeg(p, out / f"{p.stem}.mp3"), sorted(source.iterdir())))

    tools: dict[str, Callable[[Path], None]] = {"luthier": curated, "ffmpeg": looped}
    walls: dict[str, list[float]] = {name: [] for name in tools}
    for turn in range(rounds):
        for name in sorted(tools, reverse=bool(turn % 2)):
            out = folder / f"{name}-{turn}"
            walls[name].append(round(_timed(partial(tools[name], out))["wall_s"], 2))
            shutil.rmtree(out)
    ratios = [b / a for a, b in zip(walls["luthier"], walls["ffmpeg"], strict=True)]
    return {
        "tracks": len(chosen),
        "megabytes": round(sum(path.stat().st_size for path in chosen) / 1e6, 1),
        "wall_s": walls,
        "throughput_ratio": round(median(ratios), 3),
    }


def _two_workers(pieces: list[Path], folder: Path) -> dict[str, float]:
    """All pieces by one worker and by two, each in processes that have started."""
    walls = {}
    for workers in (1, 2):
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            outputs = [folder / f"{workers}-{i}.mp3" for i in range(len(pieces))]
            list(pool.map(luthier, pieces[:1] * workers, outputs[:workers]))
            start = time.perf_counter()
            list(pool.map(luthier, pieces, outputs))
            walls[workers] = time.perf_counter() - start
    return {
        "one_worker_wall_s": round(walls[1], 2),
        "two_workers_wall_s": round(walls[2], 2),
        "two_over_one": round(walls[1] / walls[2], 3),
    }


def _costs(piece: Path, folder: Path, repeats: int) -> dict[str, float]:
    """Processor seconds a minute of audio for each part, the least of some repeats."""
    with AudioReader(piece) as audio:
        rate, names = audio.sample_rate, audio.channel_names
        blocks = list(audio.blocks(Meter(rate, names).block))
    seconds = sum(block.shape[1] for block in blocks) / rate
    preparation = Preparation(rate, names, 48000, 240)
    ready = [*[preparation.add(block) for block in blocks], preparation.finish()]

    def decode() -> None:
        with AudioReader(piece) as audio:
            for _ in audio.blocks(Meter(rate, names).block):
                pass

    def each(take: Callable[[Any], object], over: list[Any] = blocks) -> None:
        for block in over:
            take(block)

    def encode(check: bool) -> None:
        with AudioWriter(folder / "cost.mp3", 48000, 2, check=check) as writer:
            each(writer.add, ready)

    mono = np.concatenate([b.mean(axis=0, keepdims=True) for b in blocks], axis=1)
    clipping = ClippingMeter(len(names))
    parts: dict[str, Callable[[], object]] = {
        "decode": decode,
        "resample, trim": lambda: each(Preparation(rate, names, 48000, 240).add),
        "encode MP3": lambda: encode(False),
        "encode MP3 and decode again": lambda: encode(True),
        "peak, RMS, DC, silence, channels": lambda: each(
            LevelMeter(len(names), step_size(rate)).add
        ),
        "clipping (worst case)": lambda: each(lambda block: clipping.add(block, 1.0)),
        "true peak": lambda: each(TruePeakMeter(rate, len(names)).add),
        "loudness": lambda: each(LoudnessMeter(rate, names).add),
        "bandwidth": lambda: each(BandwidthMeter(rate).add),
        "fingerprint": lambda: each(Fingerprinter(rate).add),
        "waveform": lambda: each(WaveformMeter(48000).add, ready),
        "tempo and beats": lambda: estimate_tempo(mono, rate),
        "key": lambda: estimate_key(mono, rate),
    }
    return {
        name: round(min(_timed(part)["cpu_s"] for _ in range(repeats)) * 60 / seconds, 4)
        for name, part in parts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--music", type=Path, required=True, help="folder of .ogg tracks")
    parser.add_argument("--count", type=int, default=60, help="pieces of 60 s")
    parser.add_argument("--tracks", type=int, default=8, help="long ones, with the defaults")
    parser.add_argument("--rounds", type=int, default=4, help="of those")
    parser.add_argument("--repeats", type=int, default=3, help="for the cost of each measure")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        defaults = _defaults(args.music, folder, args.tracks, args.rounds)
        print(defaults)
        pieces = _pieces(args.music, folder, args.count)
        if not pieces:
            raise SystemExit(f"{args.music} has no .ogg tracks of more than {PIECE_S} s.")
        rows = _paired(pieces, folder)
        tools = [name for name in rows[0] if name != "luthier"]
        value = {
            "defaults": defaults,
            "pieces": len(pieces),
            "piece_s": PIECE_S,
            "against": {name: _against(rows, name) for name in tools},
            "workers": _two_workers(pieces, folder),
            "cpu_s_per_minute_of_audio": _costs(pieces[0], folder, args.repeats),
            "rows": [
                {
                    "piece": piece.stem,
                    **{n: {k: round(v, 3) for k, v in t.items()} for n, t in row.items()},
                }
                for piece, row in zip(pieces, rows, strict=True)
            ],
        }
    print(write_result(args.out, "curate_speed", value))
    print({name: value[name] for name in ("against", "workers", "cpu_s_per_minute_of_audio")})


if __name__ == "__main__":
    main()
