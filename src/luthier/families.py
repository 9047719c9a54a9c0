"""What the server knows of a family of models: the protocol of what does its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from luthier.errors import LuthierError
from luthier.runtime.cancel import Cancel

if TYPE_CHECKING:
    from luthier.server.queue.task import Task


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
