"""Does the model keep the tempo and the key it is asked for?

    python benchmarks/adherence.py [--model DIR] [--ceiling examples/tracks] [--peer LIBRARY=PYTHON]

Two designs, 24 clips each. In `tempo` the tempi are spread evenly over 60 to 140 and the key
rotates; in `key` each of the 24 keys is asked for once and the tempo rotates. Both are always in
the request, as users give them, so that every clip counts for its own design only. `--ceiling` runs
the same estimators on real rendered music with exact labels (a `labels.json` beside the audio):
more than that no model can be seen to reach. `--peer` lets another ear than luthier's judge the
same clips: librosa or essentia, in a Python that has it. Chance for a key is 1 in 24.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write_result
from numpy.typing import NDArray

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.audio.key import estimate_key
from luthier.audio.keynames import ALL_KEYS, Key
from luthier.audio.tempo import Tempo, estimate_tempo
from luthier.files import read_json
from luthier.music.evaluation.adherence import (
    KeyCheck,
    TempoCheck,
    adherence,
    check_key,
    check_tempo,
)
from luthier.music.evaluation.clip_measures import audio_files
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import request_from
from luthier.progress import Display

CLIPS = 24
PROMPTS = (
    "pop, bright, piano, bass guitar, drums",
    "rock, energetic, electric guitar, bass guitar, drums",
    "house, energetic, synth lead, synth bass, drums",
    "jazz, smooth, piano, upright bass, drums",
    "bossa nova, warm, acoustic guitar, flute, drums",
    "folk, gentle, acoustic guitar, violin, drums",
    "ballad, romantic, piano, strings, drums",
    "cinematic, epic, strings, choir, drums",
)
_STRIDE = 7  # coprime to 24: neighbouring tempi get distant keys


def requests(design: str, duration_s: float, seed: int) -> list[dict[str, Any]]:
    """The 24 requests of a design, each with prompt, tempo, key and seed."""
    tempi = np.linspace(60, 140, CLIPS).round().astype(int)
    rows = []
    for index in range(CLIPS):
        other = index * _STRIDE % CLIPS
        tempo, key = (index, other) if design == "tempo" else (other, index)
        rows.append(
            {
                "prompt": PROMPTS[index % len(PROMPTS)],
                "bpm": int(tempi[tempo]),
                "key": ALL_KEYS[key].name,
                "duration_s": duration_s,
                "seed": seed + index,
            }
        )
    return rows


def checks(
    name: str, samples: NDArray[np.float32], rate: int, bpm: float, key: str
) -> tuple[TempoCheck, KeyCheck]:
    """Both checks of one clip."""
    tempo = check_tempo(name, bpm, estimate_tempo(samples, rate))
    return tempo, check_key(name, key, estimate_key(samples, rate))


def run_design(
    design: str, pipeline: MusicPipeline, args: argparse.Namespace, display: Display
) -> dict[str, Any]:
    """Generate the clips of a design and check them; the design's own ratio is the one to read."""
    rows, tempi, keys = [], [], []
    with display.task(design, CLIPS) as task:
        for index, values in enumerate(requests(design, args.duration, args.seed)):
            made = pipeline.generate(request_from(values))
            name = f"{design}-{index:02d}.wav"
            write_audio(args.keep / name, made.audio, made.sample_rate)
            tempo, key = checks(name, made.audio, made.sample_rate, values["bpm"], values["key"])
            tempi.append(tempo)
            keys.append(key)
            rows.append(values | {"file": name})
            task.advance(note=f"{values['bpm']} bpm, {values['key']}")
    return {"requests": rows, "tempo": summary(tempi), "key": summary(keys)}


def by_peer(library: str, python: str, folder: Path, designs: dict[str, Any]) -> dict[str, Any]:
    """The same clips heard by another library."""
    output = folder / f"peer-{library}.jsonl"
    script = Path(__file__).with_name("hearing_peer.py")
    subprocess.run([python, script, library, folder, output], check=True)
    heard = {row["file"]: row for row in map(json.loads, output.read_text().splitlines())}
    found: dict[str, Any] = {"versions": next(iter(heard.values()))["versions"]}
    for design, result in designs.items():
        tempi, keys = [], []
        for asked in result["requests"]:
            row = heard[asked["file"]]
            tempo = Tempo(row["bpm"], 1.0, tuple(row["beats_s"]))
            tempi.append(check_tempo(asked["file"], asked["bpm"], tempo))
            keys.append(check_key(asked["file"], asked["key"], Key(row["tonic"], row["mode"])))
        found[design] = {"tempo": summary(tempi), "key": summary(keys)}
    return found


def ceiling(folder: Path, display: Display) -> dict[str, Any]:
    """The estimators on labelled audio: `labels.json` maps a name or stem to bpm and key."""
    labels = read_json(folder / "labels.json")
    tempi, keys = [], []
    names = audio_files(folder, "folder of labelled music")
    with display.task("ceiling", len(names)) as task:
        for name in names:
            label = labels.get(name) or labels.get(Path(name).stem)
            if label:
                found = checks(name, *read_audio(folder / name), label["bpm"], label["key"])
                tempi.append(found[0])
                keys.append(found[1])
            task.advance(note=name)
    return {"folder": str(folder), "tempo": summary(tempi), "key": summary(keys)}


def summary(found: list[TempoCheck] | list[KeyCheck]) -> dict[str, Any] | None:
    """Ratio, counts and rows; None without clips."""
    result = adherence(found)
    return result.to_json() if result else None


def told(result: dict[str, Any], name: str) -> str:
    """One measure in words."""
    part = result[name]
    return f"{part['passed']}/{part['n']} ({part['ratio']:.0%})" if part else "not measured"


def main() -> None:
    """Run both designs and write results/adherence.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of exported graphs (default: built in)")
    parser.add_argument("--duration", type=float, default=12.0, help="seconds a clip")
    parser.add_argument("--seed", type=int, default=1000, help="of the first clip")
    parser.add_argument("--ceiling", type=Path, help="folder of labelled real music")
    parser.add_argument("--keep", type=Path, help="write the clips to this folder")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="LIBRARY=PYTHON", help="another ear"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    temporary = tempfile.TemporaryDirectory()
    args.keep = args.keep or Path(temporary.name)
    display = Display()
    pipeline = MusicPipeline(args.model)
    value: dict[str, Any] = {
        "model": pipeline.spec.name,
        "duration_s": args.duration,
        "tempo_tolerance": 0.04,
        "designs": {d: run_design(d, pipeline, args, display) for d in ("tempo", "key")},
    }
    for design, result in value["designs"].items():
        print(f"{design}: {told(result, design)}")
    if args.ceiling:
        value["ceiling"] = ceiling(args.ceiling, display)
        print("ceiling:", *(f"{n} {told(value['ceiling'], n)}" for n in ("tempo", "key")))
    for library, _, python in (text.partition("=") for text in args.peer):
        value.setdefault("peers", {})[library] = by_peer(
            library, python, args.keep, value["designs"]
        )
        for design in value["designs"]:
            print(library, design, told(value["peers"][library][design], design))
    print(write_result(args.results, "adherence", value))


if __name__ == "__main__":
    main()
