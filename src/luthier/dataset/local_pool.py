"""Curation jobs → results, on processes of this machine. A process that dies takes no other file
with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

from luthier.dataset.curate_file import CurateJob, CurateResult, curate_file
from luthier.errors import LuthierError
from luthier.stopping import SIGNALS, last_act, uninterrupted

TRIES_ALONE = 2
_PATIENCE_S = 4.0  # for files in work once a stop is asked for
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Record = Callable[[CurateJob, CurateResult], None]


def run_local(jobs: Sequence[CurateJob], workers: int, record: Record) -> None:
    """Do `jobs`, telling `record` of each as it ends.

    When a process is killed (for lack of memory, mostly), nobody knows which file was to blame:
    all that were in work are done again, one at a time. One that kills its process alone twice
    has failed. After Ctrl-C or SIGTERM what is finished within seconds is recorded; what is not is
    left for the next run.

    Args:
        workers: processes, never more than cores or files; 1 works in this very process, where
            a crash of a decoder cannot be caught.
    """
    if workers == 1:
        for job in jobs:
            result = curate_safely(job)
            with uninterrupted():
                record(job, result)
        return
    waiting = deque(jobs)
    while waiting:
        for job in _through_pool(waiting, workers, record):
            _alone(job, record)


def curate_safely(job: CurateJob) -> CurateResult:
    """`curate_file`, where whatever one file can do to its process is a row too.

    Raises:
        LuthierError: what is wrong with the output folder or the disk.
    """
    path = job.source
    if os.path.exists(path) and not path.is_file() and not path.is_dir():
        # Opening a named pipe would wait for ever.
        return _failed(job, f"unreadable: {path} is not a regular file.")
    try:
        return curate_file(job)
    except LuthierError:
        raise
    except MemoryError:
        return _failed(job, "out_of_memory: there is not enough memory for this file.")
    except Exception as error:  # noqa: BLE001 - the edge of a worker: one file, not the batch
        where = traceback.extract_tb(error.__traceback__)[-1]
        return _failed(
            job,
            f"defect: {type(error).__name__}: {error} ({Path(where.filename).name}, line "
            f"{where.lineno}). This is a mistake in luthier: please report it with the file.",
        )


def killed_row(job: CurateJob, tries: int) -> CurateResult:
    """The row of a file whose process did not survive it."""
    return _failed(
        job,
        f"worker_killed: the process that worked on it died {tries} times, most likely for "
        "lack of memory or by a defect of the decoder.",
    )


def _failed(job: CurateJob, reason: str) -> CurateResult:
    return CurateResult(source=str(job.source), status="failed", reason=reason)


def _alone(job: CurateJob, record: Record) -> None:
    for _ in range(TRIES_ALONE):
        if not _through_pool(deque([job]), 1, record):
            return
    record(job, killed_row(job, TRIES_ALONE))


def _through_pool(waiting: deque[CurateJob], workers: int, record: Record) -> list[CurateJob]:
    """Take jobs from `waiting` till it is empty or a process died; return what was in work then."""
    count = max(1, min(workers, len(waiting), os.cpu_count() or 1))
    lost: list[CurateJob] = []
    is_broken = False
    running: dict[Future[CurateResult], CurateJob] = {}
    kill = partial(_kill_all_but, multiprocessing.active_children())
    with _one_thread_each(), last_act(kill):
        # "spawn": the display's threads must not be forked along.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(count, context, initializer=_start_worker)
        try:
            while (waiting or running) and not lost:
                # One more each than there are processes, so that none waits for the next.
                while waiting and len(running) < 2 * count:
                    # A job that was handed over and is not noted would leave a file without a row.
                    with uninterrupted(), _deaf_children():
                        running[pool.submit(curate_safely, waiting[0])] = waiting[0]
                        waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                lost += _settle(done, running, record)
        except BrokenProcessPool:  # from submit(): what was in work is settled below
            is_broken = True
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            wait(running, timeout=_PATIENCE_S)
            kill()
            raise
        finally:
            if is_broken or lost:
                # The pool ends the others by SIGTERM, to which they are deaf; and one that waits
                # for a lock which the dead process held would never end.
                kill()
            pool.shutdown(wait=True, cancel_futures=True)
            lost += _settle(list(running), running, record)
    return lost


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that start in the block hear no signal before they can ignore it themselves.

    A Ctrl-C reaches the whole group, and one that dies of it while it starts breaks the pool. What
    a thread holds back, the processes that it starts hold back too.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_all_but(others: Sequence[BaseProcess]) -> None:
    for process in multiprocessing.active_children():
        if process not in others:
            process.kill()


def _settle(
    done: Iterable[Future[CurateResult]],
    running: dict[Future[CurateResult], CurateJob],
    record: Record,
) -> list[CurateJob]:
    """Record what `done` futures hold; return the jobs of those that hold nothing."""
    lost = []
    for future in done:
        try:
            result = future.result()
        except (BrokenProcessPool, CancelledError):
            lost.append(running.pop(future))
            continue
        with uninterrupted():
            record(running[future], result)
            del running[future]  # only now: what could not be recorded is tried once more
    return lost


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start now compute with one thread: there are as many as cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    # Signals may reach the whole process group: the parent decides, workers finish their file.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when its parent is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
