"""Lets a server play, and downloads what it made."""

from __future__ import annotations

import re
import threading
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from luthier.client import Client, Piece, RemoteTask
from luthier.files import make_folder
from luthier.mcp.players import Look, Made
from luthier.music.playing.output_file import piece_path
from luthier.music.request import MusicRequest
from luthier.music.task_options import options_from

_SHOWN = 20


class RemotePlayer:
    """Plays on the server of `client`; pieces of tasks from elsewhere go to `folder`."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._outs: dict[str, Path] = {}
        self._kept: dict[str, tuple[Made, ...]] = {}
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        """Where it plays, for people."""
        return self._client.server

    def models(self) -> list[dict[str, Any]]:
        """The server's models, the default one first."""
        rows = sorted(self._client.models(), key=lambda model: not model.is_default)
        return [{"name": model.name, "tasks": list(model.tasks)} for model in rows]

    def submit(self, request: MusicRequest, out: Path, model: str | None) -> str:
        """Send a task; its recordings are uploaded."""
        options = options_from({"audio_format": "wav"} | ({"model": model} if model else {}))
        identity = self._client.submit(request, options).id
        self._outs[identity] = out
        return identity

    def look(self, identity: str) -> Look:
        """How it is doing; a succeeded task is downloaded, once."""
        task = self._client.task(identity)
        pieces = self._downloaded(task) if task.state == "succeeded" else ()
        return _look(task, pieces)

    def cancel(self, identity: str) -> Look:
        """Ask the server to stop it."""
        return _look(self._client.cancel(identity))

    def recent(self) -> list[Look]:
        """The server's last tasks, the newest first."""
        return [
            _look(task, self._kept.get(task.id, ()))
            for task in islice(self._client.tasks(), _SHOWN)
        ]

    def close(self) -> None:
        """Let go of the server; its tasks go on."""
        self._client.close()

    def _downloaded(self, task: RemoteTask) -> tuple[Made, ...]:
        with self._lock:
            if task.id not in self._kept:
                make_folder(self._folder)
                made = []
                for index, piece in enumerate(task.pieces):
                    out = self._outs.get(
                        task.id, self._folder / f"{_plain(task.id)}{_ending(piece)}"
                    )
                    path = piece_path(out, index, len(task.pieces))
                    self._client.download(piece, path)
                    made.append(Made(path, piece.seed, piece.duration_s))
                self._kept[task.id] = tuple(made)
            return self._kept[task.id]


def _ending(piece: Piece) -> str:
    """Of a task that somebody else sent, maybe in another format."""
    path = parse_qs(urlsplit(piece.file).query).get("path", [""])[0]
    return Path(path).suffix


def _plain(identity: str) -> str:
    """An id as a file's name: a server is not to choose folders here."""
    return re.sub(r"[^A-Za-z0-9-]", "", identity)[:64] or "task"


def _look(task: RemoteTask, pieces: tuple[Made, ...] = ()) -> Look:
    return Look(task.id, task.state, task.stage, task.progress, task.error, pieces)
