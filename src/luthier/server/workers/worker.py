"""`python -m luthier.server.workers.worker SETUP`: a process that does tasks of the queue in turn.

It lives as long as its standard input stays open: a server that dies closes it. A byte there wakes
it up; a byte on its standard output says that it has changed something. SIGTERM stops it between
two steps; the task goes back to the queue.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from luthier.errors import CancelledError, LuthierError, StorageError
from luthier.families import LostError
from luthier.files import atomic_folder
from luthier.server.config import WorkerSetup
from luthier.server.http.hiding import without_folders
from luthier.server.http.logs import log_to_stderr
from luthier.server.queue.inventory import Inventory
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Places
from luthier.server.queue.task import Task
from luthier.server.workers.engine import player_of

_LOG = logging.getLogger("luthier.server.workers.worker")
_LOOK_S = 0.1
_IDLE_S = 1.0
_REPORT_S = 0.5


def process_name() -> str:
    """A name for this process that says where it runs: host:pid:random."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class News:
    """Lets the server's followers look soon, rather than at their next glance: takes over standard
    output, so that what a library prints is not news.
    """

    def __init__(self) -> None:
        self._pipe = os.dup(sys.stdout.fileno())
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())

    def tell(self) -> None:
        """Something in the queue has changed."""
        with suppress(OSError):  # the pipe is full of such news, or the server has gone
            os.write(self._pipe, b"!")


