"""When tasks will be done: those that run, those that wait in their order, on so many workers."""

from __future__ import annotations

import heapq
import threading
import time

from luthier.server.queue.queue import Queue
from luthier.server.queue.task import Task

_FRESH_S = 0.5
_COST = 20  # looking takes at most one part in so many of the time
_LEAST_LEFT = 0.05  # of a task's time, while it is not done


class Outlook:
    """Estimates from measured speeds, worked out for all tasks together and kept for a moment.

    Args:
        workers: how many tasks are done at the same time.
    """

    def __init__(self, queue: Queue, workers: int) -> None:
        self._queue, self._workers = queue, max(1, workers)
        self._lock = threading.Lock()
        self._left: dict[str, float] = {}
        self._all_s, self._looked, self._took_s = 0.0, float("-inf"), 0.0

    def left_s(self, task: Task) -> float | None:
        """Seconds until a task is done; None for one that has ended."""
        if task.has_ended:
            return None
        self._look()
        return round(self._left.get(task.id, self._all_s), 1)

    @property
    def all_s(self) -> float:
        """Seconds until everything that is known now is done."""
        self._look()
        return round(self._all_s, 1)

    def _look(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._looked < max(_FRESH_S, _COST * self._took_s):
                return
            self._left, self._all_s = self._scheduled()
            self._looked = time.monotonic()
            self._took_s = self._looked - now

    def _scheduled(self) -> tuple[dict[str, float], float]:
        speeds, now = self._queue.speeds(), time.monotonic()
        running = self._queue.store.rows(
            "SELECT id, model, kind, work, begun FROM tasks WHERE state = 'running'"
        )
        left = {}
        for row in running:
            whole = speeds.seconds(row["model"], row["kind"], row["work"])
            # Begun before the machine was started anew: its worker is gone, it begins again.
            done = max(0.0, now - (now if row["begun"] is None else row["begun"]))
            left[row["id"]] = max(whole - done, _LEAST_LEFT * whole)
        free = sorted(left.values())[: self._workers]
        free += [0.0] * (self._workers - len(free))
        waiting = self._queue.store.rows(
            "SELECT id, model, kind, work FROM tasks WHERE state = 'queued' "
            "ORDER BY priority DESC, round, turn"
        )
        for row in waiting:
            seconds = speeds.seconds(row["model"], row["kind"], row["work"])
            left[row["id"]] = heapq.heappushpop(free, free[0] + seconds) + seconds
        return left, max(left.values(), default=0.0)
