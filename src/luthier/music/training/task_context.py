"""What the denoiser sees of a task: source latents and mask, exactly as playing builds them."""

from __future__ import annotations

import torch
from torch import Tensor

_WINDOW = (0.1, 0.9)  # share of a crop that a repaint's window covers


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
