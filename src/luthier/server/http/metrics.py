"""What a Prometheus server reads at `/metrics`: numbers about requests, tasks, workers and disk.

Labels come from closed sets (routes, states, kinds, models of this server): no text of a request is
among them. The registry is this server's own, and made when it is first asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from luthier.server.http.tallies import Labels, Tally
from luthier.server.queue.disk import Disk
from luthier.server.queue.leases import Leases
from luthier.server.queue.retention import Places

if TYPE_CHECKING:
    from prometheus_client import Metric

_REQUEST_ENDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
_TASK_ENDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """The numbers of one server.

    Args:
        restarts: how often a worker was started in the place of one that ended.
    """

    def __init__(self, leases: Leases, places: Places, restarts: Callable[[], int]) -> None:
        self._leases, self._restarts = leases, restarts
        self._disk = Disk(places.home)
        self.requests = Tally(_REQUEST_ENDS)  # method, route, status
        self._waits, self._runs = Tally(_TASK_ENDS), Tally(_TASK_ENDS)  # state, kind, model
        self._last = leases.queue.last_change()
        self._lock = threading.Lock()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The families of numbers, for the library's registry."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        self._look()
        counts = self._leases.queue.counts()
        tasks = GaugeMetricFamily("luthier_tasks", "Tasks on record.", labels=["state"])
        for state, number in counts._asdict().items():
            tasks.add_metric([state], number)
        yield tasks
        limit = self._leases.queue.limit
        if limit is not None:
            yield GaugeMetricFamily("luthier_queue_limit", "Tasks that may wait.", limit)
        workers = len(self._leases.workers())
        yield GaugeMetricFamily("luthier_workers", "Workers that were heard of.", workers)
        yield CounterMetricFamily(
            "luthier_worker_restarts", "Workers that ended and were replaced.", self._restarts()
        )
        free = self._disk.free_bytes
        yield GaugeMetricFamily("luthier_disk_free_bytes", "Free, where results lie.", free)
        results = self._leases.queue.results_bytes()
        yield GaugeMetricFamily("luthier_results_bytes", "Results that are kept.", results)
        names = ["method", "route", "status"]
        yield _histogram("luthier_request_seconds", "Requests.", names, self.requests)
        names = ["state", "kind", "model"]
        yield _histogram("luthier_task_wait_seconds", "Ended tasks, waiting.", names, self._waits)
        yield _histogram("luthier_task_run_seconds", "Ended tasks, running.", names, self._runs)

    def _look(self) -> None:
        """Take in the tasks that have ended since the last look."""
        with self._lock:
            for row in self._leases.queue.ended_after(self._last):
                self._take(row)
                self._last = row["change"]

    def _take(self, row: Any) -> None:
        labels: Labels = (row["state"], row["kind"], row["model"])
        begun = row["ended"] if row["started"] is None else row["started"]
        # Over restarts of the machine only the calendar knows; it may have been set back.
        self._waits.add(labels, max(0.0, begun - row["created"]))
        if row["ran"] is not None:
            self._runs.add(labels, row["ran"])


def _histogram(name: str, told: str, labels: list[str], tally: Tally) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, told, labels=labels)
    for values, row in tally.copied().items():
        total, buckets = 0, []
        for end, count in zip((*map(str, tally.ends), "+Inf"), row.counts, strict=True):
            total += count
            buckets.append((end, total))
        family.add_metric(list(values), buckets, row.sum_s)
    return family
