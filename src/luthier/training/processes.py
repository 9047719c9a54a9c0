"""One run in several processes, as `accelerate launch` starts them: sums over all of them.

Every process computes its share of a step's batches on a copy of the model; gradients are summed,
so that all copies stay the same. Only the first process writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import nn

from luthier.errors import TrainingError

_PATIENCE = timedelta(hours=6)  # while the first process encodes, saves and plays, others wait


@dataclass(frozen=True)
class Processes:
    """How many there are and which one this is; with one, nothing here costs anything."""

    count: int = 1
    index: int = 0
    local_index: int = 0  # on this machine: the number of its GPU

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            torch.distributed.barrier()

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the sum over all processes."""
        if self.count > 1:
            for weight in weights:
                if weight.grad is not None:
                    torch.distributed.all_reduce(weight.grad)

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all processes."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total]

    @property
    def _device(self) -> str:
        # NCCL sums only what is on a GPU.
        nccl = torch.distributed.get_backend() == "nccl"
        return f"cuda:{self.local_index}" if nccl else "cpu"


def join_processes(*, on_cpu: bool) -> Processes:
    """Meet the other processes that `accelerate launch` has started, if it has.

    Raises:
        TrainingError: it has started some, but said only in part which one this is.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    try:
        index = int(os.environ["RANK"])
        local = int(os.environ.get("LOCAL_RANK", "0"))
    except (KeyError, ValueError):
        raise TrainingError(
            f"WORLD_SIZE says {count} processes, but RANK does not say which one this is: start "
            "them with  accelerate launch --num_processes N -m luthier train …"
        ) from None
    if not torch.distributed.is_initialized():
        backend = "gloo" if on_cpu or not torch.cuda.is_available() else "nccl"
        torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    return Processes(count, index, local)


def leave_processes(processes: Processes) -> None:
    """Say goodbye, so that the others do not wait."""
    if processes.count > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
