"""Where a worker plays: in its own process, or in an actor of a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from luthier.errors import LuthierError
from luthier.runtime.cancel import Cancel
from luthier.server.config import WorkerSetup
from luthier.server.tasks import Task


class Report(Protocol):
    """Takes how far a task is, 0 to 1, and what is being done."""

    def __call__(self, progress: float, stage: str) -> None: ...


class Player(Protocol):
    """Does tasks, one at a time."""

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the models that are open."""

    @property
    def warm(self) -> tuple[str, ...]:
        """Those that play without opening anything."""

    def open(self) -> None:
        """Open the default model; raise `LuthierError` where that cannot be done."""

    def do(self, task: Task, folder: Path, report: Report, cancel: Cancel) -> dict[str, Any]:
        """Do a task; write its files into `folder`; return its result, JSON-serialisable.

        Raises:
            LostError: who did it is gone.
            LuthierError: what is asked for cannot be done, or was cancelled.
        """


class LostError(LuthierError):
    """Who did a task is gone; another may succeed."""


def player_of(setup: WorkerSetup) -> Player:
    """The engine that a worker is set up with; its heavy imports happen here.

    Raises:
        LuthierError: there is no such engine here, or it does not start.
    """
    if setup.engine == "ray":
        from luthier.server.ray_engine import RayPlayer

        return RayPlayer(setup)
    from luthier.server.work import Musician

    return Musician(setup)
