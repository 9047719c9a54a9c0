"""What plays a cell: a process of its own, or a server. Both give the same take."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from luthier.errors import LuthierError
from luthier.matrix.grid import Cell

SUFFIX = ".flac"  # without loss, so that samples can be compared, and browsers play it


class PlayError(LuthierError):
    """One cell failed; the others go on."""


@dataclass(frozen=True)
class Take:
    """What playing one cell gave.

    Attributes:
        files: the pieces, in order.
        seeds: of each, as far as it is told.
        wall_s: how long playing took, seconds, without opening the model.
        timed_by: who measured that: "process", "server", or "client", whose time holds the wait.
        load_s: how long opening the model took, seconds; None where nobody tells.
        peak_bytes: most main memory of the process that played; None likewise.
        gpu_peak_bytes: most GPU memory beyond what was in use before; None likewise.
    """

    files: tuple[Path, ...]
    seeds: tuple[int | None, ...]
    wall_s: float
    timed_by: str
    load_s: float | None = None
    peak_bytes: int | None = None
    gpu_peak_bytes: int | None = None


class Player(Protocol):
    """Plays cells."""

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...] | None]:
        """Model → the tasks that it does; None where that is not told."""

    @property
    def environment(self) -> dict[str, Any]:
        """Where it plays: `machine`, `provider`, `server`, `models`. Equal as long as takes can be
        compared, but for the load.
        """

    def play(
        self,
        cell: Cell,
        request: Mapping[str, Any],
        source: Path | None,
        folder: Path,
        cancel: threading.Event,
    ) -> Take:
        """Play `request` on `source` into `folder`.

        Raises:
            PlayError: this cell cannot be played.
            CancelledError: `cancel` was set.
            LuthierError: nothing more can be played here.
        """


def piece_paths(cell: Cell, folder: Path) -> tuple[Path, ...]:
    """Where the pieces of a cell lie."""
    if cell.batch == 1:
        return (folder / f"{cell.name}{SUFFIX}",)
    return tuple(folder / f"{cell.name}-{index + 1}{SUFFIX}" for index in range(cell.batch))
