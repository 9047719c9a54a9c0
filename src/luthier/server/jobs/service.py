"""Where jobs are handed in: what may be started, with which words, and how it is told of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.errors import RequestError
from luthier.server.http.errors import ForbiddenError
from luthier.server.jobs.commands import Roots, words_of
from luthier.server.jobs.jobs import Job, Jobs
from luthier.server.jobs.log import progress_of, result_of, tail
from luthier.server.jobs.runner import LOG_NAME, OUT_NAME, SETTINGS, JobRunner
from luthier.server.queue.database import Store

_TRAIN = "train"


class JobDesk:
    """The jobs of a server.

    Args:
        folder: for logs and results.
        roots: below which jobs read and write; none at all: there are no jobs.
        count: how many run at the same time.
    """

    def __init__(self, store: Store, folder: Path, roots: Sequence[Path], count: int) -> None:
        self.is_open = bool(roots)
        self.jobs = Jobs(store)
        self.runner = JobRunner(self.jobs, folder, count)
        self._roots = Roots(roots)
        # Commands that only this server's own routes start, and how their words are made.
        self.own: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {}

    @property
    def roots(self) -> Roots:
        """The folders that may be named.

        Raises:
            ForbiddenError: there are none.
        """
        if not self.is_open:
            raise ForbiddenError(
                "this server neither curates nor trains: start it with --data-root and a key."
            )
        return self._roots

    def submit(
        self,
        command: str,
        arguments: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
    ) -> Job:
        """Accept a job.

        Args:
            settings: of a training, by `luthier train`'s names; the command checks them.

        Raises:
            ForbiddenError: jobs are not offered.
            RequestError: an argument is not allowed.
            QueueFullError: too many wait.
        """
        words = words_of(command, arguments, self.roots)
        if settings and command != _TRAIN:
            raise RequestError("settings are for the command train.")
        whole = dict(arguments) | ({SETTINGS: dict(settings)} if settings else {})
        return self.jobs.add(command, whole, words)

    def start_own(self, command: str, arguments: Mapping[str, Any]) -> Job:
        """Accept a job of `own`.

        Raises:
            QueueFullError: too many wait.
        """
        return self.jobs.add(command, arguments, self.own[command](arguments))

    def resume(self, identity: str) -> Job:
        """Start a job that did not succeed again; a training goes on from its newest checkpoint.

        Raises:
            ConflictError: it waits, runs or has succeeded.
        """
        job = self.jobs.get(identity)
        own = self.own.get(job.command)
        words = own(job.arguments) if own else words_of_job(job, self.roots)
        return self.jobs.again(identity, words)

    def delete(self, identity: str) -> Job:
        """Forget an ended job, with its log. What it made stays."""
        return self.jobs.delete(identity)

    def log(self, job: Job, most: int) -> str:
        """The end of what the command said."""
        return tail(self.runner.place(job) / LOG_NAME, most)

    def describe(self, job: Job) -> dict[str, Any]:
        """A job as clients see it."""
        place = self.runner.place(job)
        progress = progress_of(place / LOG_NAME) if job.started is not None else None
        share = progress.progress if progress else 0.0
        return {
            "job_id": job.id,
            "command": job.command,
            "arguments": job.arguments,
            "state": job.state,
            "stage": progress.stage if progress else "",
            "progress": 1.0 if job.state == "succeeded" else share,
            "note": progress.note if progress else "",
            "eta_s": progress.eta_s if progress and job.state == "running" else None,
            "created": job.created,
            "started": job.started,
            "ended": job.ended,
            "stop_asked": job.stop_asked is not None,
            "code": job.code,
            "error": job.error,
            "result": result_of(place / OUT_NAME) if job.ended is not None else None,
        }


def words_of_job(job: Job, roots: Roots) -> list[str]:
    """Its words once more: what was allowed then may not be allowed now."""
    said = {name: value for name, value in job.arguments.items() if name != SETTINGS}
    return words_of(job.command, said | ({"resume": True} if job.command == _TRAIN else {}), roots)
