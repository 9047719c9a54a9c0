"""Where a worker plays: in its own process, or in an actor of a Ray cluster."""

from __future__ import annotations

from luthier.families import Player
from luthier.server.config import WorkerSetup


def player_of(setup: WorkerSetup) -> Player:
    """The engine that a worker is set up with; its heavy imports happen here.

    Raises:
        LuthierError: there is no such engine here, or it does not start.
    """
    if setup.engine == "ray":
        from luthier.server.workers.ray_engine import RayPlayer

        return RayPlayer(setup)
    from luthier.server.workers.work import Musician

    return Musician(setup)
