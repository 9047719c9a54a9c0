"""The learning rate of each step."""

from __future__ import annotations

import math

from luthier.training.config import TrainConfig

_FLOOR = 0.01  # of the peak, at the end


def rate_at(step: int, config: TrainConfig, peak: float) -> float:
    """The learning rate of step `step` (from 0): a linear rise from a tenth, then the schedule."""
    warm_up = min(config.warm_up, config.max_steps // 10)
    if step < warm_up:
        return peak * (0.1 + 0.9 * step / warm_up)
    done = min(1.0, (step - warm_up) / max(1, config.max_steps - warm_up))
    if config.schedule == "linear":
        return peak * (1 - (1 - _FLOOR) * done)
    if config.schedule == "cosine":
        return peak * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))
    return peak
