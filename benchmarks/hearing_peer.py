"""The paired peer of `hearing.py`: librosa on the same files, run by a Python that has librosa.

    python benchmarks/hearing_peer.py FOLDER OUTPUT.jsonl

Tempo and beats are `librosa.beat.beat_track` with its defaults; the key is the best correlation of
the mean `chroma_cqt` with the Krumhansl–Kessler profiles (Krumhansl, Cognitive Foundations of
Musical Pitch, 1990), as is usually done with librosa, which has no key estimator of its own.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import librosa
import numpy as np

MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def hear(path: Path) -> dict[str, object]:
    """Tempo, beats, key of a file and the CPU seconds of each estimate, resampling included."""
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


def main() -> None:
    """Hear every file of the folder; a line a file, so that an interrupted run goes on."""
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    lines = output.read_text().splitlines() if output.is_file() else []
    done = {json.loads(line)["file"] for line in lines}
    files = [path for path in sorted(folder.glob("*.flac")) if path.name not in done]
    hear(files[0])  # compiles
    versions = {name: version(name) for name in ("librosa", "numpy")}
    for path in files:
        row = hear(path) | {"versions": versions}
        with output.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
