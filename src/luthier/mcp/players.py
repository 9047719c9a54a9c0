"""What the tools play with: this process, or a server; both look the same from outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from luthier.music.request import MusicRequest
from luthier.server.queue.task import ENDED, State


class Made(NamedTuple):
    """A piece that was written."""

    path: Path
    seed: int
    duration_s: float


@dataclass(frozen=True)
class Look:
    """A task as it stands; `pieces` once it has succeeded."""

    id: str
    state: State
    stage: str
    progress: float
    error: str | None = None
    pieces: tuple[Made, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ENDED


class Player(Protocol):
    """Makes music; every method may be called from any thread."""

    @property
    def where(self) -> str:
        """Where it plays, for people."""

    def models(self) -> list[dict[str, Any]]:
        """The models with their tasks, the default one first."""

    def submit(self, request: MusicRequest, out: Path, model: str | None) -> str:
        """Begin a task whose pieces go to `out` (numbered, where there are several)."""

    def look(self, identity: str) -> Look:
        """How a task is doing."""

    def cancel(self, identity: str) -> Look:
        """Stop a task as soon as that is possible."""

    def recent(self) -> list[Look]:
        """The last tasks of this player, the newest first."""

    def close(self) -> None:
        """Stop what runs and let go."""
