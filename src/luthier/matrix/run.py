"""Plays the cells of a grid that are not there yet, listens to them, and records each at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from luthier import __version__
from luthier.errors import AudioError
from luthier.files import sha256_of
from luthier.matrix.clip_measures import listen
from luthier.matrix.folder import MatrixFolder
from luthier.matrix.grid import Cell, Grid
from luthier.matrix.renderer import Player, PlayError, Take
from luthier.progress import SILENT, Display

OK, FAILED, NOT_SUPPORTED = "ok", "failed", "not supported"


@dataclass(frozen=True)
class Explorer:
    """Plays `grid` with `player` into `folder`."""

    grid: Grid
    player: Player
    folder: MatrixFolder
    _cancel: threading.Event = field(default_factory=threading.Event)

    def explore(
        self,
        display: Display = SILENT,
        *,
        limit: int | None = None,
        workers: int = 1,
        again: bool = False,
    ) -> int:
        """Play what is not there yet; return how many cells were played.

        Args:
            display: shows the cells.
            limit: play at most so many now.
            workers: cells played at once; more than one makes their runtimes those of a busy
                machine.
            again: play those that failed once more.

        Raises:
            LuthierError: nothing more can be played: the disk is full, the server has gone. What
                was played stays.
        """
        todo = self.missing(again=again)[:limit]
        with display.task("matrix", len(todo)) as task, ThreadPoolExecutor(workers) as pool:
            # What works on a source comes after it.
            for _, group in groupby(todo, key=lambda cell: cell.source is None):
                cells = list(group)
                try:
                    for cell, state in zip(cells, pool.map(self._record, cells), strict=True):
                        task.advance(note=f"{cell.name}: {state}")
                except BaseException:  # Ctrl-C too: nobody waits for what is under way
                    self._cancel.set()
                    pool.shutdown(cancel_futures=True)
                    raise
        return len(todo)

    def missing(self, *, again: bool = False) -> list[Cell]:
        """The cells that are not there, in the order of the grid."""
        found = {cell: self.folder.row(cell) for cell in self.grid.cells()}
        return [
            cell for cell, row in found.items() if row is None or (again and row["state"] == FAILED)
        ]

    def rows(self) -> list[dict[str, Any]]:
        """What is recorded so far, in the order of the grid."""
        found = (self.folder.row(cell) for cell in self.grid.cells())
        return [row for row in found if row is not None]

    def _record(self, cell: Cell) -> str:
        load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
        base = cell.to_json() | {
            "source": cell.source.name if cell.source else None,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "luthier": __version__,
            "load_1min": load,
            "error": None,
            "pieces": [],
        }
        try:
            row = base | {"state": OK} | self._played(cell)
        except _NotSupportedError as error:
            row = base | {"state": NOT_SUPPORTED, "error": str(error)}
        except (PlayError, AudioError) as error:
            why = str(error).replace(f"{self.folder.path.resolve()}/", "")
            row = base | {"state": FAILED, "error": why.replace(f"{self.folder.path}/", "")}
        self.folder.write(cell, row)
        return str(row["state"])

    def _played(self, cell: Cell) -> dict[str, Any]:
        tasks = self.player.tasks[cell.model]
        if tasks is not None and cell.job.task not in tasks:
            raise _NotSupportedError(
                f"{cell.model} does not do {cell.job.task}: it does {', '.join(tasks)}."
            )
        source = self._source(cell)
        request, audio = self.grid.request(cell), self.folder.audio
        take = self.player.play(cell, request, source, audio, self._cancel)
        window = self.grid.window(cell)
        pieces = [
            {
                "file": f"audio/{path.name}",
                "sha256": sha256_of(path),
                "seed": seed,
                **listen(path, cell, source, window),
            }
            for path, seed in zip(take.files, take.seeds, strict=True)
        ]
        return {"runtime": _runtime(take, pieces), "memory": _memory(take), "pieces": pieces}

    def _source(self, cell: Cell) -> Path | None:
        if cell.source is None:
            return None
        row = self.folder.row(cell.source)
        if row is None or row["state"] != OK:
            raise PlayError(f"its source {cell.source.name} failed.")
        return self.folder.path / str(row["pieces"][0]["file"])


class _NotSupportedError(PlayError):
    pass


def _runtime(take: Take, pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    audio_s = sum(piece["levels"]["duration_s"] for piece in pieces)
    return {
        "wall_s": take.wall_s,
        "load_s": take.load_s,
        "audio_s": round(audio_s, 3),
        "audio_s_per_s": round(audio_s / take.wall_s, 4) if take.wall_s > 0 else None,
        "timed_by": take.timed_by,
    }


def _memory(take: Take) -> dict[str, Any]:
    return {"peak_bytes": take.peak_bytes, "gpu_peak_bytes": take.gpu_peak_bytes}
