"""The optimiser, its state as tensors and plain values, and the running mean of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from luthier.errors import TrainingError
from luthier.training.config import TrainConfig
from luthier.training.weights_io import Parameters

_SEPARATOR = "|"  # stands in no parameter's name


def make_optimizer(parameters: Parameters, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, or the one of bitsandbytes that keeps its moments in 8 bits.

    Raises:
        TrainingError: bitsandbytes is not installed.
    """
    require_optimizer(config)
    weights = [parameter for _, parameter in parameters]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(weights, weight_decay=config.weight_decay)
    library = import_module("bitsandbytes.optim")
    made: torch.optim.Optimizer = library.AdamW8bit(weights, weight_decay=config.weight_decay)
    return made


def require_optimizer(config: TrainConfig) -> None:
    """Raise `TrainingError` when the optimiser's library is not installed."""
    if config.optimizer == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise TrainingError(
            "the optimizer adamw8bit needs bitsandbytes, which is not installed: run  "
            "pip install bitsandbytes  or take --optimizer adamw."
        )


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Parameters
) -> dict[str, Tensor]:
    """All state as tensors, named `what|parameter`; numbers become tensors of no dimension."""
    tensors = {}
    for name, parameter in parameters:
        for what, value in optimizer.state[parameter].items():
            tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
            # A copy each: moments that share memory are what safetensors refuses.
            tensors[f"{what}{_SEPARATOR}{name}"] = tensor.detach().cpu().contiguous().clone()
    return tensors


def put_back(
    optimizer: torch.optim.Optimizer, parameters: Parameters, tensors: Mapping[str, Tensor]
) -> None:
    """Set the state to what `optimizer_tensors` returned; `TrainingError` when it does not fit."""
    states: dict[str, dict[str, Any]] = {name: {} for name, _ in parameters}
    for key, value in tensors.items():
        what, _, name = key.partition(_SEPARATOR)
        if name not in states:
            raise TrainingError(f"the optimiser's state is of another adapter: it knows {name}.")
        states[name][what] = value
    for name, parameter in parameters:
        # AdamW counts steps on the CPU, in a tensor; bitsandbytes in a number.
        optimizer.state[parameter] = {
            what: value.clone()
            if what == "step" and isinstance(optimizer, torch.optim.AdamW)
            else int(value)
            if what == "step"
            else value.to(parameter.device).clone()
            for what, value in states[name].items()
        }


class RunningMean:
    """Exponential mean of the weights (Polyak averaging); `decay` 0 keeps none.

    Early on the decay is smaller, so that the start is soon forgotten.
    """

    def __init__(self, parameters: Parameters, decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.mean = {name: p.detach().clone() for name, p in parameters} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.parameters if self.mean else ():
            self.mean[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the mean in the model until the block ends; the weights come back exactly."""
        if not self.mean:
            yield
            return
        kept = {name: parameter.data for name, parameter in self.parameters}
        try:
            for name, parameter in self.parameters:
                parameter.data = self.mean[name]
            yield
        finally:
            for name, parameter in self.parameters:
                parameter.data = kept[name]

    def restart(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with a saved mean."""
        if self.mean:
            for name, parameter in self.parameters:
                self.mean[name] = weights[name].to(parameter.device).clone()
