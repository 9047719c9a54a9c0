"""Starts jobs in turn, watches them, stops them; takes over those of the server before."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError, StorageError
from luthier.files import make_folder, read_json, write_json
from luthier.server.jobs.jobs import Job, Jobs, JobState
from luthier.server.jobs.log import result_of
from luthier.server.jobs.process import EXIT_NAME, PROCESS_NAME, Process, is_running, send, started

_LOG = logging.getLogger("luthier.server.jobs.jobs")
_LOOK_S = 0.3
_BIRTH_S = 10.0  # a process that is not known yet may still say which one it is
_PATIENCE_S = 30.0  # a training saves before it ends
SETTINGS, SETTINGS_NAME = "settings", "settings.json"
LOG_NAME, OUT_NAME = "log.txt", "result.json"
_INTERRUPTED = (
    "the process ended without saying how: it was killed, or the machine went down. Resume it."
)


class JobRunner:
    """Runs at most `count` jobs at once. They go on when the server stops.

    Args:
        folder: a folder for each job's log and result is made in it.
    """

    def __init__(self, jobs: Jobs, folder: Path, count: int) -> None:
        self._jobs, self.folder, self._count = jobs, folder, count
        self._signalled: dict[str, int] = {}
        # Since when this runner knows: the calendar may jump while a job saves.
        self._unborn: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin; what still runs from an earlier server is watched on."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer. What runs goes on, and the next server finds it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def place(self, job: Job) -> Path:
        """The folder of a job."""
        return self.folder / job.id

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except StorageError as error:
                _LOG.error("queue not reached", extra={"facts": {"error": str(error)}})
            self._stop.wait(_LOOK_S)

    def _look(self) -> None:
        alive = self._jobs.alive()
        running = [job for job in alive if job.state == "running"]
        busy = 0
        for job in running:
            process = job.process or self._unnoted(job)
            if process is None and _since(self._unborn, job.id) < _BIRTH_S:
                busy += 1
            elif process is not None and is_running(process):
                busy += 1
                self._stop_if_asked(job, process)
            else:
                self._end(job)
        for job in alive:
            if job.state == "queued" and busy < self._count and self._jobs.starts(job):
                busy += 1
                self._begin(job)

    def _begin(self, job: Job) -> None:
        place = make_folder(self.place(job))
        for name in (EXIT_NAME, PROCESS_NAME, OUT_NAME):
            (place / name).unlink(missing_ok=True)
        words = [sys.executable, "-m", "luthier.cli.job_child", str(place), *job.words, "--json"]
        settings = job.arguments.get(SETTINGS)
        if settings:
            write_json(place / SETTINGS_NAME, settings)
            words.append(f"--config={place / SETTINGS_NAME}")
        try:
            process = started(words, place / OUT_NAME, place / LOG_NAME)
        except OSError as error:
            self._jobs.ends(job, "failed", None, f"the command did not start: {error.strerror}.")
            return
        self._jobs.runs(job, process)
        self._tell(job, "running", pid=process.pid)

    def _unnoted(self, job: Job) -> Process | None:
        """The process of a job whose server died between starting it and writing that down."""
        try:
            found = read_json(self.place(job) / PROCESS_NAME)
            process = Process(int(found["pid"]), str(found["born"]))
        except (LuthierError, KeyError, TypeError, ValueError):
            return None
        self._jobs.runs(job, process)
        return process

    def _stop_if_asked(self, job: Job, process: Process) -> None:
        """Ctrl-C at first, so that it can save; less friendly later."""
        if job.stop_asked is None:
            return
        waited = _since(self._asked, job.id)
        steps = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
        reached = min(int(waited // _PATIENCE_S), len(steps) - 1)
        if self._signalled.get(job.id, -1) < reached:
            self._signalled[job.id] = reached
            send(process, steps[reached])

    def _end(self, job: Job) -> None:
        for known in (self._signalled, self._unborn, self._asked):
            known.pop(job.id, None)
        place = self.place(job)
        code = _exit_code(place)
        error: str | None = _sentence(place, code)
        state: JobState = "succeeded"
        if code is None:
            state = "interrupted" if job.stop_asked is None else "stopped"
            error = _INTERRUPTED if job.stop_asked is None else None
        elif job.stop_asked is not None and code != 0:
            state, error = "stopped", None
        elif code >= 128:
            state, error = "interrupted", f"it was ended by signal {code - 128}. Resume it."
        elif code != 0:
            state = "failed"
        self._jobs.ends(job, state, code, error if state != "succeeded" else None)
        self._tell(job, state, code=code)
        self._jobs.retire()

    def _tell(self, job: Job, state: str, **more: Any) -> None:
        facts = {"job": job.id, "command": job.command, "state": state}
        _LOG.info("job", extra={"facts": facts | more})


def _since(known: dict[str, float], identity: str) -> float:
    """How long something has been known, seconds."""
    now = time.monotonic()
    return now - known.setdefault(identity, now)


def _exit_code(place: Path) -> int | None:
    try:
        return int(read_json(place / EXIT_NAME)["code"])
    except (LuthierError, KeyError, TypeError, ValueError):
        return None


def _sentence(place: Path, code: int | None) -> str:
    found = result_of(place / OUT_NAME) or {}
    said = found.get("error")
    return said if isinstance(said, str) else f"the command ended with code {code}; see its log."
