"""How well tempo, key, metre and beats are heard, on rendered music with known truth.

    python benchmarks/hearing.py [--work DIR] [--loops] [--peer LIBRARY=PYTHON …] [--real DIR]

Renders 100 pieces of 30 s (see `hearing_tracks.py`; needs FluidSynth), estimates, compares. A
quarter of them is heard again changed: as MP3 of 128 kbit/s, 40 dB quieter, begun off the beat,
tuned 30 cents higher. `--peer` names a Python with librosa or essentia, which hears the same files.
`--real` names a folder of other music without labels, on which only stability can be told.
`--loops` adds 32 pieces over chord loops that the composer of the training music does not know.

Tempo counts within 4 %, a key when tonic and mode agree, a beat within 70 ms (`beat_f`, the
F-measure of MIREX). CPU seconds are for a minute of 48 kHz stereo, decoding not included.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: CPU seconds of one core

import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write_result
from hearing_tracks import DURATION_S, FIRST_SEED, Labelled, planned, planned_loops, rendered
from numpy.typing import NDArray

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.audio.key import estimate_key
from luthier.audio.keynames import Key, parse_key
from luthier.audio.tempo import Tempo, estimate_tempo
from luthier.music.evaluation.adherence import TEMPO_TOLERANCE, key_relation, tempo_octave
from luthier.progress import Display

Floats = NDArray[np.float32]
BEAT_WINDOW_S = 0.07
CHANGED_EVERY = 4
_CENTS = 30
_OFF_BEAT_S = 1.7
_EXCERPT_S = 60.0
_TERNARY = {"three halves": 1.5, "two thirds": 2 / 3, "triple": 3.0, "third": 1 / 3}


def tempo_relation(true_bpm: float, heard_bpm: float) -> str:
    """ "same", "half", "double"; what counts as missed by its name, else "other"."""
    octave = tempo_octave(true_bpm, heard_bpm)
    if octave:
        return octave
    for name, factor in _TERNARY.items():
        if abs(heard_bpm - factor * true_bpm) <= TEMPO_TOLERANCE * factor * true_bpm:
            return name
    return "other" if heard_bpm else "no pulse"


def beat_scores(true_s: list[float], heard_s: list[float]) -> tuple[float, float | None]:
    """F-measure, each beat matched once, and the median distance in ms of heard beats to the
    nearest true one; no trimming of the first seconds."""
    true, heard = np.array(true_s), np.array(heard_s)
    if not heard.size:
        return 0.0, None
    hits = i = j = 0
    while i < len(true) and j < len(heard):
        if abs(true[i] - heard[j]) <= BEAT_WINDOW_S:
            hits, i, j = hits + 1, i + 1, j + 1
        elif true[i] < heard[j]:
            i += 1
        else:
            j += 1
    distance = np.abs(heard[:, None] - true).min(axis=1)
    return 2 * hits / (len(true) + len(heard)), float(1000 * np.median(distance))


def row_of(track: Labelled, tempo: Tempo, key: Key, cpu: tuple[float, float]) -> dict[str, Any]:
    """One track: what is true, what was heard, how they compare."""
    f_measure, distance_ms = beat_scores(track.beats_s, list(tempo.beats_s))
    return {
        "file": track.file,
        "style": track.style,
        "true": {"bpm": track.bpm, "metre": track.metre, "key": track.key}
        | ({"loop": track.loop} if track.loop else {}),
        "heard": {"bpm": tempo.bpm, "metre": tempo.metre or None, "key": key.name},
        "confidence": {"tempo": tempo.confidence, "key": key.confidence},
        "tempo": tempo_relation(track.bpm, tempo.bpm),
        "key": key_relation(parse_key(track.key), key),
        "beat_f": round(f_measure, 3),
        "beat_ms": None if distance_ms is None else round(distance_ms, 1),
        "cpu_s_a_minute": {
            name: round(60 / DURATION_S * seconds, 4)
            for name, seconds in zip(("tempo", "key"), cpu, strict=True)
        },
    }


def heard(track: Labelled, samples: Floats, rate: int) -> dict[str, Any]:
    """The row of a track by our estimators."""
    start = time.process_time()
    tempo = estimate_tempo(samples, rate)
    middle = time.process_time()
    key = estimate_key(samples, rate)
    return row_of(track, tempo, key, (middle - start, time.process_time() - middle))


def heard_rows(folder: Path, tracks: list[Labelled], display: Display) -> list[dict[str, Any]]:
    """The rows of all tracks."""
    rows = []
    with display.task("hear", len(tracks)) as task:
        for track in tracks:
            rows.append(heard(track, *read_audio(folder / track.file)))
            task.advance(note=track.file)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and means of rows; beats also for those alone whose tempo is exact."""
    tempi = Counter(row["tempo"] for row in rows)
    keys = Counter(row["key"] for row in rows)
    exact = [row for row in rows if row["tempo"] == "same"]
    distances = [row["beat_ms"] for row in rows if row["beat_ms"] is not None]
    return {
        "n": len(rows),
        "tempo_exact": tempi["same"],
        "tempo_octave_allowed": tempi["same"] + tempi["half"] + tempi["double"],
        "tempo": dict(tempi.most_common()),
        "key_exact": keys["same"],
        "key": dict(keys.most_common()),
        "metre_right_of_exact_tempo": [
            sum(row["heard"]["metre"] == row["true"]["metre"] for row in exact),
            len(exact),
        ],
        "beat_f_mean": _mean(row["beat_f"] for row in rows),
        "beat_f_mean_of_exact_tempo": _mean(row["beat_f"] for row in exact),
        "beat_ms_median": round(float(np.median(distances)), 1) if distances else None,
        "cpu_s_a_minute": {
            name: _mean(row["cpu_s_a_minute"][name] for row in rows) for name in ("tempo", "key")
        },
    }


