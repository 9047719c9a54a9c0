"""The mix of tasks that a run trains: weights from the settings, and what the denoiser sees.

A task's context (source latents and mask) is built exactly as playing builds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luthier.errors import RequestError
from luthier.music.templates import TASKS

STEM_TASKS = ("extract", "lego", "complete")
_WINDOW = (0.1, 0.9)  # share of a crop that a repaint's window covers


def task_weights(tasks: Sequence[str]) -> dict[str, float]:
    """ "repaint:2" and the like → weight by task; without a number the weight is 1.

    Raises:
        RequestError: an unknown task, or a weight that is none.
    """
    weights: dict[str, float] = {}
    for word in tasks:
        name, _, number = word.partition(":")
        if name not in TASKS:
            raise RequestError(f"tasks names {name!r}: there are {', '.join(TASKS)}.")
        try:
            weights[name] = float(number or 1)
        except ValueError:
            raise RequestError(f"tasks gives {name} the weight {number!r}: a number.") from None
        if not 0 < weights[name] < float("inf"):
            raise RequestError(f"tasks gives {name} the weight {number}: it must be above 0.")
    return weights


def drawn_window(frames: int, generator: torch.Generator) -> tuple[int, int]:
    """First and one-past-last frame of a repaint's window, at random within a crop."""
    share, place = torch.rand(2, generator=generator).tolist()
    low, high = _WINDOW
    length = max(1, round(frames * (low + (high - low) * share)))
    start = int(place * (frames - length + 1))
    return start, start + length


def context_of(source: Tensor, silence: Tensor, window: tuple[int, int] | None) -> Tensor:
    """Source latents and mask (T, 2·C) of one row.

    Args:
        source: (T, C) what the denoiser sees.
        silence: (T, C) what it sees where a repaint is to make music.
        window: of a repaint; None makes music everywhere and shows all of the source.
    """
    mask = torch.ones_like(source)
    if window is not None:
        mask.zero_()
        mask[window[0] : window[1]] = 1.0
        source = torch.where(mask > 0.5, silence, source)
    return torch.cat([source, mask], dim=-1)
