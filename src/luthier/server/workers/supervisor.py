"""Keeps worker processes running, gives back the tasks of those that died, and cleans up."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from luthier.errors import StorageError
from luthier.server.config import WorkerSetup
from luthier.server.queue.leases import Leases
from luthier.server.queue.retention import Cleaner

_LOG = logging.getLogger("luthier.server.workers.supervisor")
_LOOK_S = 0.1
_RECLAIM_S = 1.0
_CLEAN_S = 60.0
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 60.0  # whoever lived so long may restart at once


@dataclass
class _Slot:
    """A place for a worker: its process, and how often it ended soon after its start."""

    process: subprocess.Popen[bytes] | None = None
    born: float = 0.0
    deaths: int = 0
    again_at: float = 0.0


class Supervisor:
    """Starts `count` workers and restarts each that ends, later and later while it ends early.

    Attributes:
        news: a pipe's end, where bytes come when a worker has changed something in the queue.
    """

    def __init__(self, setup: WorkerSetup, leases: Leases, cleaner: Cleaner, count: int) -> None:
        self._setup, self._leases, self._cleaner = setup, leases, cleaner
        self._slots = [_Slot() for _ in range(count)]
        self._restarts = 0
        self._stop = threading.Event()
        # One pipe for all: a byte of a worker says that something has changed.
        ours, theirs = os.pipe()
        self.news, self._tell = open(ours, "rb", 0), open(theirs, "wb", 0)  # noqa: SIM115
        for end in (ours, theirs):
            os.set_blocking(end, False)
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Give back what dead workers held, and start."""
        self._abandon_the_dead()
        self._thread.start()

    def wake(self) -> None:
        """Tell the workers that there is something to do."""
        for slot in self._slots:
            if slot.process is not None and slot.process.stdin is not None:
                with suppress(OSError, ValueError):  # it is ending: the next one will look itself
                    slot.process.stdin.write(b"!")

    def restarts(self) -> int:
        """How often a worker was started in the place of one that ended."""
        return self._restarts

    def renew(self) -> bool:
        """Let fresh workers take the places of these, between two steps; False without any."""
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            process.terminate()
            _close(process)  # wakes one that waits
        return bool(processes)

    @property
    def pids(self) -> list[int]:
        """Of the workers that run."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    def stop(self, patience_s: float = 10.0) -> None:
        """Stop the workers between two steps; kill those that are not done in time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            process.terminate()
            _close(process)  # wakes one that waits
        deadline = time.monotonic() + patience_s
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._tell.close()
        self.news.close()
        with suppress(StorageError):  # a full disk: the next start does this as well
            self._abandon_the_dead()

    def _watch(self) -> None:
        reclaimed = cleaned = float("-inf")
        while not self._stop.is_set():
            try:
                for slot in self._slots:
                    self._look_at(slot)
                now = time.monotonic()
                if now - reclaimed > _RECLAIM_S:
                    reclaimed = now
                    self._leases.reclaim()
                if now - cleaned > _CLEAN_S:
                    cleaned = now
                    self._cleaner.clean()
            except StorageError as error:
                _LOG.error("queue not reached", extra={"facts": {"error": str(error)}})
            self._stop.wait(_LOOK_S)

    def _look_at(self, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.process is not None and slot.process.poll() is not None:
            facts = {"pid": slot.process.pid, "exit": slot.process.returncode}
            _LOG.warning("worker ended", extra={"facts": facts})
            _close(slot.process)
            slot.process = None
            slot.deaths = 1 if now - slot.born > _HEALTHY_S else slot.deaths + 1
            pause = 0.0 if slot.deaths == 1 else min(_LONGEST_PAUSE_S, 0.25 * 2**slot.deaths)
            slot.again_at = now + pause
            self._abandon_the_dead()
        if slot.process is None and now >= slot.again_at:
            self._restarts += slot.born > 0
            slot.process, slot.born = _started(self._setup, self._tell), now
            _LOG.info("worker started", extra={"facts": {"pid": slot.process.pid}})

    def _abandon_the_dead(self) -> None:
        """Give back the tasks of processes that are not there any more, without waiting."""
        for worker in self._leases.holders():
            host, _, rest = worker.partition(":")
            pid = rest.partition(":")[0]
            if host == socket.gethostname() and pid.isdecimal() and not _runs(int(pid)):
                self._leases.abandon(worker)


def _started(setup: WorkerSetup, news: IO[bytes]) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches the server only, which then stops the workers.
    process = subprocess.Popen(
        [sys.executable, "-m", "luthier.server.workers.worker", setup.to_json()],
        stdin=subprocess.PIPE,
        stdout=news,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)  # a busy worker reads later; nobody waits
    return process


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
