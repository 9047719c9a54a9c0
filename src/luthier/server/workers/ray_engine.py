"""A worker whose playing happens in a Ray actor, perhaps on another machine.

The queue stays where it is: the worker claims, reports and ends tasks as ever. What crosses the
network is a task and its recordings in one direction, progress and finished files in the other.
Models have to lie at the same place on every machine.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from luthier.errors import CancelledError, LuthierError, MissingExtraError
from luthier.families import LostError, Report
from luthier.runtime.cancel import Cancel, stop_if_asked
from luthier.server.config import WorkerSetup
from luthier.server.queue.task import Task
from luthier.stopping import own_signals

_LOOK_S = 0.2
_LAST_LOOKS = 50  # at a cancelled task, before its actor is given up
_RECORDINGS = ("source_audio", "reference_audio")

Files = dict[str, bytes]


class Actor:
    """Lives in the cluster: does tasks with files that come and go as bytes."""

    def __init__(self, setup: str) -> None:
        from luthier.server.workers.work import Musician

        self._musician = Musician(replace(WorkerSetup.from_json(setup), engine="process"))
        self._news = (0.01, "running")
        self._stop = threading.Event()

    def open(self) -> tuple[str, ...]:
        """Open the default model; return the names of those that are open."""
        self._musician.open()
        return self._musician.loaded

    def do(self, task: Task, recordings: Files) -> tuple[dict[str, Any], Files, tuple[str, ...]]:
        """Do a task; return its result, its files, and which models are open."""
        self._stop.clear()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "out"
            folder.mkdir()
            here = _with_recordings(task, recordings, Path(name))
            result = self._musician.do(here, folder, self._take, self._stop)
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return result, files, self._musician.loaded

    def look(self, *, stop: bool) -> tuple[float, str]:
        """How far it is; called while `do` runs. With `stop` it ends at the next step."""
        if stop:
            self._stop.set()
        return self._news

    def _take(self, progress: float, stage: str) -> None:
        self._news = progress, stage


class RayPlayer:
    """The worker's end of an `Actor`; a lost one is replaced at the next task.

    Raises:
        MissingExtraError: Ray is not installed.
        LuthierError: no cluster answers.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        if find_spec("ray") is None:
            raise MissingExtraError("the engine ray", "cluster")
        # Nobody is told of this cluster, unless its owner wants that.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray: Any = ray
        self._setup = setup
        self._actor: Any = None
        self.loaded: tuple[str, ...] = ()
        address = setup.ray_address
        with own_signals():
            try:
                ray.init(address=address, log_to_driver=False, logging_level="error")
            except Exception as error:  # a node that does not start is a bare one
                raise LuthierError(
                    f"no Ray cluster answers at {address!r}: {error}. Start one with  ray start "
                    "--head , or choose another --engine."
                ) from error

    @property
    def warm(self) -> tuple[str, ...]:
        """As a musician's."""
        return self.loaded if self._setup.memory_limit is None else self.loaded[-1:]

    def open(self) -> None:
        """Let the actor open the default model."""
        with self._told():
            self.loaded = self._ray.get(self._living().open.remote())

    def do(self, task: Task, folder: Path, report: Report, cancel: Cancel) -> dict[str, Any]:
        """As a musician's, elsewhere."""
        recordings = {
            name: Path(task.request["music"][name]).read_bytes()
            for name in _RECORDINGS
            if task.request.get("music", {}).get(name)
        }
        actor = self._living()
        with self._told():
            work = actor.do.remote(task, recordings)
            self._watch(actor, work, report, cancel)
            result, files, self.loaded = self._ray.get(work)
        for name, data in files.items():
            (folder / Path(name).name).write_bytes(data)
        found: dict[str, Any] = result
        return found

    def _watch(self, actor: Any, work: Any, report: Report, cancel: Cancel) -> None:
        """Pass on news until the work is done."""
        looks = 0
        while not self._ray.wait([work], timeout=_LOOK_S)[0]:
            stop = _is_asked(cancel)
            looks += stop
            news = actor.look.remote(stop=stop)
            if self._ray.wait([news], timeout=_LOOK_S)[0]:
                report(*self._ray.get(news))
            if looks > _LAST_LOOKS:  # it waits for a machine, or does not listen
                self._lose()
                raise CancelledError("cancelled.")

    def _living(self) -> Any:
        if self._actor is None:
            setup = self._setup
            # Two threads: one works while the other tells how far it is.
            options = {"max_concurrency": 2, "num_cpus": setup.threads or 1}
            options |= {"num_gpus": 1} if setup.provider == "cuda" else {}
            self._actor = self._ray.remote(Actor).options(**options).remote(setup.to_json())
        return self._actor

    def _lose(self) -> None:
        if self._actor is not None:
            self._ray.kill(self._actor)
        self._actor, self.loaded = None, ()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Ray's errors as ours: the actor's own, or that it is gone."""
        errors = self._ray.exceptions
        try:
            yield
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error
        except errors.RayError as error:
            self._lose()
            raise LostError("the machine that did this was lost.") from error


def _with_recordings(task: Task, recordings: Files, folder: Path) -> Task:
    """The task with its recordings in `folder`, under their own names."""
    if not recordings:
        return task
    music = dict(task.request["music"])
    for field, data in recordings.items():
        path = folder / field / Path(music[field]).name
        path.parent.mkdir()
        path.write_bytes(data)
        music[field] = str(path)
    return replace(task, request=task.request | {"music": music})


def _is_asked(cancel: Cancel) -> bool:
    try:
        stop_if_asked(cancel)
    except CancelledError:
        return True
    return False