class Worker:
    """Claims tasks and does them until it is told to stop."""

    def __init__(self, setup: WorkerSetup, news: News) -> None:
        self._news = news
        self._places = Places(setup.home)
        queue = Queue(self._places.database)
        self._inventory = Inventory(queue.store)
        self._leases = Leases(queue, lease_s=setup.lease_s, most_attempts=setup.most_attempts)
        self._setup, self._name = setup, process_name()
        self._played: set[tuple[str, str]] = set()  # what needs no opening any more
        self.stop = threading.Event()

    def run(self) -> None:
        """Work until `stop` is set or the server has gone."""
        # The heavy imports only now: a worker shows itself while they load.
        self._leases.show(self._name, ())
        try:
            self._musician = player_of(self._setup)
        except LuthierError as error:
            _LOG.error("engine not started", extra={"facts": {"error": str(error)}})
            return
        try:
            self._musician.open()
        except LuthierError as error:
            _LOG.error("model not loaded", extra={"facts": {"error": str(error)}})
        self._leases.show(self._name, self._musician.loaded)
        while not self.stop.is_set():
            try:
                goes_on = self._turn()
            except StorageError as error:  # a full disk may have room again; the lease runs out
                _LOG.warning("queue not reached", extra={"facts": {"error": str(error)}})
                goes_on = not self.stop.wait(_IDLE_S)
            if not goes_on:
                return

    def _turn(self) -> bool:
        """Do a task, or wait for one; False when the server has gone."""
        task = self._leases.claim(self._name, self._musician.warm)
        if task is None:
            return self._woken()
        self._news.tell()
        self._do(task)
        self._leases.show(self._name, self._musician.loaded)
        return True

    def _woken(self) -> bool:
        """Wait for a byte or a while; False when the server has gone."""
        ready, _, _ = select.select([sys.stdin], [], [], _IDLE_S)
        if ready:
            return bool(os.read(sys.stdin.fileno(), 4096))
        self._leases.show(self._name, self._musician.loaded)
        return True

    def _do(self, task: Task) -> None:
        started = time.monotonic()
        place = self._places.results / task.id / task.folder
        state: str | None = None
        try:
            result = self._result(task, place)
            size = sum(path.stat().st_size for path in place.iterdir())
            played_s = time.monotonic() - started if self._is_measure(task) else None
            found = {"folder": place.name, **result}
            state = self._leases.finish(task, found, size, played_s=played_s)
        except CancelledError:
            if self.stop.is_set():
                self._leases.release(task)
                state = "released"
            else:
                self._leases.cancelled(task)
                state = "cancelled"
        except LostError as error:
            state = self._leases.fail(task, str(error), again=True)
        except MemoryError:
            state = self._leases.fail(task, "there was not enough memory for this.", again=True)
        except LuthierError as error:
            state = self._leases.fail(task, self._told(error, task))
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the next task runs
            # The places without the message, which may hold a prompt.
            where = "".join(traceback.format_tb(error.__traceback__))
            facts = {"task": task.id, "kind": type(error).__name__, "where": where}
            _LOG.error("unexpected error", extra={"facts": facts})
            told = f"the worker met an error that it does not know ({type(error).__name__})."
            state = self._leases.fail(task, told, again=True)
        finally:
            self._news.tell()
            if state == "succeeded":
                self._tidy(task)
            else:
                _remove_attempt(place)
        seconds = round(time.monotonic() - started, 3)
        told_of = {"task": task.id, "state": state, "seconds": seconds, "attempt": task.attempts}
        _LOG.info("task", extra={"facts": told_of})

    def _result(self, task: Task, place: Path) -> dict[str, Any]:
        """Do the task; `place` holds all of its files, or is not there."""
        try:
            with self._watched(task) as lost, atomic_folder(place) as folder:
                report = _Throttled(self._leases, task, self._news)
                return self._musician.do(
                    task, folder, report, lambda: lost.is_set() or self.stop.is_set()
                )
        except BaseException:
            _remove_attempt(place)  # before anybody is told how it ended
            raise

    def _is_measure(self, task: Task) -> bool:
        """Whether its time says how fast this device is: not the first, which opens the graphs."""
        sort = task.model, task.kind
        is_measure = sort in self._played and task.kind != "open"
        self._played.add(sort)
        return is_measure

    def _told(self, error: LuthierError, task: Task) -> str:
        """The sentence, with files by their names and not by where the server keeps them."""
        music = task.request.get("music", {})
        named = [music.get(field) for field in ("source_audio", "reference_audio")]
        folders = [Path(place).parent for place in named if place]
        return without_folders(
            str(error), [*folders, self._places.home, *self._setup.models.values()]
        )

    def _tidy(self, task: Task) -> None:
        """Remove what a succeeded task needs no more: uploads, and attempts that were cut off."""
        with suppress(StorageError):  # a full disk: the server looks again
            self._inventory.sweep(task.id)

    @contextmanager
    def _watched(self, task: Task) -> Iterator[threading.Event]:
        """Keep the lease while the block runs; the event says that the task is no longer ours."""
        lost, done = threading.Event(), threading.Event()

        def watch() -> None:
            kept = time.monotonic()
            while not done.wait(_LOOK_S):
                try:
                    if not self._leases.holds(task):
                        lost.set()
                        return
                    if time.monotonic() - kept > self._setup.lease_s / 4:
                        kept = time.monotonic()
                        self._leases.keep(task)
                        self._leases.show(self._name, self._musician.loaded)
                except StorageError as error:  # a full disk may have room again before the end
                    _LOG.warning("queue not reached", extra={"facts": {"error": str(error)}})

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join()


class _Throttled:
    """Reports when the stage changes, or there is enough news: 1 % and half a second."""

    def __init__(self, leases: Leases, task: Task, news: News) -> None:
        self._leases, self._task, self._news = leases, task, news
        self._stage, self._progress, self._told = "", -1.0, 0.0

    def __call__(self, progress: float, stage: str) -> None:
        news = abs(progress - self._progress) >= 0.01
        late = time.monotonic() - self._told >= _REPORT_S
        if stage == self._stage and not (news and late):
            return
        self._stage, self._progress, self._told = stage, progress, time.monotonic()
        self._leases.report(self._task, progress, stage)
        self._news.tell()


def _remove_attempt(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # not empty, or gone
        place.parent.rmdir()


def main() -> int:
    """Run a worker with the setup in the first argument, JSON."""
    log_to_stderr()
    worker = Worker(WorkerSetup.from_json(sys.argv[1]), News())
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
