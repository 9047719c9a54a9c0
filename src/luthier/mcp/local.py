"""Plays in this process: one task after another, on a thread of its own."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from luthier.errors import CancelledError, LuthierError, RequestError
from luthier.mcp.players import Look, Made
from luthier.music.playing.output_file import piece_path, write_generated
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import MusicRequest
from luthier.music.resolve import resolve
from luthier.music.spec import load_spec
from luthier.server.workers.work import TaskDisplay

_MOST_WAITING = 20
_REMEMBERED = 200


@dataclass
class _Job:
    request: MusicRequest
    out: Path
    look: Look
    stop: threading.Event = field(default_factory=threading.Event)


class LocalPlayer:
    """Plays one model here.

    Args:
        folder: exported graphs.
        threads: of ONNX Runtime; all cores when not given.

    Raises:
        ModelError: the folder holds no model.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self._folder, self._threads = folder, threads
        self._spec = load_spec(folder)
        self._pipeline: MusicPipeline | None = None
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="player")

    @property
    def where(self) -> str:
        """Where it plays, for people."""
        return "this machine"

    def models(self) -> list[dict[str, Any]]:
        """The one model."""
        return [{"name": self._spec.name, "tasks": list(self._spec.tasks)}]

    def submit(self, request: MusicRequest, out: Path, model: str | None) -> str:
        """Begin a task.

        Raises:
            RequestError: the model cannot do this, is another one, or too many tasks wait.
        """
        if model not in (None, self._spec.name):
            raise RequestError(f"there is no model {model!r}: there is {self._spec.name}.")
        resolve(request, self._spec)
        with self._lock:
            waiting = sum(job.look.state == "queued" for job in self._jobs.values())
            if waiting >= _MOST_WAITING:
                raise RequestError(f"{waiting} tasks wait already: wait for them, or cancel some.")
            identity = str(uuid.uuid4())
            look = Look(identity, "queued", "queued", 0.0)
            self._jobs[identity] = _Job(request, out, look)
            self._forget()
        self._thread.submit(self._play, self._jobs[identity])
        return identity

    def look(self, identity: str) -> Look:
        """How a task is doing; raise `RequestError` when there is none of that id."""
        job = self._jobs.get(identity)
        if job is None:
            raise RequestError(f"there is no task {identity[:64]!r} here.")
        return job.look

    def cancel(self, identity: str) -> Look:
        """Stop it at its next step, or before it begins."""
        self.look(identity)
        job = self._jobs[identity]
        job.stop.set()
        with self._lock:
            if job.look.state == "queued":
                self._now(job, state="cancelled", stage="cancelled")
        return job.look

    def recent(self) -> list[Look]:
        """The last tasks, the newest first."""
        with self._lock:
            return [job.look for job in reversed(self._jobs.values())]

    def close(self) -> None:
        """Stop what runs, and wait for that."""
        for identity in list(self._jobs):
            self.cancel(identity)
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _play(self, job: _Job) -> None:
        with self._lock:
            if job.look.has_ended:
                return
            self._now(job, state="running", stage="running")
        try:
            pieces = self._made(job)
        except CancelledError:
            self._now(job, state="cancelled", stage="cancelled")
        except LuthierError as error:
            self._now(job, state="failed", stage="failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the next task runs
            told = f"an error that luthier does not know ({type(error).__name__})."
            self._now(job, state="failed", stage="failed", error=told)
        else:
            self._now(job, state="succeeded", stage="succeeded", progress=1.0, pieces=pieces)

    def _made(self, job: _Job) -> tuple[Made, ...]:
        if self._pipeline is None:
            self._pipeline = MusicPipeline(self._folder, self._threads)

        def report(progress: float, stage: str) -> None:
            self._now(job, progress=progress, stage=stage)

        made = []
        count = job.request.batch_size
        display = TaskDisplay(report, job.stop.is_set, count)
        takes = self._pipeline.generate_batch(job.request, display, job.stop)
        for index, take in enumerate(takes):
            path = piece_path(job.out, index, count)
            row = write_generated(path, self._pipeline, take)
            made.append(Made(path, row["seed"], row["duration_s"]))
        return tuple(made)

    def _now(self, job: _Job, **changes: Any) -> None:
        job.look = replace(job.look, **changes)

    def _forget(self) -> None:
        ended = [identity for identity, job in self._jobs.items() if job.look.has_ended]
        for identity in ended[: max(0, len(self._jobs) - _REMEMBERED)]:
            del self._jobs[identity]
