"""Curation jobs → results, on a Ray cluster, or on a Ray of this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from luthier.dataset.curate_file import CurateJob
from luthier.dataset.local_pool import Record, curate_safely, killed_row
from luthier.errors import LuthierError, MissingExtraError
from luthier.stopping import own_signals

_RETRIES = 3  # of a task whose process died


def run_ray(jobs: Sequence[CurateJob], workers: int, address: str | None, record: Record) -> None:
    """Do `jobs`, telling `record` of each as it ends; results are those of `run_local`.

    Sources and the output folder have to lie at the same place on every node. A task whose process
    is killed is run again, three times at most.

    Args:
        workers: processes, where Ray is started here; a cluster has its own number.
        address: of a cluster ("auto", "host:6379", "ray://…"); None starts Ray on this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        LuthierError: no cluster answers at `address`.
        PathError, StorageError: the output folder or the disk; see `curate_file`.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("curation on Ray", "cluster")
    import ray as untyped

    ray: Any = untyped
    with _connected(ray, workers, address):
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(curate_safely)
        window = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting, running = deque(jobs), dict[Any, CurateJob]()
        while waiting or running:
            while waiting and len(running) < window:
                job = waiting.popleft()
                running[task.remote(job)] = job
            for reference in ray.wait(list(running), num_returns=1)[0]:
                _settle(ray, reference, running.pop(reference), record)


def _settle(ray: Any, reference: Any, job: CurateJob, record: Record) -> None:
    try:
        result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, LuthierError) else error) from error
    except ray.exceptions.RayError:
        # The process, its node or its memory was lost more often than Ray tries again.
        result = killed_row(job, _RETRIES + 1)
    record(job, result)


@contextmanager
def _connected(ray: Any, workers: int, address: str | None) -> Iterator[None]:
    """Connect to Ray, or start one; leave it as it was found."""
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "error"}
    own = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        with own_signals():
            ray.init(**quiet, **({"address": address} if address else own))
    except Exception as error:  # a node that does not start is a bare Exception
        if address is None:
            raise LuthierError(f"Ray did not start on this machine: {error}") from error
        raise LuthierError(
            f"no Ray cluster answers at {address!r}: {error}. Start one with  ray start --head  or "
            "leave --address out to use this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
