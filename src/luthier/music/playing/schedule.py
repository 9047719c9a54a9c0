"""The times of the denoising steps: from 1 (noise) down to 0 (music), for base and turbo models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

_TURBO_SHIFTS = (1.0, 2.0, 3.0)
_TURBO_MOST = 20  # custom steps
# The times that turbo weights were distilled at: eight-step schedules of shifts 1 to 3, and
# between.
_TURBO_TIMES = (
    *(1.0, 0.954545, 0.933333, 0.9, 0.875, 0.857143, 0.833333, 0.769231, 0.75, 0.666667),
    *(0.642857, 0.625, 0.545455, 0.5, 0.4, 0.375, 0.3, 0.25, 0.222222, 0.125),
)


def step_times(
    steps: int,
    shift: float,
    *,
    is_turbo: bool = False,
    custom: Sequence[float] | None = None,
) -> Times:
    """The time at which each step starts, falling, without the final 0.

    Args:
        steps: how many.
        shift: t = s·u / (1 + (s−1)·u) over even u; above 1 spends more steps near noise.
        is_turbo: snap to what distilled weights know: shift to 1, 2 or 3, custom times to a table.
        custom: own times instead, falling within (0, 1]; a trailing 0 is dropped.
    """
    if custom is not None:
        times = [t for t in custom if t > 0]
        if is_turbo:
            known = [min(_TURBO_TIMES, key=lambda t: abs(t - time)) for time in times[:_TURBO_MOST]]
            times = sorted(set(known), reverse=True)
        return np.array(times, dtype=np.float64)
    if is_turbo:
        shift = min(_TURBO_SHIFTS, key=lambda known: abs(known - shift))
    even = 1.0 - np.arange(steps, dtype=np.float64) / steps
    return shift * even / (1.0 + (shift - 1.0) * even)


def from_source(times: Times, strength: float) -> Times:
    """The steps that are left when a cover starts from its source instead of from noise: from the
    time nearest to 1 − strength on."""
    return times[int(np.argmin(np.abs(times - (1.0 - strength)))) :]