def _mean(values: Any) -> float | None:
    found = list(values)
    return round(float(np.mean(found)), 4) if found else None


def by_style(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of every style."""
    styles = sorted({row["style"] for row in rows})
    kept = ("n", "tempo_exact", "tempo_octave_allowed", "key_exact", "beat_f_mean")
    totals = {name: summary([row for row in rows if row["style"] == name]) for name in styles}
    return {name: {field: total[field] for field in kept} for name, total in totals.items()}


def as_mp3(samples: Floats, rate: int) -> tuple[Floats, int]:
    """The samples after an MP3 of 128 kbit/s, without the silence that the encoder puts first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lossy.mp3"
        write_audio(path, samples, rate, bitrate_kbps=128)
        return read_audio(path)


CHANGES: dict[str, Callable[[Floats, int], tuple[Floats, int]]] = {
    "mp3_128k": as_mp3,
    "40_db_quieter": lambda samples, rate: (samples * np.float32(0.01), rate),
    "begun_off_the_beat": lambda samples, rate: (samples[:, round(_OFF_BEAT_S * rate) :], rate),
    "30_cents_higher": lambda samples, rate: (samples, round(rate * 2 ** (_CENTS / 1200))),
}


def changed_rows(folder: Path, tracks: list[Labelled], display: Display) -> dict[str, Any]:
    """Tempo and key of every fourth track after each change; tempi relative to the changed one."""
    chosen = tracks[::CHANGED_EVERY]
    counts: dict[str, Counter[str]] = {name: Counter() for name in CHANGES}
    with display.task("changed", len(chosen)) as task:
        for track in chosen:
            samples, rate = read_audio(folder / track.file)
            for name, change in CHANGES.items():
                other, other_rate = change(samples, rate)
                speed = other_rate / rate if name == "30_cents_higher" else 1.0
                tempo = tempo_relation(track.bpm * speed, estimate_tempo(other, other_rate).bpm)
                key = key_relation(parse_key(track.key), estimate_key(other, other_rate))
                counts[name][f"tempo {tempo}"] += 1
                counts[name][f"key {key}"] += 1
            task.advance(note=track.file)
    return {name: {"n": len(chosen)} | dict(sorted(c.items())) for name, c in counts.items()}


def real_rows(folder: Path, display: Display) -> dict[str, Any]:
    """How often the middle minute of unlabelled music sounds the same after each change."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".ogg", ".mp3", ".flac"))
    rows = []
    with display.task("real music", len(paths)) as task:
        for path in paths:
            samples, rate = read_audio(path)
            length = round(_EXCERPT_S * rate)
            start = max(0, (samples.shape[1] - length) // 2)
            rows.append(stability(path.name, samples[:, start : start + length], rate))
            task.advance(note=path.name)
    total = {
        name: {
            "tempo_same_or_octave": sum(row["changed"][name]["tempo"] for row in rows),
            "key_same": sum(row["changed"][name]["key"] for row in rows),
        }
        for name in CHANGES
    }
    return {"n": len(rows), "stable": total, "rows": rows}


def stability(file: str, samples: Floats, rate: int) -> dict[str, Any]:
    """One excerpt: what is heard, and which changes leave tempo and key as they are."""
    tempo, key = estimate_tempo(samples, rate), estimate_key(samples, rate)
    changed = {}
    for name, change in CHANGES.items():
        other, other_rate = change(samples, rate)
        speed = other_rate / rate if name == "30_cents_higher" else 1.0
        bpm = estimate_tempo(other, other_rate).bpm / speed
        changed[name] = {
            "tempo": tempo_octave(tempo.bpm, bpm) is not None,
            "key": estimate_key(other, other_rate).same_as(key),
        }
    return {
        "file": file,
        "bpm": tempo.bpm,
        "key": key.name,
        "confidence": {"tempo": tempo.confidence, "key": key.confidence},
        "changed": changed,
    }


def peer_rows(library: str, python: Path, folder: Path, tracks: list[Labelled]) -> dict[str, Any]:
    """What a library hears, by the same measures, and our summary on the same files; the peer's
    rows are kept beside the renders."""
    output = folder / f"peer-{library}.jsonl"
    if not output.is_file() or len(output.read_text().splitlines()) < len(tracks):
        script = Path(__file__).with_name("hearing_peer.py")
        subprocess.run([python, script, library, folder, output], check=True)
    found = [json.loads(line) for line in output.read_text().splitlines()]
    labels = {track.file: track for track in tracks}
    rows = []
    for row in found:
        if row["file"] in labels:
            tempo = Tempo(round(row["bpm"], 2), 0.0, tuple(row["beats_s"]))
            cpu = (row["tempo_cpu_s"], row["key_cpu_s"])
            key = Key(row["tonic"], row["mode"])
            rows.append(row_of(labels[row["file"]], tempo, key, cpu))
    return {"versions": found[0]["versions"], "summary": summary(rows), "rows": rows}


def main() -> None:
    """Render, hear, write results/hearing.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hearing")
    parser.add_argument("--tracks", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the composer")
    parser.add_argument("--loops", action="store_true", help="chord loops of other music, too")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="LIBRARY=PYTHON",
        help="librosa or essentia, and a Python that has it; may be given twice",
    )
    parser.add_argument("--real", type=Path, help="folder of music without labels")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    display = Display()
    folder = args.work / str(args.first_seed)
    tracks = rendered(folder, planned(args.tracks, args.first_seed), display)
    rows = heard_rows(folder, tracks, display)
    value: dict[str, Any] = {
        "first_seed": args.first_seed,
        "duration_s": DURATION_S,
        "summary": summary(rows),
        "by_style": by_style(rows),
        "rows": rows,
    }
    print(value["summary"])
    # Written after every part, so that an interrupted run is not lost.
    print(write_result(args.results, "hearing", value))
    for name, part in parts(args, folder, tracks, display).items():
        value[name] = part()
        write_result(args.results, "hearing", value)


def parts(
    args: argparse.Namespace, folder: Path, tracks: list[Labelled], display: Display
) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured beside the rows, each when it was asked for."""
    chosen: dict[str, Callable[[], dict[str, Any]]] = {
        "changed": lambda: changed_rows(folder, tracks, display)
    }
    if args.loops:
        chosen["loops"] = lambda: loop_rows(folder / "loops", args.first_seed, display)
    for library, _, python in (text.partition("=") for text in args.peer):
        name = "peer" if library == "librosa" else f"peer_{library}"
        chosen[name] = partial(peer_rows, library, Path(python), folder, tracks)
    if args.real:
        chosen["real"] = lambda: real_rows(args.real, display)
    return chosen


def loop_rows(folder: Path, first_seed: int, display: Display) -> dict[str, Any]:
    """Summary and rows of the pieces over chord loops that the composer does not know."""
    rows = heard_rows(folder, rendered(folder, planned_loops(first_seed), display), display)
    return {"summary": summary(rows), "rows": rows}


if __name__ == "__main__":
    main()
