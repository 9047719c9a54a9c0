"""`python -m luthier.matrix.child`: plays one cell and says how long it took, in how much memory.

Reads one line of JSON from standard input and writes one to standard output. A process for every
cell, because the most memory that a process ever held says nothing of its second cell, and because
one that is killed takes only its own cell with it. It ends when its standard input does: no cell
outlives the command that wanted it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.errors import LuthierError
from luthier.matrix.machine import peak_bytes
from luthier.music.playing.output_file import write_generated
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import MusicRequest, request_from
from luthier.runtime.pool import SHARED

_WARM_S = 1.0


def play(job: dict[str, Any]) -> dict[str, Any]:
    """Play a cell.

    Args:
        job: `folder`, `threads`, `provider` and `memory_limit` of the pipeline, `request`,
            `paths` of the pieces.

    Raises:
        LuthierError: the model cannot do this, or a file cannot be written.
    """
    began = time.perf_counter()
    SHARED.set_limit(job["memory_limit"])
    pipeline = MusicPipeline(Path(job["folder"]), job["threads"], provider=job["provider"])
    request = request_from(job["request"])
    _warm(pipeline, request)
    load_s = time.perf_counter() - began
    pieces = []
    began = time.perf_counter()
    for path, made in zip(job["paths"], pipeline.generate_batch(request), strict=True):
        pieces.append(write_generated(Path(path), pipeline, made, stage="matrix"))
    wall_s = time.perf_counter() - began
    return {
        "load_s": round(load_s, 3),
        "wall_s": round(wall_s, 3),
        "peak_bytes": peak_bytes(),
        "seeds": [piece["seed"] for piece in pieces],
    }


def _warm(pipeline: MusicPipeline, request: MusicRequest) -> None:
    """One step of a second of the same task opens all graphs that the task needs."""
    short: dict[str, Any] = {
        "batch_size": 1, "seeds": (), "steps": 1, "duration_s": _WARM_S,
        "repaint_start_s": 0.0, "repaint_end_s": None, "repaint_regions": (),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
        if request.source_audio is not None:
            samples, rate = read_audio(request.source_audio)
            short["source_audio"] = Path(folder) / "start.wav"
            write_audio(short["source_audio"], samples[:2, : round(_WARM_S * rate)], rate)
            short["duration_s"] = None
        pipeline.generate(request.model_copy(update=short))


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> int:
    """Play what standard input says."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        told = play(job)
    except LuthierError as error:
        told = error.to_json()
    except MemoryError:
        told = {"error": "there was not enough memory for this.", "kind": "MemoryError"}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)  # the watching thread holds standard input


if __name__ == "__main__":
    sys.exit(main())
