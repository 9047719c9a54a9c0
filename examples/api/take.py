"""Play a take, make a part of it anew, and keep both: take.py [server].

The key, where the server asks for one, is read from LUTHIER_API_KEY.
"""

# ruff: noqa: T201 - it talks to people
from __future__ import annotations

import sys
from pathlib import Path

from luthier.client import Client, RemoteTask
from luthier.client.address import key_from
from luthier.music.request import MusicRequest
from luthier.music.task_options import TaskOptions


def show(task: RemoteTask) -> None:
    print(f"{task.progress:4.0%} {task.stage}", file=sys.stderr)


def main(server: str = "http://127.0.0.1:8001") -> None:
    wav = TaskOptions(audio_format="wav")
    with Client(server, key_from(), said=lambda line: print(line, file=sys.stderr)) as client:
        take = client.generate(
            MusicRequest(prompt="calm piano, soft rain", bpm=72, duration_s=4, seed=7), wav, show
        )
        print(client.download(take.pieces[0], Path("take.wav")))
        # A result is taken where it lies on the server: nothing is uploaded.
        again = MusicRequest(
            task="repaint",
            source_audio=Path(take.pieces[0].file),
            repaint_start_s=1.5,
            repaint_end_s=2.5,
            prompt="a short pause",
            seed=8,
        )
        print(client.download(client.generate(again, wav, show).pieces[0], Path("take2.wav")))


if __name__ == "__main__":
    main(*sys.argv[1:])
