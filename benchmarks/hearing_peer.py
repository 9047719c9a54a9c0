"""The paired peers of `hearing.py`: librosa or essentia on the same files, in their own Python.

    python benchmarks/hearing_peer.py librosa|essentia FOLDER OUTPUT.jsonl

librosa: tempo and beats are `beat.beat_track` with its defaults; the key is the best correlation of
the mean `chroma_cqt` with the Krumhansl–Kessler profiles (Krumhansl, Cognitive Foundations of
Musical Pitch, 1990), as is usually done with librosa, which has no key estimator of its own.

essentia (AGPL: in an environment of its own, never in ours): `RhythmExtractor2013` with its
multi-feature method, the better of the two that it has, and `KeyExtractor` with its defaults.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

NOTES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def by_librosa(path: Path) -> dict[str, object]:
    """Tempo, beats, key of a file and the CPU seconds of each estimate, resampling included."""
    librosa: Any = importlib.import_module("librosa")
    samples, rate = librosa.load(path, sr=None, mono=True)
    start = time.process_time()
    mono = librosa.resample(samples, orig_sr=rate, target_sr=22050)
    tempo, beats = librosa.beat.beat_track(y=mono, sr=22050, units="time")
    middle = time.process_time()
    mean = librosa.feature.chroma_cqt(
        y=librosa.resample(samples, orig_sr=rate, target_sr=22050), sr=22050
    ).mean(axis=1)
    fits = [
        (float(np.corrcoef(np.roll(profile, tonic), mean)[0, 1]), tonic, mode)
        for mode, profile in (("major", MAJOR), ("minor", MINOR))
        for tonic in range(12)
    ]
    _, tonic, mode = max(fits)
    return {
        "file": path.name,
        "bpm": float(np.atleast_1d(tempo)[0]),
        "beats_s": [float(beat) for beat in beats],
        "tonic": tonic,
        "mode": mode,
        "tempo_cpu_s": middle - start,
        "key_cpu_s": time.process_time() - middle,
    }


def by_essentia(path: Path) -> dict[str, object]:
    """The same by essentia, which wants 44.1 kHz; loading and resampling are not counted there."""
    essentia: Any = importlib.import_module("essentia.standard")
    mono = essentia.MonoLoader(filename=str(path), sampleRate=44100)()
    start = time.process_time()
    tempo, beats, *_ = essentia.RhythmExtractor2013(method="multifeature")(mono)
    middle = time.process_time()
    note, mode, _ = essentia.KeyExtractor(sampleRate=44100)(mono)
    return {
        "file": path.name,
        "bpm": float(tempo),
        "beats_s": [float(beat) for beat in beats],
        "tonic": NOTES.index(note),
        "mode": mode,
        "tempo_cpu_s": middle - start,
        "key_cpu_s": time.process_time() - middle,
    }


def main() -> None:
    """Hear every file of the folder; a line a file, so that an interrupted run goes on."""
    library, folder, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    hear = {"librosa": by_librosa, "essentia": by_essentia}[library]
    lines = output.read_text().splitlines() if output.is_file() else []
    done = {json.loads(line)["file"] for line in lines}
    audio = sorted(p for p in folder.iterdir() if p.suffix in (".flac", ".wav"))
    files = [path for path in audio if path.name not in done]
    if files:
        hear(files[0])  # compiles
    versions = {name: version(name) for name in (library, "numpy")}
    for path in files:
        row = hear(path) | {"versions": versions}
        with output.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
